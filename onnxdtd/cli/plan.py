"""What ``inspect`` prints: layers alike as one, or each of them, and what may be asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxdtd.cli.screen import out, print_table
from onnxdtd.errors import counted

if TYPE_CHECKING:
    from onnxdtd.compiler.groups import Group

OPEN_SIZES = "(sizes that are known at run time only count as 1)"
TENSORS = 12  # that can be kept, by name
FEW_INPUTS = 4  # of a node, whose shapes are all told
INNER = 50  # tensors inside of nodes, where all are listed


def print_plan(model: Path, found: dict[str, Any], every: bool) -> None:
    """A row for each group of steps, or for each step, what the whole costs, and what may be asked for."""
    from onnxdtd.compiler.groups import each, grouped
    from onnxdtd.labels import listed

    steps, groups = found["steps"], (each if every else grouped)(found["steps"])
    out.print(f"{model}, preset {found['preset']}")
    _print_groups(groups, found["multiply_adds"]["explanation"])
    if len(groups) < len(steps):
        out.print(f"{counted(len(steps), 'node')} in {counted(len(groups), 'group')}; --all lists each")
    _print_cost(found, any(row["open"] for row in steps))
    for entry in found["inputs"]:
        out.print(f"explained: {entry['name']} [{', '.join(entry['shape'])}]" + (f", {entry['seen']}" if entry["seen"] else ""))
    along = [f" ({', '.join(offer['axes'])})" if offer["axes"] else "" for offer in found["outputs"]]
    offers = [
        f"{offer['scores']}{axes}, also with {' or '.join(offer['ways'])}"
        for offer, axes in zip(found["outputs"], along, strict=True)
    ]
    for line in dict.fromkeys(offers):  # of several outputs that come from the same scores once
        out.print(f"can be explained: {line}")
    given = {name: count for row in steps for name, count in row["gives"].items()}
    out.print(f"can be kept, and masked where channels are known: {_tensors(given, every)}")
    for key in ("output", "logits", "stepped_back", "labels", "changes"):
        if known := found[key]:
            value = known if isinstance(known, str) else listed(known) if key == "labels" else ", ".join(known)
            out.print(f"{key.replace('_', ' ')}: {value}")


def _print_groups(groups: Sequence[Group], whole: int) -> None:
    """Columns that say nothing of any of them are left out."""
    least, named = any(group.open for group in groups), _named([group.rule for group in groups if group.rule])
    columns = {
        "node": [group.name for group in groups],
        "×": [str(group.count) if group.count > 1 else "" for group in groups],
        "operators": [group.op.replace("+", " + ") for group in groups],
        "rule": [_treated(group, named) for group in groups],
        "input": [_shapes(group.input) for group in groups],
        "cost": ["" if least else _share(group.explanation, whole) for group in groups],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    print_table(list(shown), list(zip(*shown.values(), strict=True)))
    if parameters := [f"{name} is {rule}" for rule, name in named.items() if rule != name]:
        out.print("rules: " + ", ".join(parameters))


def _shapes(shapes: Sequence[str]) -> str:
    """Those of the inputs, each as often as it comes where that is often."""
    if len(shapes) <= FEW_INPUTS:
        return " ".join(shapes)
    return " ".join(f"{count} × {shape}" if count > 1 else shape for shape, count in Counter(shapes).items())


def _named(rules: Sequence[str]) -> dict[str, str]:
    """Rules by their names alone, where no other has the same."""
    short = {rule: rule.partition("(")[0] for rule in rules}
    return {rule: name if [*short.values()].count(name) == 1 and " else " not in rule else rule for rule, name in short.items()}


def _treated(group: Group, named: Mapping[str, str]) -> str:
    """The rule, and the kind where that is no linear layer."""
    kind = "" if group.rule and group.kind == "linear" else group.kind
    return ", ".join(filter(None, (named.get(group.rule or ""), kind, "first layer" if group.first else "")))


def _share(part: int, whole: int) -> str:
    """Per cent, where it is worth mentioning."""
    return f"{part / whole:.1%}" if part and whole else ""


def _print_cost(found: dict[str, Any], is_open: bool) -> None:
    predict, explain = (found["multiply_adds"][key] for key in ("prediction", "explanation"))
    least = "at least " if is_open else ""
    out.print(
        f"multiply-adds per sample: prediction {least}{predict:,}, explanation {least}{explain:,} more "
        + (OPEN_SIZES if is_open else f"({(predict + explain) / max(predict, 1):.1f} x in all)")
    )


def _tensors(given: dict[str, int | None], every: bool) -> str:
    """All names with their channels, but for many inside of nodes, or the last of them."""
    inner = [name for name in given if name.startswith("dtd/")][INNER:]
    names = [name + (f" ({count})" if count else "") for name, count in given.items() if name not in set(inner)]
    if not every and len(names) > TENSORS:
        return f"{counted(len(given), 'tensor')}, the last {', '.join(names[-4:])}; --all lists each"
    more = f", and {len(inner)} more inside of nodes, {inner[-1]} the last" if inner else ""
    return ", ".join(names) + more


def print_kernels(found: dict[str, Any]) -> None:
    """A row for each node without a kernel, and how many there are."""
    if found["lacking"]:
        cells = [(row["node"], row["op"], "added" if row["added"] else "", row["why"]) for row in found["lacking"]]
        print_table(("runs on the CPU", "operator", "", f"{found['provider']} kernels"), cells)
    added = sum(row["added"] for row in found["lacking"])
    out.print(
        f"without a {found['provider']} kernel in ONNX Runtime {found['version']}: {len(found['lacking']) - added} of the "
        f"{found['predictor']:,} nodes of the predictor, {added} of the {found['added']:,} added"
    )
