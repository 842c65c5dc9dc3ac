"""The script that checks and times compiled models on a GPU: what can be known of it without one; with one, that it agrees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu
import numpy as np
import pytest
from nets import eighths, model, node
from onnx import TensorProto

from onnxdtd.runtime.explainer import default_providers

NO_GPU = "CUDAExecutionProvider" not in default_providers()


def small(*nodes: Any) -> Any:
    """A case of four samples."""
    rng = np.random.default_rng(0)
    net = model([*nodes, node("MatMul", "h w", "y")], {"x": ["n", 3]}, ["y"], {"w": eighths(rng, 3, 2)})
    return gpu.runtimes.Case("small", net, "x", eighths(rng, 4, 3), -2, 2, False, 0)


def event(op: str, provider: str, kind: str, *shape: int) -> dict[str, Any]:
    shapes = {"input_type_shape": [{kind: shape}], "output_type_shape": [{kind: shape}]}
    return {"args": {"op_name": op, "provider": f"{provider}ExecutionProvider", **shapes}}


def test_a_model_agrees_with_itself() -> None:
    for ledger in (False, True):
        found = gpu.checked(small(node("Relu", "x", "h")), "lrp-epsilon", ledger, gpu.CPU)
        assert found.differences == [0] * 4
        assert max(found.neighbours) > 0
        assert not found.failure()
        assert (found.runs, found.sessions, found.unsteady) == ((0, 0, {}) if ledger else (1, 1, {}))
        assert 0 <= found.unaccounted < 1e-6
        assert found.fallen["Relu"] >= 1


def test_differences_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the worst sample between the runs, and of each sample to the CPU, whose run comes first."""
    right, wrong, again = np.float32([[1, 2], [4, 2]]), np.float32([[1, 1], [4, 2]]), np.float32([[1, 1], [3, 2]])
    given = [right, wrong, wrong, again, wrong, wrong, right]
    monkeypatch.setattr(gpu, "outputs", lambda *_: [given.pop(0)])
    monkeypatch.setattr(gpu, "unsteady", lambda *_: {"Sum": 1})
    found = gpu.checked(small(node("Relu", "x", "h")), "lrp-epsilon", False, gpu.CPU)
    assert found.differences == [0.5, 0]
    assert found.neighbours == [0, 0]
    assert (found.runs, found.spread, found.unsteady) == (2, 0.25, {"Sum": 1})
    assert found.failure() == "differs by 2e-01 in the median"


def test_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "outputs", lambda *_: [np.zeros((4, 3), np.float32)])
    with pytest.raises(ValueError, match="zero everywhere"):
        gpu.checked(small(node("Relu", "x", "h")), "lrp-epsilon", False, gpu.CPU)


def test_the_operator_to_blame() -> None:
    """One that draws numbers, and not the sum behind it."""
    given = small(node("RandomUniformLike", "x", "r", dtype=TensorProto.FLOAT), node("Add", "x r", "h"))
    assert gpu.unsteady(given.model, given, gpu.CPU) == {"RandomUniformLike": 1}


def test_the_operator_to_blame_in_a_model_of_one_sample() -> None:
    given = small(node("RandomUniformLike", "x", "r", dtype=TensorProto.FLOAT), node("Add", "x r", "h"))
    given.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert gpu.unsteady(given.model, replace(given, one=True), gpu.CPU) == {"RandomUniformLike": 1}


def test_where_nodes_run() -> None:
    found = gpu.Check("net", 22)
    events = [event("Conv", "CUDA", "float", 4, 3), event("Conv", "CUDA", "float", 4, 3), event("Gather", "CPU", "int64", 4)]
    events += [
        event("Sqrt", "CPU", "float", 1),
        event("MaxPool", "CPU", "float", 4, 3),
        event("MemcpyToHost", "CUDA", "float"),
    ]
    gpu.place(found, events)
    assert (found.nodes, found.sizes, found.fallen, found.copies) == (2, 2, {"MaxPool": 1}, 1)


