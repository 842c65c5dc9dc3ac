"""Methods, rules and presets from TOML files: ours in ``rules/``, and a user's. Every mistake names the file and the entry."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, reduce
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from onnxdtd import bounded
from onnxdtd.errors import RuleError, instead
from onnxdtd.method.folder import data_folder as data_folder
from onnxdtd.method.method import FINISHES, HERE, KINDS, MOST_STEPS, POINTS, SEEDS, TREATMENTS, Method
from onnxdtd.method.preset import FITS, Preset, Selector
from onnxdtd.method.rule import Branch, Rule, Term
from onnxdtd.method.terms import BIASES, CONDITIONS, INPUTS, WEIGHTS
from onnxdtd.operators.layer import FAMILIES
from onnxdtd.operators.table import OPERATORS

DEFAULT_METHOD = "lrp"
DEFAULTS = ("dtd", "lrp-epsilon")  # the first that looks at the values of the inputs; the second always does
SIDES = ("y>0", "y<0")
NUMBERS = (1e-30, 1e30)  # between them, and at 0, a parameter and its reciprocal are numbers in float32
MOST_BYTES = 2**16  # for dotted keys without end the parser takes the square of their length
MOST_BITS = 10_000  # of an integer; longer ones cannot even be shown
RULE_KEYS = {"equation", "domain", "source", "params", "epsilon", "divide", "terms", "direction", "bias", "branches"}


T = TypeVar("T")
Read: TypeAlias = Callable[[str, Mapping[str, Any], str], T]  # of a table, given its name and where it is


class Library:
    """All methods, rules and presets: those that come with onnxdtd, and those of a user's file."""

    def __init__(self) -> None:
        methods, rules, presets = shipped()
        self.methods, self.rules, self.presets = dict(methods), dict(rules), dict(presets)

    def load(self, path: Path) -> list[str]:
        """Add the methods, rules and presets of a TOML file; returns the names of its presets."""
        try:
            tables = tomllib.loads(bounded.text(path, MOST_BYTES))
        except OSError as error:
            raise RuleError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
            raise RuleError(f"{path}: not a TOML file ({error})") from None
        if any(isinstance(value, int) and value.bit_length() > MOST_BITS for value in _leaves(tables)):
            raise RuleError(f"{path}: has an integer of more than {MOST_BITS} bits")
        _only(tables, {"method", "rule", "preset"}, str(path))
        self._enter("method", self.methods, _method, tables, path)
        self._enter("rule", self.rules, _rule_factory, tables, path)
        self._enter("preset", self.presets, self._preset, tables, path)
        return list(tables.get("preset", {}))

    def _enter(self, kind: str, known: dict[str, T], read: Read[T], tables: Mapping[str, Any], path: Path) -> None:
        """Add the tables of one kind."""
        for name, table in _tables(tables, kind, path):
            where = f"{path}, [{kind}.{name}]"
            if name in known:
                raise RuleError(f"{where}: there is a {kind} of this name already")
            known[name] = read(name, table, where)

    def rule(self, reference: str, where: str = "") -> Rule:
        """A rule by ``name`` or ``name(parameter=value, ...)``, or several, joined by ``else``."""
        prefix = f"{where}: " if where else ""
        rules = [self._rule(part, prefix) for part in re.split(r"\s+else\s+", reference)]
        _check_chain(rules, f"{prefix}{reference!r}")
        return reduce(lambda behind, rule: replace(rule, fallback=behind), rules[::-1])

    def _rule(self, reference: str, prefix: str) -> Rule:
        """A single one."""
        match = re.fullmatch(r"\s*([^()\s]+)\s*(?:\((.*)\))?\s*", reference)
        if not match or match[1] not in self.rules:
            raise RuleError(f"{prefix}no rule {reference!r}{instead(match[1] if match else reference, self.rules)}")
        params = {}
        for part in filter(str.strip, (match[2] or "").split(",")):
            name, _, value = map(str.strip, part.partition("="))
            if name in params:
                raise RuleError(f"{prefix}{reference!r}: has {name} twice")
            try:
                params[name] = float(value)
            except ValueError:
                raise RuleError(f"{prefix}{reference!r}: write parameters as name=number") from None
        try:
            return self.rules[match[1]](params)
        except RuleError as error:
            raise RuleError(f"{prefix}{error}") from None

    def preset(self, reference: str) -> Preset:
        """A preset by name, or that of a TOML file: ``FILE.toml``, or ``FILE.toml:NAME`` where it has several; with other steps
        where it takes any, ``NAME(steps=NUMBER)``.
        """
        name, sign, steps = reference.removesuffix(")").partition("(steps=")
        if not sign or not reference.endswith(")"):
            return self._named(reference)
        preset, number = self._named(name), int(steps) if re.fullmatch("[0-9]{1,9}", steps) else steps
        return replace(preset, name=reference, method=_stepped(preset.method, number, f"preset {reference!r}"))

    def _named(self, reference: str) -> Preset:
        if reference in self.presets:
            return self.presets[reference]
        file, _, name = reference.partition(".toml:")
        path = Path(file + ".toml") if name else Path(reference)
        if path.suffix != ".toml":
            raise RuleError(f"no preset {reference!r}{instead(reference, self.presets)} (or name a .toml file)")
        names = self.load(path)
        if name and name not in names:
            raise RuleError(f"{path}: no preset {name!r} in it{instead(name, names)}")
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
            rule = self.rule(reference, f"--set {setting}")
            selectors.append(Selector(rule, f"--set {setting}", name=glob, asked=True))
        _check_division(preset.method, selectors, f"the preset {preset.name}")
        return replace(preset, selectors=(*selectors[::-1], *preset.selectors))

    def _preset(self, name: str, table: Mapping[str, Any], where: str) -> Preset:
        if "derivative" in table:
            raise RuleError(f'{where}: instead of derivative write method = "gradient" and finish = "{table["derivative"]}"')
        _only(table, {"title", "source", "layers", "method", "finish", "point", "steps", "treatments"}, where)
        for key in ("title", "source"):
            _text(table, key, where)
        named = table.get("method", DEFAULT_METHOD)
        if named not in self.methods:
            raise RuleError(f"{where}: no method {named!r}{instead(str(named), self.methods)}")
        method = _overridden(self.methods[named], table, where)
        entries = table.get("layers")
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise RuleError(f"{where}: needs layers = [{{ rule = ... }}, ...]")
        selectors = [self._selector(entry, method.ruled, f"{where}, entry {i}") for i, entry in enumerate(entries, 1)]
        _check_division(method, selectors, "the preset")
        for i, selector in enumerate(selectors):
            for above in selectors[:i]:
                if above.covers(selector):
                    number = above.where.rpartition(" ")[2]
                    raise RuleError(
                        f"{selector.where}: is never reached, since entry {number} takes every layer that it matches"
                    )
        return Preset(name, tuple(selectors), method, table.get("title", ""), table.get("source", ""))

    def _selector(self, entry: Mapping[str, Any], known: Sequence[str], where: str) -> Selector:
        _only(entry, {"first", "bounds", "family", "op", "name", "rule", "fit"}, where)
        if not isinstance(entry.get("rule"), str):
            raise RuleError(f"{where}: needs a rule")
        for flag in ("first", "bounds"):
            if entry.get(flag, True) is not True:
                raise RuleError(f"{where}: {flag} is true or left out, not {entry[flag]!r}")
        if "bounds" in entry and "first" not in entry:
            raise RuleError(f"{where}: bounds = true needs first = true, since only first layers have bounds")
        lists = {key: _strings(entry, key, where) for key in ("family", "op")}
        name = _text(entry, "name", where)
        for key, value in {**lists, "name": name}.items():
            if key in entry and not value:
                raise RuleError(f"{where}: {key} is empty, which fits no layer; leave it out for every layer")
        for key, words in (("family", FAMILIES), ("op", known)):
            for value in lists[key]:
                if value not in words:
                    raise RuleError(f"{where}: no layer has {key} {value!r}{instead(value, words)}")
        rule, fit = self.rule(entry["rule"], where), _text(entry, "fit", where)
        if "fit" in entry and fit not in FITS:
            raise RuleError(f"{where}: fit is one of {', '.join(FITS)}, not {fit!r}")
        if fit and not rule.is_deep_taylor:
            raise RuleError(
                f"{where}: a relevance model takes a rule of deep Taylor decomposition, such as z+, not {rule.name}"
            )
        return Selector(rule, where, "first" in entry, "bounds" in entry, lists["family"], lists["op"], name, fit=fit)


