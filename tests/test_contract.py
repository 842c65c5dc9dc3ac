"""What a compiled file says, word by word: whoever reads files depends on it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from onnx import ModelProto

import onnxdtd
from onnxdtd import contract

RNG = np.random.default_rng(13)


def source() -> ModelProto:
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")]
    proto = model(nodes, {"x": ["n", 4]}, ["y"], {"w": eighths(RNG, 4, 5), "v": eighths(RNG, 5, 3)})
    proto.metadata_props.add(key="author", value="not JSON {")
    return proto


@pytest.fixture(scope="module")
def compiled() -> ModelProto:
    return onnxdtd.compile(source(), low=-1.0, high=1.0, ledger=True, keep=["r"], target="input", labels=["é", "b", "c"])


def test_every_entry_is_in_the_contract_and_the_other_way_round(compiled: ModelProto) -> None:
    always = [name for name, kind in contract.Metadata.__annotations__.items() if "NotRequired" not in str(kind)]
    assert list(contract.entries(compiled)) == always
    assert [entry.key for entry in compiled.metadata_props] == [
        "author",
        *(f"onnxdtd.{key}" for key in contract.entries(compiled)),
    ]


def test_the_names_of_what_is_added(compiled: ModelProto) -> None:
    """As they are spelled, since other programs spell them too."""
    assert [value.name for value in compiled.graph.output] == ["y", "relevance", "relevance/r", "logit", "ledger"]
    assert [value.name for value in compiled.graph.input] == ["x", "target"]
    assert contract.read_metadata(compiled)["relevance"] == {"x": contract.RELEVANCE, "r": contract.relevance_of("r")}


def test_the_ledger_has_the_columns_of_the_contract(compiled: ModelProto) -> None:
    told = contract.read_metadata(compiled)["ledger"]
    assert told is not None
    assert told["columns"] == list(contract.COLUMNS)
    assert set(contract.KEPT) < set(contract.COLUMNS)
    (shape,) = [value.type.tensor_type.shape for value in compiled.graph.output if value.name == contract.LEDGER]
    assert [d.dim_value for d in shape.dim][1:] == [len(told["steps"]), len(contract.COLUMNS)]


def test_what_is_recorded_is_read_back(compiled: ModelProto) -> None:
    told = contract.read_metadata(compiled)
    copy = ModelProto()
    contract.write_metadata(copy, told)
    assert contract.entries(copy) == contract.entries(compiled)
    assert contract.read_metadata({e.key: e.value for e in compiled.metadata_props}) == told  # as a runtime gives it
    assert told["names"] == ["é", "b", "c"]
    assert "é" in contract.entries(compiled)["names"]  # readable for people too


def test_no_other_model_says_anything() -> None:
    assert contract.entries(source()) == {}
    assert contract.read_metadata(onnx.ModelProto()) == {}


def test_an_entry_that_is_no_json() -> None:
    proto = onnx.ModelProto()
    proto.metadata_props.add(key="onnxdtd.bounds", value="{")
    with pytest.raises(ValueError, match=r"'onnxdtd\.bounds' of the metadata is no JSON"):
        contract.read_metadata(proto)


def test_the_contract_imports_nothing_of_the_package() -> None:
    script = (
        "import sys, onnxdtd.contract; print(*sorted(m for m in sys.modules if m.partition('.')[0] in ('onnx', 'onnxdtd')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["onnxdtd", "onnxdtd.contract"]
