"""Rules and presets from TOML files: ours in ``rules/``, and a user's own. Every mistake names the file and the entry."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd.errors import RequestError, RuleError
from onnxdtd.linear import FAMILIES, LINEAR
from onnxdtd.rules import BIASES, INPUTS, WEIGHTS, Branch, Rule, Term

DERIVATIVES = ("g", "x g", "g g")
RULE_KEYS = {"equation", "domain", "source", "params", "epsilon", "divide", "terms", "direction", "bias", "branches"}

# The search direction v = x · condition gives the term x · weight, since q = v w.
CONDITIONS = {"": "w", "w>0": "w+", "w<0": "w-", "w": "w2", "1/w": "1"}


@dataclass(frozen=True)
class LayerFacts:
    """What a selector can ask about a layer."""

    name: str
    op: str
    family: str
    first: bool
    bounds: bool


@dataclass(frozen=True)
class Selector:
    """An entry of a preset: conditions, all of which must hold, and the rule for the layers where they do."""

    rule: Rule
    where: str  # file and entry, for messages
    first: bool = False
    bounds: bool = False
    family: tuple[str, ...] = ()
    op: tuple[str, ...] = ()
    name: str = ""

    def matches(self, layer: LayerFacts) -> bool:
        """Do all conditions hold?"""
        return (
            (layer.first or not self.first)
            and (layer.bounds or not self.bounds)
            and (not self.family or layer.family in self.family)
            and (not self.op or layer.op in self.op)
            and (not self.name or fnmatchcase(layer.name, self.name))
        )


@dataclass(frozen=True)
class Preset:
    """An assignment of rules to layers: the first selector that matches decides."""

    name: str
    selectors: tuple[Selector, ...]
    title: str = ""
    source: str = ""
    derivative: str | None = None  # one of DERIVATIVES: the gradient g of the logit, and what is made of it

    def rule(self, layer: LayerFacts) -> Rule:
        """The rule for a layer. Raises ``RuleError`` where no selector matches."""
        for selector in self.selectors:
            if selector.matches(layer):
                if selector.rule.needs_bounds and not layer.bounds:
                    raise RequestError(
                        f"the rule {selector.rule.name} at {layer.name!r} ({selector.where}) needs the bounds of the input: "
                        + ("give --low and --high" if layer.first else "only the first layer has them")
                    )
                return selector.rule
        raise RuleError(f"preset {self.name}: no entry matches the layer {layer.name!r} ({layer.op})")

    def check_used(self, layers: Sequence[LayerFacts]) -> None:
        """Raise ``RuleError`` for a selector by name or operator that fits none of ``layers``."""
        for selector in self.selectors:
            if (selector.name or selector.op) and not any(selector.matches(layer) for layer in layers):
                names = ", ".join(repr(layer.name) for layer in layers[:5])
                raise RuleError(f"{selector.where}: matches no layer of this model; its layers are {names}, ...")


class Library:
    """All rules and presets: those that come with onnxdtd, and those of a user's file."""

    def __init__(self) -> None:
        self.rules: dict[str, Callable[[Mapping[str, float]], Rule]] = {}
        self.presets: dict[str, Preset] = {}
        for file in ("rules.toml", "presets.toml"):
            self.load(data_folder() / file)

    def load(self, path: Path) -> list[str]:
        """Add the rules and presets of a TOML file; returns the names of its presets."""
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RuleError(f"{path}: cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RuleError(f"{path}: not a TOML file ({error})") from None
        _only(tables, {"rule", "preset"}, str(path))
        for name, table in _tables(tables, "rule", path):
            where = f"{path}, [rule.{name}]"
            if name in self.rules:
                raise RuleError(f"{where}: there is a rule of this name already")
            self.rules[name] = _rule_factory(name, table, where)
        for name, table in _tables(tables, "preset", path):
            where = f"{path}, [preset.{name}]"
            if name in self.presets:
                raise RuleError(f"{where}: there is a preset of this name already")
            self.presets[name] = self._preset(name, table, where)
        return list(tables.get("preset", {}))

    def rule(self, reference: str, where: str = "") -> Rule:
        """A rule by ``name`` or ``name(parameter=value, ...)``."""
        prefix = f"{where}: " if where else ""
        match = re.fullmatch(r"\s*([^()\s]+)\s*(?:\((.*)\))?\s*", reference)
        if not match or match[1] not in self.rules:
            raise RuleError(f"{prefix}no rule {reference!r}; there are {', '.join(self.rules)}")
        params = {}
        for part in filter(str.strip, (match[2] or "").split(",")):
            name, _, value = part.partition("=")
            try:
                params[name.strip()] = float(value)
            except ValueError:
                raise RuleError(f"{prefix}{reference!r}: write parameters as name=number") from None
        try:
            return self.rules[match[1]](params)
        except RuleError as error:
            raise RuleError(f"{prefix}{error}") from None

    def preset(self, reference: str) -> Preset:
        """A preset by name, or that of a TOML file: ``FILE.toml``, or ``FILE.toml:NAME`` where it has several."""
        if reference in self.presets:
            return self.presets[reference]
        file, _, name = reference.partition(".toml:")
        path = Path(file + ".toml") if name else Path(reference)
        if path.suffix != ".toml":
            raise RuleError(f"no preset {reference!r}; there are {', '.join(self.presets)}, or name a .toml file")
        names = self.load(path)
        if name and name not in names:
            raise RuleError(f"{path}: no preset {name!r} in it; it has {', '.join(names) or 'none'}")
        if not name and len(names) != 1:
            has = f"{len(names)} presets ({', '.join(names)})" if names else "no preset"
            raise RuleError(f"{path}: has {has}; choose one as {path}:NAME" if names else f"{path}: has {has}")
        return self.presets[name or names[0]]

    def overridden(self, preset: Preset, settings: Sequence[str]) -> Preset:
        """``preset`` with entries ``NODE-GLOB=RULE`` in front, the last of them first."""
        selectors = []
        for setting in settings:
            glob, sign, reference = setting.partition("=")
            if not sign or not glob or not reference:
                raise RuleError(f"--set {setting!r}: write NODE-GLOB=RULE, for example 'conv1=gamma(gamma=0.1)'")
            selectors.append(Selector(self.rule(reference, f"--set {setting}"), f"--set {setting}", name=glob))
        return replace(preset, selectors=(*selectors[::-1], *preset.selectors))

    def _preset(self, name: str, table: Mapping[str, Any], where: str) -> Preset:
        _only(table, {"title", "source", "layers", "derivative"}, where)
        for key in ("title", "source"):
            _text(table, key, where)
        derivative = table.get("derivative")
        if derivative not in (None, *DERIVATIVES):
            raise RuleError(f"{where}: derivative is one of {', '.join(DERIVATIVES)}, not {derivative!r}")
        entries = table.get("layers")
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise RuleError(f"{where}: needs layers = [{{ rule = ... }}, ...]")
        selectors = [self._selector(entry, f"{where}, entry {i}") for i, entry in enumerate(entries, 1)]
        return Preset(name, tuple(selectors), table.get("title", ""), table.get("source", ""), derivative)

    def _selector(self, entry: Mapping[str, Any], where: str) -> Selector:
        _only(entry, {"first", "bounds", "family", "op", "name", "rule"}, where)
        if not isinstance(entry.get("rule"), str):
            raise RuleError(f"{where}: needs a rule")
        for flag in ("first", "bounds"):
            if not isinstance(entry.get(flag, False), bool):
                raise RuleError(f"{where}: {flag} is true or false")
        lists = {key: _strings(entry, key, where) for key in ("family", "op")}
        for key, known in (("family", FAMILIES), ("op", tuple(LINEAR))):
            for value in lists[key]:
                if value not in known:
                    raise RuleError(f"{where}: no layer has {key} {value!r}; there are {', '.join(known)}")
        rule = self.rule(entry["rule"], where)
        first, bounds, name = entry.get("first", False), entry.get("bounds", False), _text(entry, "name", where)
        return Selector(rule, where, first, bounds, lists["family"], lists["op"], name)


def definitions(presets: Iterable[str]) -> dict[str, str]:
    """The digests of the files among ``presets``: what is in them may change while their names do not."""
    paths = {Path(preset.partition(".toml")[0] + ".toml") for preset in presets if ".toml" in preset}
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths) if path.is_file()}


