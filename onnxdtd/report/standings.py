"""Who is ahead in an evaluation, and what is chance: sentences for the terminal and the page.

Presets are compared sample by sample, since all of them see the same ones; a lead is one where the mean of the paired
differences is more than chance by Student's t at 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnxdtd.report.page import SENSITIVITY, copies
from onnxdtd.study.metrics import METRICS
from onnxdtd.study.tally import RANDOM, apart, side
from onnxdtd.study.words import conjoined, mean_text, number, rightness

Json = Mapping[str, Any]
SHOWN = ("aopc", "abpc")


def standings(model: Json) -> list[str]:
    """What the numbers of one model of an evaluation say."""
    if not model["samples"]:
        return ["Nothing could be measured on it."]
    said = [*_accuracy(model), *copies(model["copies"], model["samples"]), *model.get("remarks", ()), *_empty(model)]
    return said + [sentence for key in SHOWN for sentence in _standing(model, key)]


def _accuracy(model: Json) -> Iterator[str]:
    if model.get("accuracy") is not None:
        yield f"The model is right {rightness(round(model['accuracy'] * model['labelled']), model['labelled'])}"


def _empty(model: Json) -> Iterator[str]:
    """Heatmaps that say nothing: what has no value for them is a mean over the other samples."""
    for preset in model["presets"]:
        empty, n = preset.get("empty"), model["samples"]
        if empty == n:
            yield f"{preset['preset']}: {f'all {n} heatmaps are' if n > 1 else 'the only heatmap is'} zero everywhere."
        elif empty:
            yield (
                f"{preset['preset']}: {empty} of {n} heatmaps {'is' if empty == 1 else 'are'} zero everywhere; in AOPC and "
                "ABPC a zero heatmap counts as a random order, in Gini, positivity and the like not at all."
            )


def _standing(model: Json, key: str) -> Iterator[str]:
    """On one metric: the best preset or those that share the lead, sensitivity, and the random order."""
    found = {p["preset"]: p["metrics"][key] for p in model["presets"] if p["metrics"].get(key, {}).get("mean") is not None}
    if not found:
        return
    ranked = sorted(found, key=lambda name: -found[name]["mean"])
    has = {name: f"{name} ({mean_text(found[name])})" for name in ranked}
    between = lambda a, b: difference(model["differences"], key, a, b)
    yield f"{METRICS[key].title}: {' '.join(_lead(ranked, has, between))}"
    chance = (model.get("random") or {}).get("aopc") if key == "aopc" else {"mean": 0.0, "error": None}
    if chance is not None:
        against = {name: between(name, RANDOM) if key == "aopc" else found[name] for name in ranked}
        yield f"{METRICS[key].title} of a random order: {_chance(against, chance)}"


def _lead(ranked: Sequence[str], has: Mapping[str, str], between: Any) -> Iterator[str]:
    """Who leads, and by how much."""
    first = ranked[0]
    if len(ranked) == 1:
        yield f"{has[first]}."
        return
    level = [name for name in ranked[1:] if not apart(between(first, name))]
    if level:
        unknown = apart(between(first, level[0])) is None
        why = "one sample tells nothing apart" if unknown else "paired differences do not tell them apart"
        yield f"no single best; {conjoined([has[name] for name in (first, *level)])}: {why}."
    else:
        yield f"{has[first]} is best, {mean_text(between(first, ranked[1]))} ahead of {has[ranked[1]]} in paired differences."
    if SENSITIVITY in ranked[1:] and SENSITIVITY not in level and (level or ranked[1] != SENSITIVITY):
        yield f"{has[SENSITIVITY]} is {mean_text(between(first, SENSITIVITY))} behind {first}."


def _chance(against: Mapping[str, Json], chance: Json) -> str:
    """Which presets are better than a random order, no better, or worse."""
    words = {"better": (1,), "worse": (-1,), "not told from it": (0, None)}
    groups = {word: [name for name, pair in against.items() if side(pair) in sides] for word, sides in words.items()}
    parts = [f"{word}: {', '.join(names)}" for word, names in groups.items() if names]
    return f"{mean_text(chance) if chance['error'] is not None else number(chance['mean'])}; {'; '.join(parts)}."


def difference(differences: Sequence[Json], key: str, a: str, b: str) -> Json:
    """The paired difference of ``a`` less ``b`` in a metric: mean, error, n."""
    for found in differences:
        if found["metric"] == key and {found["preset"], found["other"]} == {a, b}:
            return {**found, "mean": found["mean"] if found["preset"] == a else -found["mean"]}
    raise KeyError((key, a, b))
