"""Every test here may run command lines."""

from terminal import run as run
