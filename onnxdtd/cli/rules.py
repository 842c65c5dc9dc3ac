"""The command that lists rules and presets, and shows what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxdtd.cli.options import EXPLAIN, AsJson, command, completion, known_names, option
from onnxdtd.cli.screen import indented, out, print_table
from onnxdtd.errors import RuleError, suggestion

if TYPE_CHECKING:
    from onnxdtd.method.method import Method
    from onnxdtd.method.preset import Preset, Selector
    from onnxdtd.method.rule import Rule


@command("rules", EXPLAIN, "rules", "rules lrp-epsilon", "rules attention")
def rules_command(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Show what these say, or all that have this word in them.",
            metavar="NAME",
            autocompletion=completion(known_names("preset", "rule")),
        ),
    ] = [],
    file: Annotated[Path | None, option("--file", "Those of this TOML file instead of ours.", "FILE")] = None,
    as_json: AsJson = False,
) -> None:
    """List rules with their equations and sources, and presets by their method; or show what some of them say."""
    from onnxdtd.method.toml import Library

    library, ours = Library(), Library()
    if file is not None:
        library.load(file)
        presets = {name: preset for name, preset in library.presets.items() if name not in ours.presets}
        rules = {name: library.rule(name) for name in library.rules if name not in ours.rules}
    else:
        presets, rules = library.presets, {name: library.rule(name) for name in library.rules}
    if names:
        chosen = {id(each) for name in names for each in _found(name, presets, rules)}
        presets = {name: preset for name, preset in presets.items() if id(preset) in chosen}
        rules = {name: rule for name, rule in rules.items() if id(rule) in chosen}
    if as_json:
        data = {"rules": list(map(_rule_data, rules.values())), "presets": list(map(_preset_data, presets.values()))}
        print(json.dumps(data, indent=1, ensure_ascii=False))
        return
    for rule in rules.values():
        _print_rule(rule)
    if names or file is not None:
        for preset in presets.values():
            _print_preset(preset)
    else:
        _print_presets(presets, library.methods)


def _found(name: str, presets: Mapping[str, Preset], rules: Mapping[str, Rule]) -> list[Preset | Rule]:
    """What is called so, or else what says the word. Raises ``RuleError`` where nothing does."""
    called = [known[name] for known in (presets, rules) if name in known]
    word = name.casefold()
    said = [p for p in presets.values() if word in f"{p.name} {p.title} {p.source}".casefold()]
    told = [r for r in rules.values() if word in f"{r} {r.source}".casefold()]
    if not (called or said or told):
        close = suggestion(name, [*presets, *rules], 0.6)
        raise RuleError(f"no preset and no rule {name!r}{close} (`onnxdtd rules` lists all)")
    return called or [*told, *said]


def _rule_data(rule: Rule) -> dict[str, Any]:
    return {"name": str(rule), "equation": rule.equation, "domain": rule.domain, "source": rule.source}


def _preset_data(preset: Preset) -> dict[str, Any]:
    words = {"name": preset.name, "title": preset.title, "source": preset.source, "method": preset.method.name}
    layers = [
        {
            "first": s.first,
            "bounds": s.bounds,
            "family": list(s.family),
            "op": list(s.op),
            "name": s.name,
            "rule": str(s.rule),
            "fit": s.fit,
        }
        for s in preset.selectors
    ]
    return words | {"rules": [str(s.rule) for s in preset.selectors], "layers": layers}


def _print_rule(rule: Rule) -> None:
    out.print(str(rule), style="bold")
    for text in filter(None, (rule.equation or rule.spelled, rule.domain and f"domain: {rule.domain}", rule.source)):
        indented(text)


def _print_preset(preset: Preset) -> None:
    """Its layers too, in the order in which they are looked at."""
    out.print(f"{preset.name} (a preset, method {preset.method.name})", style="bold")
    for text in filter(None, (preset.title, preset.source)):
        indented(text)
    for i, selector in enumerate(preset.selectors):
        fit = f", of a {selector.fit} relevance model" if selector.fit else ""
        indented(f"{_layers(selector) or ('every other layer' if i else 'every layer')}: {selector.rule}{fit}")
    indented("what is not linear: " + _treatments(preset.method))


def _layers(selector: Selector) -> str:
    """Which layers an entry takes, nothing where it takes all."""
    parts = ["the first layer" + ", if it has bounds" * selector.bounds] if selector.first else []
    parts += [
        f"{what} {' or '.join(some)}"
        for what, some in (("layers of family", selector.family), ("operator", selector.op))
        if some
    ]
    return ", ".join(parts + [f"nodes {selector.name}"] * bool(selector.name))


def _treatments(method: Method) -> str:
    return ", ".join(f"{key} {treatment}" for key, treatment in method.treatments.items())


def _print_presets(presets: Mapping[str, Preset], methods: Mapping[str, Method]) -> None:
    """A table for each method."""
    for method in methods.values():
        rows = [(p.name, p.title) for p in presets.values() if p.method.name == method.name]
        if rows:
            out.print(f"\n{method.title or method.name} (method {method.name})", style="bold")
            print_table(("preset", "what it does"), rows, shorten=False)
    out.print("`onnxdtd rules NAME` shows the layers and the source of one")
