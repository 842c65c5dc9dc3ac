"""An ONNX classifier as a PyTorch module, for libraries that explain those: its initializers in ``torch.nn`` layers.

ONNX Runtime folds constants and merges biases and BatchNormalization into the layers first, which leaves few operators. What
PyTorch explainers must be able to hook (layers, poolings, activations, sums of two branches) are modules; what only moves
entries is code between them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxdtd.graph.slices import sliced

Attributes = dict[str, Any]
Constants = dict[str, np.ndarray]
ACTIVATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "Relu": torch.nn.ReLU,
    "Sigmoid": torch.nn.Sigmoid,
    "Tanh": torch.nn.Tanh,
    "HardSwish": torch.nn.Hardswish,
}
CONVOLUTIONS = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}
AVERAGES = {1: torch.nn.AvgPool1d, 2: torch.nn.AvgPool2d, 3: torch.nn.AvgPool3d}
MAXIMA = {1: torch.nn.MaxPool1d, 2: torch.nn.MaxPool2d, 3: torch.nn.MaxPool3d}
GLOBAL = {1: torch.nn.AdaptiveAvgPool1d, 2: torch.nn.AdaptiveAvgPool2d, 3: torch.nn.AdaptiveAvgPool3d}
GLOBAL_MAX = {1: torch.nn.AdaptiveMaxPool1d, 2: torch.nn.AdaptiveMaxPool2d, 3: torch.nn.AdaptiveMaxPool3d}
NORMS = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}


class Affine(torch.nn.Module):
    """x · factor + shift, entry by entry."""

    def __init__(self, factor: np.ndarray, shift: np.ndarray):
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor))
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the predictor computes."""
        return x * self.factor + self.shift


class Preprocessing(Affine):
    """The same before anything has mixed the entries of the input."""


@dataclass
class Call:
    """One node: what computes ``output`` from ``inputs``."""

    run: Callable[..., torch.Tensor]
    inputs: list[str]
    output: str


class Rebuilt(torch.nn.Module):
    """The classifier up to its logits. ``add`` makes the modules that add two branches."""

    def __init__(self, model: ModelProto, logits: str, add: Callable[[], torch.nn.Module]):
        super().__init__()
        graph = folded(model, logits).graph
        constants = {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in [*graph.value_info, *graph.input, *graph.output]}
        self.layers = torch.nn.ModuleList()
        self.calls: list[Call] = []
        self.input = next(value.name for value in graph.input if value.name not in constants)
        self.output = logits
        raw = {self.input}  # what nothing has mixed yet
        gates = gates_of(graph.node, constants)
        for node in graph.node:
            attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                constants[node.output[0]] = np.array(numpy_helper.to_array(attrs["value"]))
                continue
            if node.output[0] in gates:
                run: Callable[..., torch.Tensor] = torch.sigmoid
            elif gates.intersection(node.input):
                run = Gated(gates.issuperset(node.input[:1]))
            else:
                run = layer(node, attrs, constants, ranks.get(node.input[0], 0), add)
            before = self.calls[-1] if self.calls and self.calls[-1].output == node.input[0] else None
            if isinstance(run, NORMS[2] | NORMS[4]) and before and isinstance(before.run, torch.nn.Linear):
                merge(before.run, run)
                before.output = node.output[0]
                continue
            inputs = [name for name in node.input if name and name not in constants]
            if raw.issuperset(inputs) and (isinstance(run, Affine) or not isinstance(run, torch.nn.Module)):
                raw.add(node.output[0])
                if isinstance(run, Affine):
                    run.__class__ = Preprocessing
            if isinstance(run, torch.nn.Module):
                self.layers.append(run)
            self.calls.append(Call(run, inputs, node.output[0]))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits."""
        values = {self.input: x}
        for call in self.calls:
            values[call.output] = call.run(*[values[name] for name in call.inputs])
        return values[self.output]


@dataclass
class Gated:
    """x · gate, through which relevance passes unchanged: the gate counts as a constant."""

    gate_first: bool

    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The product, with the derivative 1 by x and 0 by the gate."""
        x = b if self.gate_first else a
        return x + (a * b - x).detach()


def gates_of(nodes: Sequence[NodeProto], constants: Constants) -> set[str]:
    """The sigmoids that another activation is multiplied by, and nothing else reads."""
    sigmoids = {node.output[0] for node in nodes if node.op_type == "Sigmoid"}
    readers = {name: [node for node in nodes if name in node.input] for name in sigmoids}
    return {
        name
        for name, found in readers.items()
        if all(node.op_type == "Mul" and not constants.keys() & set(node.input) for node in found)
    }


