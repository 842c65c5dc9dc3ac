"""Small ONNX models for tests, and what to run them with.

Test data are small integers or multiples of 1/8. Their sums and products are exact even in float32, so that a linear map
and its adjoint can be compared for equality, and a denominator that is 0 is exactly 0.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import assume
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnxdtd.data.forms import Form
from onnxdtd.data.preprocessing import checked
from onnxdtd.graph import normal, shapes
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.portable import SPELLED
from onnxdtd.graph.tensors import Tensor

Shape = Sequence[int | str | None]


def form(
    shape: Sequence[Any], low: Any = None, high: Any = None, name: str = "x", channel: int | None = None, **preprocessing: Any
) -> Form:
    """The form of samples of ``shape``, whose channels are where the shape says, or along the axis ``channel``."""
    known = None if channel is None else channel + 1
    return Form.of(name, ["n", *shape], 0, known, (low, high), checked(preprocessing))


FLOAT = np.dtype(np.float32)
DOUBLE = np.dtype(np.float64)


def node(op: str, inputs: str, outputs: str, **attrs: Any) -> NodeProto:
    """A node with its inputs and outputs as words; ``_`` is an optional input left out."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), name=outputs.split()[0] + "_node", **attrs)


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    dtype: np.dtype = FLOAT,
    opset: int = 17,
) -> ModelProto:
    """A model with float inputs of these shapes (None: of unknown rank); its outputs get the shapes that onnx infers."""
    elem = helper.np_dtype_to_tensor_dtype(dtype)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, elem, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    del proto.graph.output[:]
    proto.graph.output.extend(inferred.graph.output)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def symbolic(shape: Sequence[int], axes: Sequence[int] | None = None) -> list[int | str]:
    """``shape`` with names for the sizes of ``axes``, by default of all but axis 1."""
    chosen = [i for i in range(len(shape)) if i != 1] if axes is None else axes
    return [f"d{i}" if i in chosen else size for i, size in enumerate(shape)]


def spans(size: int, kernel: int, stride: int, dilation: int, before: int, after: int, ceil: bool) -> list[list[int]]:
    """The entries of each window along one axis; a window that starts in the padding behind the data does not count."""
    extent = dilation * (kernel - 1) + 1
    last = size + before + after - extent + (stride - 1 if ceil else 0)
    starts = [start for start in range(0, last + 1, stride) if not ceil or start < size + before]
    return [[i for k in range(kernel) if 0 <= (i := s - before + k * dilation) < size] for s in starts]


