"""The words of one picture with several explanations of a sample: above and below it, and above each heatmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from onnxdtd.data.look import Caption
from onnxdtd.study.results import Result
from onnxdtd.study.words import amount

MOST_NOTES = 4
MORE = "there is more to know of these heatmaps: results.json says what"


def ways(results: Sequence[Result], brief: Callable[[str], str]) -> list[str]:
    """What each of them has and others have not: its preset, its class, of which ``brief`` makes one name."""
    several = [len({getattr(result, name) for result in results}) > 1 for name in ("preset", "target_label")]
    told = [(result.preset, brief(result.target_label)) for result in results]
    return [", ".join(word for word, differs in zip(words, several, strict=True) if differs) for words in told]


def headings(results: Sequence[Result], captions: Sequence[Caption], brief: Callable[[str], str]) -> list[str]:
    """Above each heatmap its way, with Σ relevance and the logit; the heatmaps of its concepts follow."""
    found = []
    for way, result, caption in zip(ways(results, brief), results, captions, strict=True):
        logit = "" if result.logit is None else f" of {amount(result.logit, 3)}"
        found.append(f"{way}\nΣ {amount(result.relevance_sum, 3)}{logit}")
        found += [f"{way}\n{panel}" for panel in caption.concepts]
    return found


def caption(
    results: Sequence[Result], captions: Sequence[Caption], brief: Callable[[str], str] = str, score: str = "logit"
) -> Caption:
    """The words of all: those of a single one as they are. ``score`` is what the explained number is called."""
    if len(results) == 1:
        return captions[0]
    first = results[0]
    title = captions[0].title
    if len({result.target for result in results}) > 1:
        title = f"{first.name}: {brief(first.predicted_label) or 'no prediction'}{first.standing}"
    presets = list(dict.fromkeys(result.preset for result in results))
    subtitle = f"{presets[0]}   " * (len(presets) == 1) + "above each: Σ relevance"
    subtitle += f", of the {score}" * any(result.logit is not None for result in results)
    said: dict[str, list[str]] = {}
    for way, result in zip(ways(results, brief), results, strict=True):
        for flag in result.flags:
            said.setdefault(flag.text, []).append(way)
    notes = [text if len(who) == len(results) else f"{'; '.join(who)}: {text}" for text, who in said.items()]
    if len(notes) > MOST_NOTES:
        notes[MOST_NOTES - 1 :] = [MORE]
    heading, *concepts = headings(results, captions, brief)
    return replace(captions[0], title=title, subtitle=subtitle, notes=tuple(notes), heading=heading, concepts=tuple(concepts))
