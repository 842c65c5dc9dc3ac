"""Repositories for Triton: what the file says, that requests can be joined and cut as Triton does, what is refused.

Triton is not here: its rules are those that it documents, and that the code of its backend checks when it loads a model.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import model_repository
import numpy as np
import onnx
import pytest
from commands import linear, model, rgb
from onnx import TensorProto, external_data_helper, helper, numpy_helper

import onnxdtd
from onnxdtd.errors import RequestError

SEQUENCE = model(  # time first
    "h = ReduceMean <axes = [0], keepdims = 0> (x) y = MatMul(h, w)", "(float[time,batch,4] x) => (float[batch,3] y)"
)
SEQUENCE.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))


def served(source: onnx.ModelProto, batch: int = 16, **options: Any) -> str:
    explainer = onnxdtd.Explainer(onnxdtd.compile(source, "lrp-epsilon", **options), optimise=False)
    return model_repository.config(explainer, "net", batch)


def test_the_class_to_explain_is_an_input_of_each_sample() -> None:
    assert served(rgb("h", 8), target="input").splitlines() == [
        'name: "net"',
        'backend: "onnxruntime"',
        "max_batch_size: 16",
        'input { name: "x" data_type: TYPE_FP32 dims: [3, -1, 8] }',
        'input { name: "target" data_type: TYPE_INT64 dims: [1] reshape { shape: [ ] } }',
        'output { name: "y" data_type: TYPE_FP32 dims: [2] }',
        'output { name: "relevance" data_type: TYPE_FP32 dims: [3, -1, 8] }',
        'output { name: "logit" data_type: TYPE_FP32 dims: [1] reshape { shape: [ ] } }',
        "dynamic_batching { max_queue_delay_microseconds: 1000 }",
        "instance_group { kind: KIND_CPU }",
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }',
    ]


def test_without_joining_anything_is_served() -> None:
    optional = served(linear(), 0, target="optional").splitlines()
    assert 'input { name: "target" data_type: TYPE_INT64 dims: [-1] optional: true }' in optional
    asked = served(linear(), 0, on_demand="required").splitlines()
    assert 'input { name: "explain" data_type: TYPE_BOOL dims: [1] }' in asked
    assert "max_batch_size: 0" in asked
    assert not [line for line in asked if "dynamic" in line or "reshape" in line]
    assert "dims: [2, 4]" in served(fixed(), 0)


def fixed() -> onnx.ModelProto:
    """Two samples at a time."""
    made = linear()
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    return made


def unjoined() -> onnx.ModelProto:
    """With an output that is no sample's."""
    made = linear()
    made.graph.node.append(helper.make_node("Identity", ["w"], ["z"]))
    made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [4, 3]))
    return made


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (linear(), {"target": "optional"}, "'target' may be left out, .*; compile the source model with --target input"),
        (linear(), {"on_demand": "required"}, "'explain' is one for all samples, .*; serve the source beside"),
        (linear(), {"on_demand": "optional"}, "'explain' may be left out"),
        (fixed(), {}, r"'x' is \[2, 4\]: its first axis does not have any number of samples"),
        (unjoined(), {}, r"'z' is \[4, 3\]: its first axis does not have any number"),
        (SEQUENCE, {}, "'x' does not have its samples along its first axis"),
    ],
)
def test_what_cannot_be_joined_is_refused(source: onnx.ModelProto, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=f"{words}.*; --batch 0 joins no requests"):
        served(source, **options)
    served(source, 0, **options)  # the way out


def test_an_output_of_another_axis_is_refused() -> None:
    """Its first axis is open too, but not that of the samples."""
    made = model("y = MatMul(x, w) z = Transpose <perm = [1, 0]> (x)", "(float[b,n] x) => (float[b,3] y, float[n,b] z)")
    made.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))
    with pytest.raises(RequestError, match="its first axis, 'n', is another one of the inputs"):
        served(made, output="y")


# ---- as Triton reads it ------------------------------------------------------------------------------------------------------