def _check_chain(rules: Sequence[Rule], what: str) -> None:
    """Does each of the rules joined by ``else`` leave something to the next?"""
    for rule, behind in pairwise(rules):
        if not (rule.divide and behind.divide):
            plain = rule if not rule.divide else behind
            raise RuleError(f"{what}: {plain.name} divides by nothing; else is for rules whose denominator may be 0")
        if rule.epsilon:
            raise RuleError(
                f"{what}: leaves nothing to {behind.name}, since {rule.name} has an ε, so no denominator of it is 0"
            )
    if len({str(rule) for rule in rules}) < len(rules):
        raise RuleError(f"{what}: has a rule twice, which would not share out the second time either")


def _check_division(method: Method, selectors: Sequence[Selector], what: str) -> None:
    """Shares of relevance are fractions, which no part of a gradient is."""
    for selector in selectors:
        if selector.rule.divide and not method.divides:
            raise RuleError(
                f"{selector.where}: the rule {selector.rule.name} divides, but {what} (method {method.name}) walks a gradient "
                "and takes rules that do not, such as gradient"
            )
        if not selector.rule.divide and method.divides:
            raise RuleError(
                f"{selector.where}: the rule {selector.rule.name} does not divide, but {what} (method {method.name}) walks "
                "relevance and takes rules that do; it belongs into one that walks a gradient, such as the preset gradient"
            )