def test_the_table() -> None:
    plain = gpu.Check("net", 17, "dtd", False, differences=[1e-6, 3e-6], neighbours=[2e-7], tf32=[1e-3], runs=2, spread=4e-7)
    plain.unsteady, plain.nodes, plain.fallen = {"ScatterElements": 2}, 40, {"MaxPool": 3}
    ledger = gpu.Check("net", 17, "dtd", True, differences=[5e-6], neighbours=[0], unaccounted=1e-7, nodes=60, copies=2)
    failed = gpu.Check("other", 22, trouble="exit status -11")
    assert gpu.check_table([plain, ledger, failed]).splitlines()[2:] == [
        "| net | 17 | 3e-06 (2e-07) | 1e-03 | 5e-06 | 1e-07 | runs 0, sessions 0 of 1 (apart by 4e-07), ScatterElements "
        "| 40–60 | 0 | 3 MaxPool | 0–2 |",
        "| other | 22 | no | - | - | - | runs 0, sessions 0 of 0 | - | - | 0 | - |",
    ]
    assert gpu.failures([plain, ledger, failed]) == ["other, opset 22, : exit status -11"]


def test_each_model_in_a_process_of_its_own() -> None:
    (found,) = gpu.apart("digits_mlp", 0, ["gradient"], True)
    assert (found.model, found.preset, len(found.differences), found.failure()) == ("digits_mlp", "gradient", 4, "")
    (lost,) = gpu.apart("nonesuch", 0, ["gradient"], True)
    assert lost.failure()


@pytest.mark.skipif(NO_GPU, reason="there is no NVIDIA GPU here, or no onnxruntime-gpu")
@pytest.mark.parametrize("ledger", [False, True])
def test_a_gpu_agrees_with_the_cpu(ledger: bool) -> None:
    gpu.load_cuda()
    found = gpu.checked(gpu.case("digits_cnn", 0, Path()), "dtd", ledger)
    assert not found.failure()
    assert not found.fallen
    assert found.nodes > 40


def test_ids_are_explained_where_tokens_look_at_each_other() -> None:
    """The bundled text classifier, which is given a mask as well."""
    found = gpu.job("definitions", 0, ["lrp-epsilon", "attnlrp"], True)
    assert [(c.preset, c.ledger) for c in found] == [("lrp-epsilon", False), ("lrp-epsilon", True), ("attnlrp", False)]
    assert not [c.failure() for c in found if c.failure()]
    assert [c.preset for c in gpu.job("digits_mlp", 0, ["attnlrp"], True)] == []


def test_what_is_asked_for_on_demand_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is not asked, files that always explain neither, and the other once in two turns."""
    monkeypatch.setattr(gpu.bench, "exported", lambda *_: None)
    given: list[Any] = []
    monkeypatch.setattr(gpu, "explaining", lambda *_: "a session")
    monkeypatch.setattr(gpu.bench, "plain", lambda *_: "the source")
    monkeypatch.setattr(gpu.bench, "pictures", lambda *_: np.zeros((1, 3), np.float32))
    monkeypatch.setattr(gpu.onnxdtd, "compile", lambda *_, **__: gpu.ModelProto())
    monkeypatch.setattr(gpu, "turn", lambda loaded, feeds: given.append((loaded, feeds.get("explain"))) or len(given))
    (found,) = gpu.turns("net", ["dtd"], [1], rounds=1)
    assert [loaded for loaded, _ in given] == ["the source", *["a session"] * 3] * 2
    assert [ask for _, ask in given] == [None, None, True, False] * 2
    assert (found.source, found.flat, found.asked, found.unasked) == (5, 6, 7, 8)  # the first turn does not count
    assert gpu.turns_table([found]).splitlines()[-1] == "| net | `dtd` | 1 | 5000.00 ms | 1.20 × | 1.40 × | 1.60 × |"
