"""Which preset fares best on a model, if one does: it must depend on the model, and the score must hang on what it shows.

Neither is enough alone. Noise depends on every weight and explains nothing, and an order of pixels that lowers the score may be
the same for every class. So only presets are in question that are better than a random order; among them, one must be first or
level with the first in dependence, AOPC and ABPC alike. Level is what paired differences do not tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxdtd.study.audit.limits import EQUAL, INDEPENDENT, LITTLE, NOISE, NOISY
from onnxdtd.study.audit.measurement import Entry
from onnxdtd.study.audit.order import beats_chance
from onnxdtd.study.audit.randomise import upper
from onnxdtd.study.measures import ARROWS, LOWEST
from onnxdtd.study.metrics import METRICS
from onnxdtd.study.tally import told
from onnxdtd.study.words import conjoined, number

CONTESTS = {"blindness": min, "aopc": max, "abpc": max}  # in each: how the first is found
BLIND_TO = {"classes": "the class", "upper": "upper layers"}


def best(entries: Sequence[Entry], differences: Sequence[Entry], blind_to: Sequence[str]) -> dict[str, Any]:
    """``preset``, the one that fares best, or None; ``tied``, where several do; and ``why``, a list of sentences. ``blind_to``
    says what the blindness of the presets is about: "classes", "upper".
    """
    if len(entries) < 2:
        return _none("One preset was measured, and there is nothing to compare it with.")
    if all(beats_chance(entry) is None for entry in entries):
        return _none("Whether any preset is better than a random order is not known for these samples.")
    left = [entry for entry in entries if beats_chance(entry) and not _one_picture(entry)]
    out = _out(entries, left)
    if not left:
        return _none(*out)
    means = {name: {e["preset"]: e["means"][name]["mean"] for e in left if name in e["means"]} for name in CONTESTS}
    if len(means["blindness"]) < len(left):
        return _none("How much presets depend on class and upper layers was not measured for all in the running.", *out)
    pairs = told(differences)
    level = {name: _level(name, values, pairs) for name, values in means.items()}
    winners = [entry for entry in left if all(entry["preset"] in tied for tied in level.values())]
    names = [entry["preset"] for entry in winners]
    blindness = f"blindness to {conjoined([BLIND_TO[part] for part in blind_to])}{ARROWS[LOWEST]}"
    titles = {"blindness": blindness, "aopc": METRICS["aopc"].head, "abpc": METRICS["abpc"].head}
    places = {titles[name]: ", ".join(_numbers(means[name], tied)) for name, tied in level.items()}
    first = [
        f"Better than a random order in AOPC and ABPC: {conjoined([entry['preset'] for entry in left])}.",
        *(f"First of these in {title}, or level with the first: {who}." for title, who in places.items()),
    ]
    if len(left) == 1:
        first = [f"It is the only preset in the running ({'; '.join(f'{title}: {who}' for title, who in places.items())})."]
    if not winners:
        return _none("No preset is first or level with the first in everything.", *first, *out)
    why = [*first, *out, *filter(None, (_remark(entry, entries) for entry in winners))]
    if len(winners) > 1:
        return {"preset": None, "tied": names, "why": [f"Paired differences do not tell {conjoined(names)} apart.", *why]}
    return {"preset": names[0], "tied": [], "why": why}


def standing(found: Mapping[str, Any]) -> tuple[str, list[str]]:
    """A headline for what ``best`` found, and why."""
    if found["preset"]:
        return f"{found['preset']} fares best.", found["why"]
    return (f"No single winner: {conjoined(found['tied'])} are level." if found["tied"] else "No winner."), found["why"]


def _none(*why: str) -> dict[str, Any]:
    return {"preset": None, "tied": [], "why": list(why)}


def _level(name: str, values: Mapping[str, float], pairs: Mapping[Any, bool | None]) -> list[str]:
    """The first in a contest and all who are not told from it."""
    first = CONTESTS[name](values, key=lambda preset: values[preset])
    return [preset for preset in values if preset == first or not pairs.get((name, frozenset((first, preset))))]


def _numbers(values: Mapping[str, float], presets: Sequence[str]) -> list[str]:
    return [f"{preset} ({number(values[preset])})" for preset in presets]


def _one_picture(entry: Entry) -> bool:
    """Does it show the same for every input, though the inputs differ?"""
    found = entry["input_dependence"]
    return found.get("cosine") is not None and found["cosine"] >= INDEPENDENT > found["samples"]


def _out(entries: Sequence[Entry], left: Sequence[Entry]) -> list[str]:
    """Who is not, and why."""
    same = [entry["preset"] for entry in entries if _one_picture(entry)]
    level = [entry["preset"] for entry in entries if entry not in left and entry["preset"] not in same]
    parts = {"not better than a random order in both AOPC and ABPC": level, "the same for every input": same}
    said = "; ".join(f"{', '.join(presets)} ({reason})" for reason, presets in parts.items() if presets)
    return [f"Out of the running: {said}."] if said else []


def _remark(entry: Entry, entries: Sequence[Entry]) -> str:
    """What to know of a preset that is ahead."""
    name, said, row = entry["preset"], [], upper(entry["cascading"])
    if entry["means"]["blindness"]["mean"] >= LITTLE:
        said.append("even so it depends little on what it could be blind to")
    if row is not None and row["spearman"] is not None and row["spearman"] < NOISE:
        said.append(f"that little of it is left with new upper layers is no merit alone, {NOISY}")
    if not entry["rules"]:
        said.append("as a derivative it shows where the score reacts, not what it is made of")
    close = {other: found["cosine"] for other, found in entry["similarity"].items()}
    close |= {other["preset"]: other["similarity"][name]["cosine"] for other in entries if name in other["similarity"]}
    same = [other for other, value in close.items() if (value or 0.0) > EQUAL]
    said += [f"it equals {conjoined(same)} on these samples"] if same else []
    return f"{name}: {'; '.join(said)}." if said else ""
