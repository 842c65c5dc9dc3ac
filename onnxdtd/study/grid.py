"""The presets that a search tries: one rule in the lower half of a network, one in the upper, one where pixels go in."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from onnxdtd.compiler.plan import Plan
from onnxdtd.data.forms import Form
from onnxdtd.method.preset import LayerFacts

LOWER = {
    "z+": "z+",
    "z+ else w2": "z+ else w2",
    "gamma(gamma=0.1)": "γ 0.1",
    "gamma(gamma=0.25)": "γ 0.25",
    "gamma(gamma=1)": "γ 1",
    "epsilon": "ε",
    "epsilon(epsilon=0.25)": "ε 0.25",
}  # rules as presets name them, and in words
UPPER = "epsilon"  # or that of the lower half
AFFINE = ("flat", "epsilon")  # of what multiplies each entry: by flat relevance passes, by ε a shift keeps its part
WEIGHTED = ("conv", "dense")  # families of layers that depth is counted in


@dataclass(frozen=True)
class Candidate:
    """A preset: its rules from the input to the scores, zB → γ 0.25 → ε, and the lines of TOML that define it."""

    title: str
    text: str


def grid(plan: Plan, form: Form, sizes: Sequence[int]) -> list[Candidate]:
    """All candidates for a planned model whose samples have these ``sizes``; of those that give each layer the same, one."""
    layers = [step.facts for step in plan.steps if step.facts is not None]
    upper = above_the_middle(layers)
    pixels = _for_pixels(layers, len(form.neighbours(sizes)) == 2)
    found: dict[tuple[str, ...], Candidate] = {}
    for affine, lower, high, first in product(AFFINE, LOWER, (None, UPPER), (pixels, [])):
        chosen = _Choice(affine, lower, high if high != lower else None, first)
        found.setdefault(tuple(chosen.rule(layer, upper) for layer in layers), chosen.candidate(upper))
    return list(found.values())


def above_the_middle(layers: Sequence[LayerFacts]) -> list[str]:
    """The names of the layers in the upper half of a network, counted in those that have weights."""
    places = [i for i, layer in enumerate(layers) if layer.family in WEIGHTED]
    middle = places[-(-len(places) // 2) :]
    return [layer.name for layer in layers[middle[0] :] if not layer.first and layer.family != "affine"] if middle else []


def _for_pixels(layers: Sequence[LayerFacts], picture: bool) -> list[tuple[str, str]]:
    """Entries for first layers, by the domain of pixels; none where a rule by weights alone would give all one heatmap."""
    bounds = any(layer.first and layer.bounds for layer in layers)
    return [("first = true, bounds = true", "zB")] * bounds + [("first = true", "w2")] * picture


@dataclass(frozen=True)
class _Choice:
    """The rules of a candidate; ``upper`` is None where it is the lower one, ``first`` are conditions and rules in front."""

    affine: str
    lower: str
    upper: str | None
    first: Sequence[tuple[str, str]]

    def rule(self, layer: LayerFacts, upper: Sequence[str]) -> str:
        """That of a layer."""
        if layer.family == "affine":
            return self.affine
        own = [rule for condition, rule in self.first if layer.first and (layer.bounds or "bounds" not in condition)]
        return next(iter(own), self.upper if self.upper is not None and layer.name in upper else self.lower)

    def candidate(self, upper: Sequence[str]) -> Candidate:
        """In words and in TOML."""
        rules = [*(rule for _, rule in self.first[:1]), LOWER[self.lower], *([] if self.upper is None else [LOWER[self.upper]])]
        title = " → ".join(rules) + (f" (affine {LOWER[self.affine]})" if self.affine in LOWER else "")
        return Candidate(title, "\n".join(self._lines(title, upper)) + "\n")

    def _lines(self, title: str, upper: Sequence[str]) -> Iterator[str]:
        yield "[preset.tuned]"
        yield f"title = {json.dumps(title, ensure_ascii=False)}"
        yield 'source = "onnxdtd tune"'
        yield "layers = ["
        yield f'  {{ family = "affine", rule = "{self.affine}" }},'
        for condition, rule in self.first:
            yield f'  {{ {condition}, rule = "{rule}" }},'
        for name in upper if self.upper is not None else ():
            yield f'  {{ name = {json.dumps(glob.escape(name), ensure_ascii=False)}, rule = "{self.upper}" }},'
        yield f'  {{ rule = "{self.lower}" }},'
        yield "]"