def folded(model: ModelProto, logits: str) -> ModelProto:
    """The part of the model that ends in ``logits``, for a batch of one, with constants folded and layers merged."""
    made = sliced(model, [], {logits: TensorProto.FLOAT})
    known = {tensor.name for tensor in made.graph.initializer}
    for value in [value for value in made.graph.input if value.name in known]:
        made.graph.input.remove(value)  # old exporters list initializers as inputs, and what is listed is not constant
    for value in made.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].dim_value = 1
    made.ir_version = max(made.ir_version, 8)
    made = onnx.shape_inference.infer_shapes(made)
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath, options.log_severity_level = str(Path(folder, "folded.onnx")), 3
        ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.shape_inference.infer_shapes(onnx.load(options.optimized_model_filepath))


def merge(dense: torch.nn.Linear, norm: Any) -> None:
    """Put the BatchNormalization behind a dense layer into it. ONNX Runtime does so for convolutions only."""
    factor = norm.weight.data / torch.sqrt(norm.running_var + norm.eps)
    dense.weight.data *= factor[:, None]
    bias = torch.zeros(len(factor)) if dense.bias is None else dense.bias.data
    dense.bias = torch.nn.Parameter((bias - norm.running_mean) * factor + norm.bias.data)


def layer(
    node: NodeProto, attrs: Attributes, constants: Constants, rank: int, add: Callable[[], torch.nn.Module]
) -> Callable[..., torch.Tensor]:
    """What a node does: a module where it has weights, averages, takes maxima or is an activation; else a function."""
    values = [constants.get(name) for name in node.input]
    if node.op_type in ACTIVATIONS:
        return ACTIVATIONS[node.op_type]()
    if node.op_type in ("Add", "Sub", "Mul", "Div"):
        return _arithmetic(node.op_type, values, add)
    if node.op_type not in LAYERS:
        raise NotImplementedError(f"{node.op_type} {node.name!r}: no PyTorch layer for it here")
    return LAYERS[node.op_type](attrs, values, rank)


