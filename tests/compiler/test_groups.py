"""Steps alike as one."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from onnxdtd.compiler.groups import FEW, each, grouped


def row(
    node: str, op: str = "Conv", rule: str | None = "z+", first: bool = False, shape: str = "[n,4]", **more: Any
) -> dict[str, Any]:
    """A row of ``inspect``."""
    return {
        "node": node,
        "op": op,
        "kind": "linear",
        "rule": rule,
        "first": first,
        "input": [shape],
        "explanation": 3,
        "open": False,
        **more,
    }


def blocks(count: int) -> list[dict[str, Any]]:
    """Blocks of a convolution, its ReLU and another convolution of another rule."""
    made = [row("/stem/Conv", first=True)]
    for i in range(count):
        made += [row(f"/layer{i}/conv1/Conv", shape=f"[n,{i}]>=0"), row(f"/layer{i}/relu/Relu", "Relu", None)]
        made += [row(f"/layer{i}/conv2/Conv", rule="epsilon", shape="[n,4]")]
    return made


def test_names_that_differ_in_numbers_are_one_row() -> None:
    steps = blocks(12)
    groups = grouped(steps)
    assert [(g.count, g.name, g.rule) for g in groups] == [
        (1, "/stem/Conv", "z+"),
        (12, "/layer*/conv*/Conv", "z+"),
        (12, "/layer*/relu/Relu", None),
        (12, "/layer*/conv*/Conv", "epsilon"),
    ]
    assert [g.input for g in groups] == [("[n,4]",), ("[*]>=0",), ("[n,4]",), ("[n,4]",)]
    assert sum(g.explanation for g in groups) == 3 * len(steps)


def test_a_pattern_matches_all_of_its_names() -> None:
    names = ["node_conv2d", *(f"node_conv2d_{i}" for i in range(30))]
    (group,) = grouped([row(name) for name in names])
    assert (group.count, group.name) == (31, "node_conv2d*")
    assert all(fnmatchcase(name, group.name) for name in names)


def test_what_differs_in_rule_sign_or_place_is_not_one_row() -> None:
    steps = [row(f"conv{i}", rule="z+" if i % 2 else "w2", shape="[n]" + ">=0" * (i > 20), first=not i) for i in range(40)]
    assert sorted(g.count for g in grouped(steps)) == [1, 9, 10, 10, 10]


def test_many_rows_are_grouped_by_block() -> None:
    parts = [f"part{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    steps = [row(f"/encoder/layer.{i}/{part}/MatMul", "MatMul") for i in range(12) for part in parts]
    (group,) = grouped([*steps])
    assert (group.count, group.name) == (312, "/encoder/layer.*/part*/MatMul")
    assert all(fnmatchcase(step["node"], group.name) for step in steps)


def test_few_rows_are_left_alone() -> None:
    steps = [row(f"conv{i}") for i in range(FEW)]
    assert grouped(steps) == each(steps)
    assert [g.name for g in each(steps)] == [step["node"] for step in steps]
