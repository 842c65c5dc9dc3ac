"""Scripts are compared with command lines."""

from terminal import run as run
