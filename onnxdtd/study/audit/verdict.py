"""An audit in words: what the explanations of a preset depend on and what they do not, each with the number behind it."""

from __future__ import annotations

from onnxdtd.study.audit.limits import shows_nothing
from onnxdtd.study.audit.measurement import Entry
from onnxdtd.study.audit.measurements import MEASUREMENTS


def verdict(entry: Entry) -> list[str]:
    """What the numbers of one preset (an entry of ``presets`` in an audit) say, a sentence each."""
    nothing = shows_nothing(entry)
    return [sentence for one in MEASUREMENTS.values() if one.always or not nothing for sentence in one.say(entry)]