def _method(name: str, table: Mapping[str, Any], where: str) -> Method:
    _only(table, {"title", "source", "seed", "finish", "treatments"}, where)
    seed = table.get("seed")
    if seed not in SEEDS:
        raise RuleError(f"{where}: seed is one of {', '.join(SEEDS)}, not {seed!r}")
    words = [_text(table, key, where) for key in ("title", "source")]
    method = _overridden(Method(name, str(seed), "", {}, words[0], words[1]), table, where)
    for kind in KINDS:
        if kind not in method.treatments:
            raise RuleError(f"{where}: treatments says nothing of {kind}; there are {_choices(kind, method)}")
    return method


def _overridden(method: Method, table: Mapping[str, Any], where: str) -> Method:
    """A method with the finish, the point and the treatments that a table gives."""
    finish, treatments = table.get("finish", method.finish), table.get("treatments", {})
    fitting = [name for name, made in FINISHES.items() if made.walks == method.walks]
    if finish not in fitting:
        raise RuleError(f"{where}: finish of a walk of {method.walks} is one of {', '.join(fitting)}, not {finish!r}")
    point = table.get("point", method.point)
    if point not in POINTS or (point != HERE and method.divides):
        choice = "x where relevance is walked" if method.divides else f"one of {', '.join(POINTS)}"
        raise RuleError(f"{where}: point is {choice}, not {point!r}")
    if not isinstance(treatments, dict):
        raise RuleError(f"{where}: treatments maps kinds or operators to treatments")
    for key, name in treatments.items():
        _check_treatment(method, key, name, f"{where}, treatments")
    method = _stepped(replace(method, point=point, steps=POINTS[point]), table.get("steps", POINTS[point]), where)
    method = replace(method, finish=finish, treatments={**method.treatments, **treatments})
    if method.splits and point != HERE:
        raise RuleError(f"{where}: point is x where treatments share out differences to the baseline, not {point!r}")
    return method


def _stepped(method: Method, steps: Any, where: str) -> Method:
    """A method that takes so many steps to where it walks."""
    most = MOST_STEPS if POINTS[method.point] else 0
    if isinstance(steps, bool) or steps not in range(min(most, 1), most + 1):
        known = ", ".join(name for name, usual in POINTS.items() if usual)
        choice = f"a number from 1 to {most}" if most else f"of points that are found in steps, which are {known}"
        raise RuleError(f"{where}: steps is {choice}, not {steps!r}")
    return replace(method, steps=int(steps))


