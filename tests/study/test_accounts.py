"""What verify says of the ledgers of several samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import eighths, model, node

from onnxdtd.compiler.compile import prepare
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.contract import COLUMNS
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Ledger
from onnxdtd.study.accounts import checked, in_layers, joined, table
from onnxdtd.study.checks import Check


@pytest.fixture(scope="module")
def job() -> Prepared:
    weights = {"w": eighths(np.random.default_rng(2), 4, 3)}
    return prepare(model([node("MatMul", "x w", "z")], {"x": ["n", 4]}, ["z"], weights), Request(preset="lrp-0"))


def ledger(*logits: float, **columns: list[float]) -> Ledger:
    """A step behind the logits, one row a sample; what is not given is 0."""
    given = {"in": list(logits), "out": list(logits)} | columns
    first = {name: np.asarray(logits) if name in ("in", "out") else np.zeros(len(logits)) for name in COLUMNS}
    second = {name: np.asarray(given.get(name, np.zeros(len(logits))), np.float64) for name in COLUMNS}
    return Ledger(["z", "z_node"], {name: np.stack([first[name], second[name]], axis=1) for name in COLUMNS})


def found(job: Prepared, book: Ledger, opposite: float = 0.0) -> dict[str, Check]:
    return {check.name: check for check in checked(job, book, opposite)}


def test_ledgers_are_joined_sample_by_sample() -> None:
    both = joined([ledger(1.0, 2.0), ledger(3.0)])
    assert both["in"].tolist() == [[1, 1], [2, 2], [3, 3]]
    assert both.steps == ["z", "z_node"]


def test_logits_of_both_signs_do_not_cancel_out(job: Prepared) -> None:
    """Of 4 a bias keeps 1, of -4 it keeps -3: half of both."""
    book = ledger(4.0, -4.0, out=[3.0, -1.0], bias=[1.0, -3.0], negative=[-1.0, -2.0])
    assert found(job, book)["logit"].finding == "100 % = relevance 50.00% + bias 50.00%"
    row = table(job, book)[1]
    expected: dict[str, Any] = {"step": "z_node", "in": 1.0, "out": 0.5, "bias": 0.5, "negative": -0.25, "unaccounted": 0.0}
    assert {name: row[name] for name in expected} == expected


def test_a_logit_of_zero(job: Prepared) -> None:
    assert found(job, ledger(0.0, 0.0))["logit"].finding == "0 on all inputs"
    assert all(row["in"] == 0 for row in table(job, ledger(0.0)))


@pytest.mark.parametrize(("out", "passed"), [(1.0, True), (0.9999, True), (0.9, False), (1.1, False), (float("nan"), False)])
def test_balance(job: Prepared, out: float, passed: bool) -> None:
    check = found(job, ledger(5.0, 1.0, out=[5.0, out]))["balance"]
    assert check.passed is passed
    assert check.finding.endswith("most off in z_node") or out == 1


@pytest.mark.parametrize(("there", "passed"), [(1e-30, False), (1e-39, True)])
def test_what_has_faded_beyond_the_precision_of_its_type_need_not_balance(job: Prepared, there: float, passed: bool) -> None:
    """Deep down relevance may be too small for float32 to count."""
    assert found(job, ledger(there, out=[there / 2]))["balance"].passed is passed


def test_what_is_remarkable(job: Prepared) -> None:
    checks = found(job, ledger(1.0, 0.0, positive_biases=[2.0, 2.0]))
    assert checks["logits"].finding == "1 of 2 explained logits is 0 or below"
    assert checks["biases"].finding == "1 of 1 layer has positive biases, most of them z_node (2 neurons)"
    assert checks["inputs of z+"].finding == "no layer is under z+"
    assert checks["bounds"].finding == "none were given"
    assert checks["positive"].passed is None, "z promises nothing"


@pytest.mark.parametrize(
    ("preset", "promises"), [("dtd", True), ("lrp-alpha1beta0", True), ("lrp-alpha2beta1", False), ("lrp-epsilon", False)]
)
def test_rules_without_negative_shares_promise_no_relevance_of_the_other_sign(preset: str, promises: bool) -> None:
    """By their terms, whatever they are called."""
    weights = {"w": eighths(np.random.default_rng(2), 4, 3)}
    held = prepare(model([node("MatMul", "x w", "z")], {"x": ["n", 4]}, ["z"], weights), Request(preset=preset))
    assert found(held, ledger(1.0), 0.0)["positive"].passed is (True if promises else None)
    assert found(held, ledger(1.0), 0.1)["positive"].passed is (False if promises else None)
    assert found(held, ledger(1.0, outside=[1.0]), 0.1)["positive"].passed is None


def test_the_steps_of_a_recurrent_layer_are_one_layer() -> None:
    """What they keep is added up; what goes through one after the other is not. Other layers stay as they are."""
    row = {**dict.fromkeys(COLUMNS, 0.0), "unaccounted": 0.0, "rule": "epsilon", "in": 2.0}
    steps = [
        {**row, "step": "conv1", "bias": 0.5},
        {**row, "step": "conv2", "bias": 0.5},
        {**row, "step": "dtd/lstm/forward/1/Gemm", "bias": 0.25, "positive_biases": 3.0},
        {**row, "step": "dtd/lstm/forward/0/Gemm", "bias": -0.125, "positive_biases": 2.0},
        {**row, "step": "dtd/lstm/reverse/0/Gemm", "bias": 1.0},
    ]
    found = in_layers(steps)
    assert [(row["step"], row["count"]) for row in found] == [
        ("conv1", 1),
        ("conv2", 1),
        ("dtd/lstm/forward/*/Gemm*", 2),
        ("dtd/lstm/reverse/0/Gemm", 1),
    ]
    assert [row["bias"] for row in found] == [0.5, 0.5, 0.125, 1.0]
    assert (found[2]["in"], found[2]["out"], found[2]["positive_biases"]) == (None, None, 3.0)
    assert found[0] == {**steps[0], "count": 1}