class Triton:
    """What its ONNX Runtime backend does with a configuration, as far as shapes go."""

    def __init__(self, text: str, data: bytes):
        from google.protobuf import text_format

        known = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc] is not installed")
        self.said = text_format.Parse(text, known.ModelConfig())
        self.types = known.DataType.Value
        self.explainer = onnxdtd.Explainer(data, optimise=False)
        session = self.explainer.session
        for tensors, nodes, exact in (
            (self.said.input, session.get_inputs(), False),
            (self.said.output, session.get_outputs(), True),
        ):
            assert [tensor.name for tensor in tensors] == [node.name for node in nodes]
            for tensor, node in zip(tensors, nodes, strict=True):
                self.check(tensor, [size if isinstance(size, int) else -1 for size in node.shape], exact)

    def check(self, tensor: Any, shape: Sequence[int], exact: bool) -> None:
        """A name of its own, no empty dims, as many axes as the model has, the first open, the others alike."""
        assert tensor.dims
        assert tensor.data_type != self.types("TYPE_INVALID")
        assert all(size == -1 or size > 0 for size in tensor.dims)
        inside = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
        if tensor.HasField("reshape"):
            assert list(tensor.dims) == [1]  # as many entries as none at all
        full = [-1, *inside]
        assert shape[0] == -1
        assert len(full) == len(shape)
        assert all(have == want for have, want in zip(full, shape, strict=True) if exact or want != -1)

    def together(self, requests: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """Requests in one run, and their answers."""
        inside = {
            tensor.name: tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims for tensor in self.said.input
        }
        counts = [len(next(iter(request.values()))) for request in requests]
        feeds = {}
        for tensor in self.said.input:
            joined = np.concatenate([request[tensor.name] for request in requests])
            assert [*joined.shape[1:]] == [*tensor.dims]
            feeds[tensor.name] = joined.reshape(sum(counts), *inside[tensor.name])
        found = self.explainer.session.run([tensor.name for tensor in self.said.output], feeds)
        parts = [np.split(value, np.cumsum(counts)[:-1]) for value in found]
        return [
            {tensor.name: part[i] for tensor, part in zip(self.said.output, parts, strict=True)} for i in range(len(requests))
        ]


def test_requests_are_joined_and_cut_apart() -> None:
    """Of several sizes and with classes of their own: each has what it has alone."""
    proto = onnxdtd.compile(linear(6), "dtd", target="input", ledger=True)
    text = model_repository.config(onnxdtd.Explainer(proto, optimise=False), "net")
    triton, rng = Triton(text, proto.SerializeToString()), np.random.default_rng(0)
    requests = [{"x": rng.normal(size=(n, 6)).astype(np.float32), "target": rng.integers(-1, 3, (n, 1))} for n in (1, 3, 2)]
    for request, answer in zip(requests, triton.together(requests), strict=True):
        (alone,) = triton.together([request])
        assert list(answer) == ["y", "relevance", "logit", "ledger"]
        for name, value in answer.items():
            np.testing.assert_allclose(value, alone[name], rtol=1e-6, atol=1e-6)
    swapped = [{**requests[0], "target": 1 - np.abs(requests[0]["target"])}, *requests[1:]]
    assert np.abs(triton.together(swapped)[0]["logit"] - triton.together(requests)[0]["logit"]).max() > 0.1


@pytest.mark.parametrize("device", [model_repository.CPU, model_repository.CUDA])
def test_triton_can_read_it(device: tuple[str, ...]) -> None:
    """Whatever tensors are called; and what is said of the GPU stands where the backend looks for it."""
    made = linear(body="y = MatMul(x, w)")
    for old, new in (("x", 'in "1"\\é\n'), ("y", "out/1")):
        for value in (*made.graph.input, *made.graph.output):
            value.name = value.name.replace(old, new)
        made.graph.node[0].input[0] = made.graph.node[0].input[0].replace(old, new)
        made.graph.node[0].output[0] = made.graph.node[0].output[0].replace(old, new)
    proto = onnxdtd.compile(made, "dtd", target="input")
    explainer = onnxdtd.Explainer(proto, optimise=False)
    said = Triton(model_repository.config(explainer, "net", device=device), proto.SerializeToString()).said
    assert said.input[0].name == 'in "1"\\é\n'
    assert said.max_batch_size == 16
    on_gpu = [entry.name for entry in said.optimization.execution_accelerators.gpu_execution_accelerator]
    assert on_gpu == (["cuda"] if device is model_repository.CUDA else [])
    assert len(said.instance_group) == 1


# ---- the command -------------------------------------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["model_repository.py", *map(str, arguments)])
    try:
        model_repository.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_folder_that_it_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With external weights, and in place of an older one."""
    source, compiled = tmp_path / "net.onnx", tmp_path / "net.dtd.onnx"
    made = linear(400)
    external_data_helper.convert_model_to_external_data(made, location="net.bin", size_threshold=0)
    onnx.save(made, source)
    onnxdtd.save(onnxdtd.compile(source, target="input"), compiled, source)
    repository = tmp_path / "a" / "b"
    for _ in range(2):
        assert command(monkeypatch, compiled, "-o", repository) == 0
    assert capsys.readouterr().out.split() == [str(repository / "net_dtd")] * 2
    found = sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file())
    assert found == ["net_dtd/1/model.onnx", "net_dtd/1/net.bin", "net_dtd/config.pbtxt"]
    (repository / "net_dtd" / "2").mkdir()
    assert command(monkeypatch, compiled, "-o", repository) == 2
    assert "net_dtd: has other files in it; choose another --name" in capsys.readouterr().err
    assert (repository / "net_dtd" / "2").is_dir()
    x = np.ones((2, 400), np.float32)
    asked = [onnxdtd.Explainer(path)(x).relevance["x"] for path in (compiled, repository / "net_dtd" / "1" / "model.onnx")]
    np.testing.assert_array_equal(*asked)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--name", "../x"], "--name '../x'"), (["--batch", "-1"], "--batch and --delay"), ([], "not compiled by onnxdtd")],
)
def test_what_cannot_be_is_said_in_a_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    onnx.save(linear(), tmp_path / "net.onnx")
    assert command(monkeypatch, tmp_path / "net.onnx", "-o", tmp_path / "all", *arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "all").exists()
