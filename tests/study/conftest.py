"""A small model and what is compiled of it, for the tests of verify."""

from verifying import compiled as compiled
from verifying import source as source