def _check_treatment(method: Method, key: str, name: Any, where: str) -> None:
    """Does it fit the kind, or the operator, and what is walked?"""
    operator = OPERATORS.get(key)
    kind = key if operator is None else operator.kind
    if kind not in KINDS:
        raise RuleError(f"{where}: {key!r} is none of {', '.join(KINDS)}, nor an operator of one of these kinds")
    treatment = TREATMENTS.get((kind, name)) if isinstance(name, str) else None
    if treatment is None or method.walks not in treatment.walks:
        raise RuleError(f"{where}: {key} is treated as one of {_choices(kind, method)}, not {name!r}")
    if operator is not None and getattr(operator, treatment.needs) is None:
        raise RuleError(f"{where}: {key} cannot be treated as {name!r}, for which its {treatment.needs} would have to be known")


def _choices(kind: str, method: Method) -> str:
    """The treatments of a kind in what a method walks."""
    return ", ".join(name for (of, name), row in TREATMENTS.items() if of == kind and method.walks in row.walks)


@cache
def shipped() -> tuple[dict[str, Method], dict[str, Callable[[Mapping[str, float]], Rule]], dict[str, Preset]]:
    """The methods, rules and presets that come with onnxdtd, read once."""
    library = Library.__new__(Library)
    library.methods, library.rules, library.presets = {}, {}, {}
    for file in ("methods.toml", "rules.toml", "presets.toml"):
        library.load(data_folder() / file)
    return library.methods, library.rules, library.presets


def definitions(presets: Iterable[str]) -> dict[str, str]:
    """The digests of the files among ``presets``: what is in them may change while their names do not."""
    paths = {Path(preset.partition(".toml")[0] + ".toml") for preset in presets if ".toml" in preset}
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths) if path.is_file()}


def _only(table: Mapping[str, Any], keys: set[str], where: str) -> None:
    unknown = sorted(set(table) - keys)
    if unknown:
        raise RuleError(f"{where}: unknown key {unknown[0]!r}{instead(unknown[0], sorted(keys))}")


def _leaves(tables: Mapping[str, Any]) -> Iterator[Any]:
    """All values that are neither tables nor lists."""
    pending: list[Any] = [tables]
    while pending:
        value = pending.pop()
        if isinstance(value, dict | list):
            pending += value.values() if isinstance(value, dict) else value
        else:
            yield value


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
    if not re.fullmatch(r"[^()\s]+", name):
        raise RuleError(f"{where}: a rule with spaces or parentheses in its name cannot be chosen; rename it")
    defaults = table.get("params", {})
    if not isinstance(defaults, dict) or not all(_is_number(v) for v in defaults.values()):
        raise RuleError(f"{where}: params maps names to numbers")
    if "branches" in table and set(table) & {"terms", "direction", "bias"}:
        raise RuleError(f"{where}: has branches, so terms, direction and bias belong into them")
    branches = table.get("branches", [{key: table[key] for key in ("terms", "direction", "bias") if key in table}])
    if not isinstance(branches, list) or not branches or not all(isinstance(branch, dict) for branch in branches):
        raise RuleError(f"{where}: branches is a list of tables")
    divided = table.get("divide", True)
    if not isinstance(divided, bool):
        raise RuleError(f"{where}: divide is true or false")
    if not divided and any({"epsilon", "bias", "direction"} & set(part) for part in (table, *branches)):
        raise RuleError(f"{where}: divide = false leaves no denominator, so epsilon, bias and direction mean nothing")
    words: dict[str, Any] = {key: _text(table, key, where) for key in ("equation", "domain", "source")}

    def make(given: Mapping[str, float]) -> Rule:
        unknown = sorted(set(given) - set(defaults))
        if unknown:
            raise RuleError(f"{name} has no parameter {unknown[0]!r}; it has {', '.join(defaults) or 'none'}")
        params = {key: float(value) for key, value in {**defaults, **given}.items()}
        if not all(np.isfinite(value) and value >= 0 for value in params.values()):
            raise RuleError(f"{name}: parameters are finite and not negative")
        places = [where if len(branches) == 1 else f"{where}, branch {i}" for i in range(1, len(branches) + 1)]
        made = tuple(_branch(branch, params, place) for branch, place in zip(branches, places, strict=True))
        _check_scales(name, made, [branch.get("scale", 1) for branch in branches])
        epsilon = _number(table.get("epsilon", 0.0), params, where)
        if epsilon < 0:
            raise RuleError(f"{where}: epsilon is not negative")
        for key, value in {**params, "epsilon": epsilon}.items():
            if value and not NUMBERS[0] <= value <= NUMBERS[1]:
                raise RuleError(f"{name}: {key} = {value:g} is neither 0 nor between {NUMBERS[0]:g} and {NUMBERS[1]:g}")
        return Rule(name, made, params, epsilon, divided, **words)

    try:
        rule = make({})
    except RuleError as error:
        raise RuleError(str(error) if where in str(error) else f"{where}: {error}") from None
    for idle in sorted(set(defaults) - _mentioned(table, branches) - ({"gamma"} if rule.needs_gamma else set())):
        symbols = ", ".join(name for name, symbol in (WEIGHTS | BIASES).items() if symbol.gamma)
        raise RuleError(f"{where}: the parameter {idle!r} is used nowhere (gamma is in {symbols})")
    return make


