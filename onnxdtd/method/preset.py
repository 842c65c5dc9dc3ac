"""Presets as data: which rule on which layer, and which method at all else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnxdtd.errors import RequestError, RuleError, suggestion
from onnxdtd.method.method import Method
from onnxdtd.method.rule import Rule


@dataclass(frozen=True)
class LayerFacts:
    """What a selector can ask about a layer."""

    name: str
    op: str
    family: str
    first: bool
    bounds: bool


# The relevance models that an entry may ask for: trained to tell the relevance R of a layer from its inputs and the relevance
# above, R̂ = Σ y (Montavon et al. 2017, section 5.1). What is shared out is y, or y R / R̂, which conserves.
FITS = ("min-max", "min-max scaled")


@dataclass(frozen=True)
class Selector:
    """An entry of a preset: conditions, all of which must hold, and the rule for the layers where they do; ``fit`` is one of
    ``FITS`` where it is a relevance model of the layer that the rule is applied to, and not the layer itself.
    """

    rule: Rule
    where: str  # file and entry, for messages
    first: bool = False
    bounds: bool = False
    family: tuple[str, ...] = ()
    op: tuple[str, ...] = ()
    name: str = ""
    asked: bool = False  # for this very model, by --set
    fit: str = ""

    def matches(self, layer: LayerFacts) -> bool:
        """Do all conditions hold?"""
        return (
            (layer.first or not self.first)
            and (layer.bounds or not self.bounds)
            and (not self.family or layer.family in self.family)
            and (not self.op or layer.op in self.op)
            and (not self.name or layer.name == self.name or fnmatchcase(layer.name, self.name))
        )

    def covers(self, other: Selector) -> bool:
        """Does it match every layer that ``other`` matches, in any model?"""
        lists = [(self.family, other.family), (self.op, other.op)]
        return (
            (other.first or not self.first)
            and (other.bounds or not self.bounds)
            and all(not mine or (bool(theirs) and set(theirs) <= set(mine)) for mine, theirs in lists)
            and (not self.name or self.name == other.name)
        )


@dataclass(frozen=True)
class Preset:
    """An assignment of rules to layers, where the first selector that matches decides, and the method for all else."""

    name: str
    selectors: tuple[Selector, ...]
    method: Method
    title: str = ""
    source: str = ""

    @property
    def compares(self) -> bool:
        """Does it need another input to compare with?"""
        return self.method.compares

    def rule(self, layer: LayerFacts) -> Rule:
        """The rule for a layer. Raises ``RuleError`` where no selector matches."""
        return self.choice(layer).rule

    def choice(self, layer: LayerFacts) -> Selector:
        """The first selector that matches a layer. Raises ``RuleError`` where none does."""
        for selector in self.selectors:
            if selector.matches(layer):
                if selector.rule.needs_bounds and not layer.bounds:
                    raise RequestError(
                        f"the rule {selector.rule.name} at {layer.name!r} ({selector.where}) needs the bounds of the input: "
                        + ("give --low and --high" if layer.first else "only the first layer has them; choose another rule")
                    )
                return selector
        raise RuleError(
            f"preset {self.name}: no entry matches the layer {layer.name!r} ({layer.op}); "
            "write an entry without conditions, { rule = ... }, as its last"
        )

    def unused(self, layers: Sequence[LayerFacts]) -> list[str]:
        """The entries by name or operator that decide on none of ``layers``, in words.

        Raises ``RuleError`` for a ``--set`` that matches none: unlike a file it was said about this very model.
        """
        deciding = {next(i for i, selector in enumerate(self.selectors) if selector.matches(layer)) for layer in layers}
        names, idle = [layer.name for layer in layers], []
        for i, selector in enumerate(self.selectors):
            if i in deciding or not (selector.name or selector.op):
                continue
            if any(selector.matches(layer) for layer in layers):
                idle.append(f"{selector.where}: decides on no layer of this model, since others that match come first")
            elif selector.asked:
                listed = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
                close = suggestion(selector.name, names) or f"; its layers are {listed}"
                raise RuleError(f"{selector.where}: matches no layer of this model{close}")
            else:
                idle.append(f"{selector.where}: matches no layer of this model")
        return idle
