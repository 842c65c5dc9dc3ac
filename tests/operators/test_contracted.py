"""Einsum with an ellipsis and without an arrow, of two factors that depend on the input, in nets of any batch."""

import numpy as np
import pytest
from derivatives import check_numeric, normal
from nets import DOUBLE, model, node

import onnxdtd
from onnxdtd.errors import Unsupported

ATTENTION = [
    node("Einsum", "x wq", "q", equation="...ai,ij"),
    node("Einsum", "x wk", "k", equation="...ti,ij->...tj"),
    node("Einsum", "q k", "s", equation="...ij,...kj->...ik"),
    node("Softmax", "s", "p"),
    node("Einsum", "p x", "h", equation="bij,bjd->bd"),
    node("MatMul", "h v", "y"),
]
WEIGHTS = {"wq": normal(5, 3, seed=1), "wk": normal(5, 3, seed=2), "v": normal(5, 2, seed=3)}


@pytest.mark.parametrize("size", ["n", 3])
def test_attention_by_letters(size):
    proto, x = model(ATTENTION, {"x": [size, 4, 5]}, ["y"], WEIGHTS, DOUBLE), normal(3, 4, 5, seed=4)
    check_numeric(proto, {"x": x})
    for contrast in (None, True):
        compiled = onnxdtd.compile(proto, "dtd", contrast=bool(contrast), ledger=True)
        found = onnxdtd.Explainer(compiled)(x)
        np.testing.assert_allclose(found.relevance["x"].sum((1, 2)), found.logit, rtol=1e-9)
        if size == "n":
            alone = [onnxdtd.Explainer(compiled)(x[i : i + 1]).relevance["x"] for i in range(3)]
            np.testing.assert_allclose(found.relevance["x"], np.concatenate(alone), rtol=1e-12)


def test_three_factors_that_depend_on_the_input_are_refused():
    nodes = [node("Relu", "x", "r"), node("Tanh", "x", "t"), node("Einsum", "x r t", "h", equation="bi,bi,bi->bi")]
    proto = model([*nodes, node("MatMul", "h v", "y")], {"x": ["n", 5]}, ["y"], {"v": WEIGHTS["v"]}, DOUBLE)
    with pytest.raises(Unsupported, match="more than two of its factors depend on the input"):
        onnxdtd.compile(proto, "gradient")