def _arithmetic(op: str, values: Sequence[np.ndarray | None], add: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    if all(value is None for value in values):
        if op != "Add":
            raise NotImplementedError(f"{op} of two activations")
        return add()
    (constant,) = (value for value in values if value is not None)
    if values[0] is not None and op in ("Sub", "Div"):
        raise NotImplementedError(f"{op} from a constant")
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    factor, shift = {"Add": (one, constant), "Sub": (one, -constant), "Mul": (constant, zero), "Div": (1 / constant, zero)}[op]
    return Affine(factor, shift)


def _convolution(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> Callable[..., torch.Tensor]:
    weight, bias = values[1], values[2] if len(values) > 2 else None
    assert weight is not None
    groups, space = attrs.get("group", 1), weight.ndim - 2
    shape = (weight.shape[1] * groups, weight.shape[0], weight.shape[2:])
    options = {name: tuple(attrs.get(key, [1] * space)) for name, key in (("stride", "strides"), ("dilation", "dilations"))}
    begin, end = _pads(attrs, space, weight.shape[2:])
    made = CONVOLUTIONS[space](*shape, groups=groups, bias=bias is not None, **options)
    if begin == end:
        made.padding = tuple(begin)
        made._reversed_padding_repeated_twice = [p for p in begin[::-1] for _ in range(2)]
    return _padded(_filled(made, weight, bias), begin, end, 0.0)


def _pads(attrs: Attributes, space: int, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Widths in front and behind. SAME for stride 1 only, where it does not depend on the size of the input."""
    if attrs.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        if any(stride != 1 for stride in attrs.get("strides", [])):
            raise NotImplementedError("auto_pad with strides")
        total = [size - 1 for size in kernel]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        return (small, large) if attrs["auto_pad"] == b"SAME_UPPER" else (large, small)
    pads = list(attrs.get("pads", [0] * 2 * space))
    return pads[:space], pads[space:]


class Padded(torch.nn.Sequential):
    """A layer behind padding that it cannot do itself."""

    def __init__(self, made: torch.nn.Module, widths: list[int], fill: float):
        super().__init__(made)
        self.widths, self.fill = widths, fill

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pad, then the layer."""
        return super().forward(torch.nn.functional.pad(x, self.widths, value=self.fill))


def _padded(made: torch.nn.Module, begin: Sequence[int], end: Sequence[int], fill: float) -> torch.nn.Module:
    if list(begin) == list(end):
        return made
    widths = [width for pair in zip(begin[::-1], end[::-1], strict=True) for width in pair]
    return Padded(made, widths, fill)


def _filled(made: Any, weight: np.ndarray, bias: np.ndarray | None) -> torch.nn.Module:
    made.weight.data = torch.tensor(np.ascontiguousarray(weight))
    if bias is not None:
        made.bias.data = torch.tensor(bias.reshape(-1))
    return made


def _dense(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> torch.nn.Module:
    weight, bias = values[1], values[2] if len(values) > 2 else None
    assert weight is not None
    assert not attrs.get("transA")
    weight = (weight if attrs.get("transB") else weight.T) * np.float32(attrs.get("alpha", 1.0))
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1) * np.float32(attrs.get("beta", 1.0)), weight.shape[:1]).copy()
    return _filled(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None), weight, bias)


def _average(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> Callable[..., torch.Tensor]:
    kernel, space = attrs["kernel_shape"], len(attrs["kernel_shape"])
    begin, end = _pads(attrs, space, kernel)
    assert begin == end
    options = {"ceil_mode": bool(attrs.get("ceil_mode")), "count_include_pad": bool(attrs.get("count_include_pad"))}
    return AVERAGES[space](tuple(kernel), tuple(attrs.get("strides", [1] * space)), tuple(begin), **options)


def _maximum(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> Callable[..., torch.Tensor]:
    kernel, space = attrs["kernel_shape"], len(attrs["kernel_shape"])
    begin, end = _pads(attrs, space, kernel)
    same = begin == end
    options = {"ceil_mode": bool(attrs.get("ceil_mode")), "padding": tuple(begin) if same else 0}
    made = MAXIMA[space](tuple(kernel), tuple(attrs.get("strides", [1] * space)), **options)
    return _padded(made, begin, end, float("-inf"))


def _norm(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> torch.nn.Module:
    weight, bias, mean, variance = (torch.tensor(value) for value in values[1:])
    made = NORMS[rank](len(weight), eps=attrs.get("epsilon", 1e-5))
    made.weight.data, made.bias.data, made.running_mean, made.running_var = weight, bias, mean, variance
    return made


def _clip(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> torch.nn.Module:
    low, high = (float(v) if v is not None else None for v in values[1:3]) if len(values) > 1 else (attrs["min"], attrs["max"])
    return torch.nn.ReLU6() if (low, high) == (0, 6) else torch.nn.Hardtanh(low, high)


def _reshape(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> Callable[[torch.Tensor], torch.Tensor]:
    assert values[1] is not None
    shape = values[1].tolist()
    return lambda x: x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _pad(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> Callable[[torch.Tensor], torch.Tensor]:
    pads = attrs["pads"] if "pads" in attrs else np.asarray(values[1]).tolist()
    half = len(pads) // 2
    widths = [width for i in reversed(range(half)) for width in (pads[i], pads[half + i])]
    return lambda x: torch.nn.functional.pad(x, widths)


def _axes(attrs: Attributes, values: Sequence[np.ndarray | None]) -> list[int]:
    return [int(axis) for axis in (attrs["axes"] if "axes" in attrs else np.asarray(values[1]).tolist())]


def _squeeze(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> Callable[[torch.Tensor], torch.Tensor]:
    axes = _axes(attrs, values)
    return lambda x: x.squeeze(tuple(axes))


def _unsqueeze(attrs: Attributes, values: Sequence[np.ndarray | None], rank: int) -> Callable[[torch.Tensor], torch.Tensor]:
    axes = sorted(_axes(attrs, values))

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis in axes:
            x = x.unsqueeze(axis)
        return x

    return run


LAYERS: dict[str, Callable[[Attributes, Sequence[np.ndarray | None], int], Callable[..., torch.Tensor]]] = {
    "Conv": _convolution,
    "Gemm": _dense,
    "MatMul": _dense,
    "AveragePool": _average,
    "MaxPool": _maximum,
    "GlobalAveragePool": lambda attrs, values, rank: GLOBAL[rank - 2](1),
    "GlobalMaxPool": lambda attrs, values, rank: GLOBAL_MAX[rank - 2](1),
    "BatchNormalization": _norm,
    "Clip": _clip,
    "Reshape": _reshape,
    "Flatten": lambda attrs, values, rank: lambda x: x.flatten(attrs.get("axis", 1)),
    "Transpose": lambda attrs, values, rank: lambda x: x.permute(attrs["perm"]),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": lambda attrs, values, rank: lambda *parts: torch.cat(parts, attrs["axis"]),
    "Pad": _pad,
    "Identity": lambda attrs, values, rank: lambda x: x,
    "Dropout": lambda attrs, values, rank: lambda x: x,
}
