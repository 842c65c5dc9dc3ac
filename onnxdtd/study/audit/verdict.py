"""An audit in words: what the explanations of a preset depend on and what they do not, each with the number behind it."""

from __future__ import annotations

from typing import NamedTuple

from onnxdtd.study.audit.limits import shows_nothing
from onnxdtd.study.audit.measurement import Entry
from onnxdtd.study.audit.measurements import MEASUREMENTS


def verdict(entry: Entry) -> list[str]:
    """What the numbers of one preset (an entry of ``presets`` in an audit) say, a sentence each."""
    nothing = shows_nothing(entry)
    return [sentence for one in MEASUREMENTS.values() if one.always or not nothing for sentence in one.say(entry)]


class Parted(NamedTuple):
    """What a sentence is about, what was found, and the numbers behind that, if they come apart."""

    topic: str
    finding: str
    numbers: str


def parted(sentence: str) -> Parted:
    """A sentence of a verdict in its parts.

    >>> parted("Class: depends on it; heatmaps of other classes differ.")
    Parted(topic='Class', finding='depends on it', numbers='heatmaps of other classes differ.')
    >>> parted("Stability: left out, since no noise on ids is small.")
    Parted(topic='Stability', finding='', numbers='left out, since no noise on ids is small.')
    """
    topic, _, rest = sentence.partition(": ")
    finding, apart, numbers = rest.partition("; ")
    return Parted(topic, finding if apart else "", numbers if apart else rest)