def data_folder() -> Path:
    """Where the rule files are: inside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    return next(folder for folder in (here / "rules", here.parent / "rules") if (folder / "rules.toml").is_file())


def _only(table: Mapping[str, Any], keys: set[str], where: str) -> None:
    unknown = sorted(set(table) - keys)
    if unknown:
        raise RuleError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(sorted(keys))}")


def _tables(tables: Mapping[str, Any], kind: str, path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    group = tables.get(kind, {})
    if not isinstance(group, dict) or not all(isinstance(table, dict) for table in group.values()):
        raise RuleError(f"{path}: write [{kind}.NAME] tables")
    return list(group.items())


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise RuleError(f"{where}: {key} is a string, not {value!r}")
    return value


def _strings(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = entry.get(key, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise RuleError(f"{where}: {key} is a string or a list of strings")
    return tuple(values)


def _rule_factory(name: str, table: Mapping[str, Any], where: str) -> Callable[[Mapping[str, float]], Rule]:
    """A function from parameters to the rule that a table describes, tried once with the defaults so that errors show early."""
    _only(table, RULE_KEYS, where)
    defaults = table.get("params", {})
    if not isinstance(defaults, dict) or not all(isinstance(v, int | float) for v in defaults.values()):
        raise RuleError(f"{where}: params maps names to numbers")
    if "branches" in table and set(table) & {"terms", "direction", "bias"}:
        raise RuleError(f"{where}: has branches, so terms, direction and bias belong into them")
    branches = table.get("branches") or [{key: table[key] for key in ("terms", "direction", "bias") if key in table}]
    if not isinstance(branches, list) or not all(isinstance(branch, dict) for branch in branches):
        raise RuleError(f"{where}: branches is a list of tables")

    def make(given: Mapping[str, float]) -> Rule:
        unknown = sorted(set(given) - set(defaults))
        if unknown:
            raise RuleError(f"{name} has no parameter {unknown[0]!r}; it has {', '.join(defaults) or 'none'}")
        params = {key: float(value) for key, value in {**defaults, **given}.items()}
        if not all(np.isfinite(value) and value >= 0 for value in params.values()):
            raise RuleError(f"{name}: parameters are finite and not negative")
        made = tuple(_branch(branch, params, where) for branch in branches)
        for when in {branch.when for branch in made}:
            total = sum(branch.scale for branch in made if branch.when == when)
            if abs(total - 1) > 1e-9:
                scales = " + ".join(str(b.get("scale", 1)) for b in branches).replace("+ -", "- ")
                raise RuleError(f"{name}: {scales} must be 1, not {total:g}, or relevance would not be conserved")
        epsilon = _number(table.get("epsilon", 0.0), params, where)
        if epsilon < 0:
            raise RuleError(f"{where}: epsilon is not negative")
        divided = table.get("divide", True)
        if not isinstance(divided, bool):
            raise RuleError(f"{where}: divide is true or false")
        words = {key: _text(table, key, where) for key in ("equation", "domain", "source")}
        return Rule(name, made, params, epsilon, divided, **words)

    try:
        make({})
    except RuleError as error:
        raise RuleError(str(error) if where in str(error) else f"{where}: {error}") from None
    return make


def _number(value: Any, params: Mapping[str, float], where: str) -> float:
    """A number, or the name of a parameter with an optional minus."""
    if isinstance(value, int | float):
        return float(value)
    name = str(value).lstrip("-").strip()
    if name not in params:
        raise RuleError(f"{where}: {value!r} is neither a number nor a parameter ({', '.join(params) or 'none'})")
    return -params[name] if str(value).startswith("-") else params[name]


def _branch(table: Mapping[str, Any], params: Mapping[str, float], where: str) -> Branch:
    _only(table, {"terms", "direction", "bias", "scale", "when"}, where)
    if ("terms" in table) == ("direction" in table):
        raise RuleError(f"{where}: needs either terms or direction")
    weights = {weight: weight for weight in WEIGHTS} if "terms" in table else CONDITIONS
    parts = _strings(table, "terms" if "terms" in table else "direction", where)
    if not parts:
        raise RuleError(f"{where}: has no terms")
    terms = tuple(_term(part, weights, params, where) for part in parts)
    for key, allowed in (("bias", BIASES), ("when", ("y>0", "y<0"))):
        if table.get(key) not in (None, *allowed):
            raise RuleError(f"{where}: {key} is one of {', '.join(allowed)}, not {table[key]!r}")
    _needs_gamma(table.get("bias") or "", params, where)
    return Branch(terms, _number(table.get("scale", 1.0), params, where), table.get("bias"), table.get("when"))


def _needs_gamma(text: str, params: Mapping[str, float], where: str) -> None:
    if "~" in text and "gamma" not in params:
        raise RuleError(f"{where}: {text!r} needs a parameter gamma")


def _term(text: str, weights: Mapping[str, str], params: Mapping[str, float], where: str) -> Term:
    sign, body = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    x, _, w = body.strip().partition(" ")
    if x not in INPUTS or w.strip() not in weights:
        options = f"an input ({', '.join(INPUTS)}) and {', '.join(filter(None, weights))}"
        raise RuleError(f"{where}: cannot read {text!r}; write {options}")
    _needs_gamma(text, params, where)
    return Term(sign, x, weights[w.strip()])