def pool_windows(shape: Sequence[int], attrs: dict[str, Any]) -> list[list[int]]:
    """The entries of x [n, c, ...], row by row, in each window of a MaxPool, in the order of the outputs."""
    kernel, rank = attrs["kernel_shape"], len(shape) - 2
    strides, dilations = (attrs.get(name, [1] * rank) for name in ("strides", "dilations"))
    pads = list(attrs.get("pads", [0] * 2 * rank))
    auto = attrs.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        for i, (n, k, s) in enumerate(zip(shape[2:], kernel, strides, strict=True)):
            more = max((-(-n // s) - 1) * s + k - n, 0)
            pads[i], pads[i + rank] = (more // 2, -(-more // 2)) if auto == "SAME_UPPER" else (-(-more // 2), more // 2)
    ceil = bool(attrs.get("ceil_mode"))
    axes = [spans(*sizes, ceil) for sizes in zip(shape[2:], kernel, strides, dilations, pads[:rank], pads[rank:], strict=True)]
    numbers = np.arange(np.prod(shape)).reshape(shape)
    return [
        [numbers[(n, c, *place)] for place in product(*places)]
        for n, c in product(range(shape[0]), range(shape[1]))
        for places in product(*axes)
    ]


class Session:
    """A model in ONNX Runtime, called with arrays by input name; gives arrays by output name. Where what the runtime makes
    of nodes is not asked, it need not ``optimise`` them, which takes longer than to run them.
    """

    def __init__(self, proto: ModelProto, optimise: bool = True):
        options = ort.SessionOptions()
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, **feeds: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self._names, self._session.run(None, feeds), strict=True))


def run(proto: ModelProto, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    return Session(proto)(**feeds)


class Bench:
    """A model on the compiler's workbench: its graph, an Emit on it, and a way to run what was emitted; ``portable`` is it
    without what few runtimes have.
    """

    def __init__(self, proto: ModelProto, portable: bool = False):
        self.proto = ModelProto()
        self.proto.CopyFrom(proto)
        normal.normalise(self.proto)
        self.graph = shapes.graph(self.proto)
        self.e = Emit(self.graph, spelled=SPELLED if portable else None)
        self.tensors = self.graph.tensors()
        self.nodes = list(self.graph.nodes)
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, like: Tensor) -> Tensor:
        """A further input of the model, of the shape and type of ``like``."""
        elem = helper.np_dtype_to_tensor_dtype(np.dtype(like.dtype))
        self._inputs.append(helper.make_tensor_value_info(name, elem, like.shape))
        return Tensor(name, dtype=like.dtype, shape=like.shape)

    def session(self, outputs: Mapping[str, Tensor]) -> Session:
        """The model with ``outputs`` added under these names."""
        proto = ModelProto()
        proto.CopyFrom(self.proto)
        proto.graph.input.extend(self._inputs)
        nodes, constants = self.e.live(list(outputs.values()))
        proto.graph.node.extend(nodes)
        proto.graph.initializer.extend(constants)
        for name, tensor in outputs.items():
            proto.graph.node.append(helper.make_node("Identity", [tensor.name], [name]))
            elem = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
            proto.graph.output.append(helper.make_tensor_value_info(name, elem, None))
        return Session(proto, optimise=False)


def integers(rng: np.random.Generator, *shape: int, low: int = -4, high: int = 4, dtype: np.dtype = FLOAT) -> np.ndarray:
    """Integers from low to high, as floats."""
    return rng.integers(low, high + 1, shape).astype(dtype)


def eighths(rng: np.random.Generator, *shape: int, low: float = -1, high: float = 1, dtype: np.dtype = FLOAT) -> np.ndarray:
    """Multiples of 1/8 from low to high."""
    return (rng.integers(round(low * 8), round(high * 8) + 1, shape) / 8).astype(dtype)


def assert_near(actual: np.ndarray, expected: np.ndarray, rtol: float) -> None:
    """Equal to within ``rtol`` of the largest value expected, and of one shape; NaN is never right."""
    expected = np.asarray(expected)
    assert actual.shape == expected.shape, f"{actual.shape} is not {expected.shape}"
    assert np.isfinite(actual).all(), "not finite"
    worst = np.abs(actual.astype(np.float64) - expected).max(initial=0)
    largest = np.abs(expected).max(initial=0)
    assert worst <= rtol * largest, f"off by {worst:.3g}, where the largest value is {largest:.3g}"


@st.composite
def geometries(draw: st.DrawFn, dilated: bool = True) -> tuple[list[int], list[int], dict[str, Any]]:
    """Sizes, kernel and attributes of a window of 1 to 3 dimensions that fits at least once."""
    rank = draw(st.integers(1, 3))
    numbers = lambda low, high: draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))
    kernel, strides, size = numbers(1, 3), numbers(1, 3), numbers(1, 9 - 2 * rank)
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    attrs: dict[str, Any] = {"strides": strides}
    extent = kernel
    if auto in ("NOTSET", "VALID") and dilated:
        attrs["dilations"] = numbers(1, 2)
        extent = [d * (k - 1) + 1 for d, k in zip(attrs["dilations"], kernel, strict=True)]
    pads = [0] * 2 * rank
    if auto == "NOTSET":
        pads = [min(pad, k - 1) for pad, k in zip(numbers(0, 2) + numbers(0, 2), kernel * 2, strict=True)]
        attrs["pads"] = pads
    else:
        attrs["auto_pad"] = auto
    if not auto.startswith("SAME"):
        spare = [n + b + a - e for n, b, a, e in zip(size, pads[:rank], pads[rank:], extent, strict=True)]
        assume(min(spare) >= 0)
    return size, kernel, attrs