def _check_scales(name: str, made: Sequence[Branch], written: Sequence[Any]) -> None:
    """On either side of 0 the scales of the branches sum to 1."""
    for side in SIDES:
        parts = [(branch.scale, text) for branch, text in zip(made, written, strict=True) if branch.when in (None, side)]
        at = f" where {side}" if any(branch.when for branch in made) else ""
        if not parts:
            raise RuleError(f"{name}: has no branch{at}, so relevance would not be conserved")
        total = sum(scale for scale, _ in parts)
        if abs(total - 1) > 1e-9:
            scales = " + ".join(str(text) for _, text in parts).replace("+ -", "- ")
            raise RuleError(f"{name}: {scales} must be 1{at}, not {total:g}, or relevance would not be conserved")


def _mentioned(table: Mapping[str, Any], branches: Sequence[Mapping[str, Any]]) -> set[str]:
    """The names of parameters that stand for a number in a rule."""
    return {str(value).removeprefix("-").strip() for value in (table.get("epsilon"), *(b.get("scale") for b in branches))}


def _is_number(value: Any) -> bool:
    """Is it a number, and no whole one that a float cannot hold?"""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300)


def _number(value: Any, params: Mapping[str, float], where: str) -> float:
    """A finite number, or the name of a parameter with an optional minus."""
    if _is_number(value):
        if not np.isfinite(value):
            raise RuleError(f"{where}: {value!r} is not finite")
        return float(value)
    name = str(value).removeprefix("-").strip()
    if name not in params:
        raise RuleError(f"{where}: {value!r} is neither a number nor a parameter ({', '.join(params) or 'none'})")
    return -params[name] if str(value).startswith("-") else params[name]


def _branch(table: Mapping[str, Any], params: Mapping[str, float], where: str) -> Branch:
    _only(table, {"terms", "direction", "bias", "scale", "when"}, where)
    if ("terms" in table) == ("direction" in table):
        raise RuleError(f"{where}: needs either terms or direction")
    weights: Mapping[str, str] = {weight: weight for weight in WEIGHTS} if "terms" in table else CONDITIONS
    parts = _strings(table, "terms" if "terms" in table else "direction", where)
    if not parts:
        raise RuleError(f"{where}: has no terms")
    terms = tuple(_term(part, weights, where) for part in parts)
    distinct = set(terms)
    for term in distinct:
        if replace(term, sign=-term.sign) in distinct:
            raise RuleError(f"{where}: {term.x} {term.w} is both added and taken off, which leaves nothing")
    for key, allowed in (("bias", BIASES), ("when", SIDES)):
        if table.get(key) not in (None, *allowed):
            raise RuleError(f"{where}: {key} is one of {', '.join(allowed)}, not {table[key]!r}")
    branch = Branch(terms, _number(table.get("scale", 1.0), params, where), table.get("bias"), table.get("when"))
    for text in branch.with_gamma if "gamma" not in params else ():
        raise RuleError(f"{where}: {text!r} needs a parameter gamma")
    return branch


def _term(text: str, weights: Mapping[str, str], where: str) -> Term:
    sign, body = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    x, _, w = body.strip().partition(" ")
    if x not in INPUTS or w.strip() not in weights:
        options = f"an input ({', '.join(INPUTS)}) and {', '.join(filter(None, weights))}"
        raise RuleError(f"{where}: cannot read {text!r}; write {options}")
    return Term(sign, x, weights[w.strip()])
