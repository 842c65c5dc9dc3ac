"""The node builder. Asking twice for the same operator on the same inputs gives the same tensor, so nothing is built twice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, overload

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxdtd.graph import kernels
from onnxdtd.graph.tensors import Graph, Node, Shape, Tensor, Times, Value

# Operators whose result is not of the type of their first input. Cast names its own.
RESULT_TYPES = dict.fromkeys(("Shape", "Size", "ArgMax", "ArgMin"), np.int64) | dict.fromkeys(
    ("Equal", "Less", "Greater", "GreaterOrEqual", "And"), np.bool_
)


# Arithmetic of sizes, for those that are known.
WHOLE: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Max": np.maximum,
    "Gather": np.take,
    "Concat": lambda *parts: np.concatenate(parts),
}
MANY = 1000  # views
# Of one term: reads what the predictor has in half precision. It has a kernel for that on GPUs and none on the CPU, where ONNX
# Runtime rounds nothing to half round a node whose neighbours all lack such kernels. A Cast or a Shape has one, and beside such
# a node would bring the rounding back, with other logits than the source's.
READER = "Sum"


def _is_half(value: Any) -> bool:
    return isinstance(value, Tensor) and isinstance(value.dtype, np.dtype | type) and np.dtype(value.dtype) == np.float16


def dims(tensor: Tensor) -> list[int | None] | None:
    """The shape with None for each size unknown before run time, or None where not even the rank is known."""
    return None if tensor.shape is None else [d if isinstance(d, int) and d >= 0 else None for d in tensor.shape]


def known(sizes: Sequence[int | None] | None) -> list[int] | None:
    """``sizes`` if every one is a number, else None."""
    return None if sizes is None or any(d is None for d in sizes) else [int(d) for d in sizes if d is not None]


def wide(dtype: Any) -> Any:
    """The type to compute relevance in: float32 for half precision, whose range relevance would leave, else the same."""
    return np.dtype(np.float32) if np.dtype(dtype).itemsize < 4 else np.dtype(dtype)


def label(node: Node) -> str:
    """What a person calls this node: its name, or that of its first output where the exporter gave none."""
    return node.name or next((t.name for t in node.outputs if t.name), node.op)


class Emit:
    """Appends nodes to a graph: ``e("Mul", a, b)`` is the product, a new tensor or one that exists already.

    Inputs are tensors, None (an optional input left out), a number (takes the type of the first tensor) or a list of
    integers. New nodes are named after the step that they belong to (``within``). What the predictor computed in half
    precision is read as float32: relevance leaves the range of float16, and its sums need more than three digits. ``inputs``
    are those that a caller feeds, by default all of the graph. What is ``spelled`` is not to be used: what takes its place may
    be given for it.
    """

    def __init__(
        self,
        graph: Graph,
        taken: Iterable[str] = (),
        inputs: Collection[str] | None = None,
        spelled: Mapping[str, Callable[..., Tensor | None] | None] | None = None,
    ):
        self.scope = "onnxdtd"
        self.measure: Callable[[Tensor], Sequence[int | Times | None] | None] = lambda tensor: None  # told once it is known
        self.spelled = spelled or {}
        self.opset = graph.opset
        self.nodes: list[Node] = list(graph.views)
        taken = {*taken}
        self.constants: dict[str, Tensor] = {t.name: t for t in graph.constants if t.name not in taken}
        self._taken = {*taken, *graph.tensors(), *(node.name for node in graph.nodes)}
        self._numbered: dict[str, int] = {}  # how far the names with a number behind them are taken
        self._cache: dict[Any, list[Tensor]] = {}
        self.givers: dict[str, Node] = {}  # of what was built, by name
        self.copies: dict[tuple[str, str], Tensor] = {}  # what else a tensor is, by what copies it and by its name
        self._shapes: dict[str, tuple[Any, list[int | str | None]]] = {}
        self._outputs = {t.name for t in graph.outputs}
        self._is_long = len(graph.views) > MANY
        self._misjudged = {name: _ends(t, axes) for name, t in graph.tensors().items() if (axes := graph.misjudged.get(name))}
        self._sizes = _names_of_sizes([t for t in graph.inputs if inputs is None or t.name in inputs])
        for node in graph.nodes:  # what the predictor computes already is used again
            if len(node.outputs) == 1 and not node.domain and node.op not in ("Constant", "If", "Loop", "Scan"):
                self._cache.setdefault(_key(node.op, node.inputs, node.attrs, 1), node.outputs)

    def __call__(self, op: str, *inputs: Any, dtype: Any = None, shape: Shape | None = None, **attrs: Any) -> Tensor:
        """The output of an operator with one output, of ``dtype`` (by default what ``RESULT_TYPES`` says) and ``shape``."""
        (result,) = self.multi(op, [dtype], *inputs, **attrs)
        if result.shape is None:
            result.shape = shape
        return result

    def multi(self, op: str, dtypes: Sequence[Any], *inputs: Any, **attrs: Any) -> list[Tensor]:
        """The outputs of an operator, of ``dtypes``, where None stands for what ``RESULT_TYPES`` says."""
        if op != READER:
            inputs = tuple(self._readable(op, t, attrs) if _is_half(t) else t for t in inputs)
        dtype = next((t.dtype for t in inputs if isinstance(t, Tensor) and t.dtype != np.bool_), np.dtype(np.float32))
        tensors = [self._tensor(value, dtype) for value in inputs]
        key = _key(op, tensors, attrs, len(dtypes))
        if key not in self._cache and any(t.name in self._misjudged for t in tensors):
            tensors = [self.cut(t, self._misjudged.get(t.name, {})) for t in tensors]
            key = _key(op, tensors, attrs, len(dtypes))
        if key not in self._cache:
            speller = self.spelled.get(op)
            instead = None if speller is None else speller(self, *tensors, **attrs)
            self._cache[key] = self._append(op, tensors, attrs, dtypes) if instead is None else [instead]
        return self._cache[key]

    def _readable(self, op: str, half: Tensor, attrs: dict[str, Any]) -> Tensor:
        """A tensor in half precision as an operator may read it."""
        if op != "Cast":
            return self.cast(half, wide(half.dtype), half.shape)
        theirs = half.producer is not None and half.producer.op != "Constant" and half.name not in self.givers
        return self(READER, half, shape=half.shape) if theirs and _key(op, [half], attrs, 1) not in self._cache else half

    def again(self, node: Node, inputs: Sequence[Tensor], shapes: Sequence[Shape | None]) -> list[Tensor]:
        """What a node of the predictor gives for other inputs, of ``shapes``, in the types that it computes in. Of nodes that
        are there twice both have a copy, since each has a gradient of its own; what becomes of a result becomes of its copy.
        """
        domain = "" if node.domain in ("", "ai.onnx", None) else node.domain
        made = self._append(node.op, list(inputs), node.attrs, [t.dtype for t in node.outputs], domain)
        for tensor, own, shape in zip(made, node.outputs, shapes, strict=True):
            tensor.name, tensor.shape = "" if own.left_out else tensor.name, shape
            tensor.readers = own.readers
            if own.name in self._misjudged:
                self._misjudged[tensor.name] = self._misjudged[own.name]
        return made

    def cut(self, tensor: Tensor, sizes: Mapping[int, int]) -> Tensor:
        """A tensor as it is, for runtimes that have another idea of its sizes along some axes before they run."""
        if not sizes:
            return tensor
        rows = [0] * len(sizes), list(sizes.values()), list(sizes)
        numbers = [self.constant(np.asarray(row, np.int64)) for row in rows]
        key = _key("Slice", [tensor, *numbers], {}, 1)
        if key not in self._cache:
            self._cache[key] = self._append("Slice", [tensor, *numbers], {}, [None])
            self._cache[key][0].shape = tensor.shape
        return self._cache[key][0]

    def offers(self, op: str) -> bool:
        """Is an operator to be had everywhere, on GPUs too? Who can do without one that is not does so."""
        return self.spelled[op] is not None if op in self.spelled else kernels.offered(op, self.opset)

    @contextmanager
    def within(self, scope: str) -> Iterator[None]:
        """What is built inside is named after ``scope``."""
        before, self.scope = self.scope, scope
        try:
            yield
        finally:
            self.scope = before

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Whatever is built inside is forgotten behind it, and may be built again, under the same names."""
        nodes, constants, taken = len(self.nodes), dict(self.constants), set(self._taken)
        cache, shapes, numbered, copies = dict(self._cache), dict(self._shapes), dict(self._numbered), dict(self.copies)
        try:
            yield
        finally:
            del self.nodes[nodes:]
            self.constants, self._taken, self._cache, self._shapes = constants, taken, cache, shapes
            self._numbered, self.copies = numbered, copies

    def _append(
        self, op: str, inputs: list[Tensor], attrs: dict[str, Any], dtypes: Sequence[Any], domain: str = ""
    ) -> list[Tensor]:
        name = self.unique(f"dtd/{self.scope}/{op}")
        usual = RESULT_TYPES.get(op, inputs[1 if op == "Where" else 0].dtype)
        if op == "Cast":
            usual = helper.tensor_dtype_to_np_dtype(attrs["to"])
        names = [f"{name}:{i}" if i else name for i in range(len(dtypes))]
        results = [Tensor(own, usual if dtype is None else dtype) for own, dtype in zip(names, dtypes, strict=True)]
        self.nodes.append(Node(op, name, inputs, results, attrs, domain))
        self.givers.update(dict.fromkeys([t.name for t in results], self.nodes[-1]))
        return results

    def named(self, tensor: Tensor, name: str, shape: Shape | None) -> Tensor:
        """``tensor`` under a name of its own, for an output of ``shape``; two outputs may well be the same tensor."""
        (result,) = self._append("Identity", [tensor], {}, [None])
        result.name, result.shape = name, shape
        return result

    def unique(self, name: str) -> str:
        """``name``, numbered if the graph has it already."""
        candidate, number = name, self._numbered.get(name, 1)
        while candidate in self._taken:
            candidate, number = f"{name}_{number}", number + 1
        self._taken.add(candidate)
        self._numbered[name] = number
        return candidate

    def _tensor(self, value: Any, dtype: Any) -> Tensor:
        if isinstance(value, Tensor):
            return value
        if value is None:
            return Tensor("")
        if isinstance(value, float):
            return self.constant(np.asarray(value, dtype))
        return self.constant(np.asarray(value, np.int64))

    def constant(self, array: np.ndarray) -> Tensor:
        """An initializer; equal arrays share one."""
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._cache:
            content = array.tolist() if array.size <= 4 else array.tobytes().hex()[:16]
            name = self.unique(f"dtd/constant/{array.dtype}/{content}".replace(" ", ""))
            self.constants[name] = Tensor(name, array.dtype, array.shape, array)
            self._cache[key] = [self.constants[name]]
        return self._cache[key][0]

    # Arithmetic on tensors and numbers; the numbers fold away.

    @overload
    def mul(self, a: Tensor, b: Value) -> Tensor: ...

    @overload
    def mul(self, a: Value, b: Tensor) -> Tensor: ...

    @overload
    def mul(self, a: Value, b: Value) -> Value: ...

    def mul(self, a: Value, b: Value) -> Value:
        """a · b"""
        if isinstance(a, float) and isinstance(b, float):
            return a * b
        for number, other in ((a, b), (b, a)):
            if isinstance(number, float) and number == 1.0:
                return other
            if isinstance(number, float) and number == -1.0:
                return self("Neg", other)
        return self("Mul", b, a) if isinstance(a, float) else self("Mul", a, b)

    @overload
    def add(self, a: Tensor, b: Value) -> Tensor: ...

    @overload
    def add(self, a: Value, b: Value) -> Value: ...

    def add(self, a: Value, b: Value) -> Value:
        """a + b"""
        if isinstance(a, float) and isinstance(b, float):
            return a + b
        for number, other in ((a, b), (b, a)):
            if isinstance(number, float) and number == 0.0:
                return other
        return self("Add", b, a) if isinstance(a, float) else self("Add", a, b)

    def sub(self, a: Tensor, b: Tensor) -> Tensor:
        """a − b"""
        return a if b.values is not None and not b.values.any() else self("Sub", a, b)

    def finite(self, tensor: Tensor) -> Tensor:
        """A tensor that may be infinite where nothing of it is taken: not so where a choice is spelled as a sum of products."""
        if "Where" not in self.spelled:
            return tensor
        most = np.finfo(tensor.dtype).max
        return self("Clip", tensor, *(self.constant(np.asarray(end)) for end in (-most, most)), shape=tensor.shape)

    def equal(self, a: Tensor, b: Tensor | float) -> Tensor:
        """a = b"""
        if self.offers("Equal"):
            return self("Equal", a, b)
        return self("And", self("GreaterOrEqual", a, b), self("GreaterOrEqual", b, a))

    @overload
    def sum(self, values: Sequence[Tensor]) -> Tensor: ...

    @overload
    def sum(self, values: Sequence[Value]) -> Value: ...

    def sum(self, values: Sequence[Value]) -> Value:
        """The sum of at least one value."""
        total = values[0]
        for value in values[1:]:
            total = self.add(total, value)
        return total

    # Shapes: a constant where they are known, nodes where they are not; no caller needs to ask which.

    def shape(self, tensor: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """The sizes of axes ``start`` to ``end``, int64."""
        sizes = dims(tensor)
        part = known(sizes[start:end]) if sizes is not None else None
        if part is not None:
            return self.constant(np.asarray(part, np.int64))
        # By the sizes of inputs, which are there in any case, where that is possible: so no tensor is kept for its shape alone.
        found = None if tensor.name in self._misjudged else self.measure(tensor)
        measured = [None] if found is None else found[start:end]
        if any(size is None or (isinstance(size, tuple) and size[1] is tensor) for size in measured):
            return self("Shape", tensor, start=start, **_given(end=end))
        parts = [self._size(size) for size in measured if size is not None]
        return self.whole("Concat", *parts) if len(parts) > 1 else parts[0]

    def _size(self, size: int | Times) -> Tensor:
        """A size, int64 of shape [1]"""
        if isinstance(size, int):
            return self.constant(np.asarray([size], np.int64))
        number, tensor, axis = size
        along = self("Shape", tensor, start=axis, end=axis + 1, shape=[1])
        return along if number == 1 else self("Mul", along, self.constant(np.asarray([number], np.int64)), shape=[1])

    def size(self, tensor: Tensor) -> Tensor:
        """The number of elements, int64 of shape [1]."""
        sizes = known(dims(tensor))
        if sizes is not None:
            return self.constant(np.asarray([np.prod(sizes, dtype=np.int64)]))
        return self("Reshape", self("Size", tensor), [1])

    def whole(self, op: str, *values: Any) -> Tensor:
        """An operator of ``WHOLE`` on sizes, int64 of shape [n]: a constant where all of them are known."""
        tensors = [self._tensor(value, np.int64) for value in values]
        arrays = [t.values for t in tensors if t.values is not None]
        if len(arrays) == len(tensors):
            return self.constant(np.asarray(WHOLE[op](*arrays), np.int64))
        return self(op, *tensors, axis=0) if op == "Concat" else self(op, *tensors)

    def full(self, value: float, shape: Tensor, dtype: Any) -> Tensor:
        """A tensor of ``shape`` filled with ``value``; a node, so that its size does not burden the file."""
        return self("Expand", self.constant(np.asarray(value, dtype)), shape)

    def framed(self, tensor: Tensor, widths: Sequence[int]) -> Tensor:
        """``tensor`` with zeros before and after each axis, so many as ``widths`` has, in the order of a Pad."""
        if self.offers("Pad"):
            return self("Pad", tensor, list(widths))
        rank = len(widths) // 2
        for axis, (before, after) in enumerate(zip(widths[:rank], widths[rank:], strict=True)):
            if min(before, after) < 0:  # as many are taken away
                end = min(after, 0) or np.iinfo(np.int64).max
                cut = self.constant(np.asarray([end]))
                tensor = self("Slice", tensor, [max(-before, 0)], cut, [axis], shape=[None] * rank)
            left, right = self("Shape", tensor, start=0, end=axis), self("Shape", tensor, start=axis + 1)
            sizes = [
                self("Concat", left, self.constant(np.asarray([size])), right, axis=0) for size in (before, after) if size > 0
            ]
            zeros = [self.full(0.0, size, tensor.dtype) for size in sizes]
            if zeros:
                tensor = self("Concat", *zeros[: before > 0], tensor, *zeros[before > 0 :], axis=axis, shape=[None] * rank)
        return tensor

    def cast(self, tensor: Tensor, dtype: Any, shape: Shape | None = None) -> Tensor:
        """``tensor`` as ``dtype``; a new one is of ``shape``."""
        if tensor.dtype == dtype:
            return tensor
        return self("Cast", tensor, shape=shape, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def unbroadcast(self, gradient: Tensor, shape: Sequence[int | str | None], like: Tensor) -> Tensor:
        """The adjoint of broadcasting ``like`` to ``shape``: sums ``gradient`` over the axes that were repeated.

        A size of 1 is summed unless it is 1 there too. A size of ``like`` that is unknown may turn out to be 1 at run time,
        unless it has the name that the one of ``shape`` has, or that has no name.
        """
        sizes = dims(like)
        assert sizes is not None
        extra = len(shape) - len(sizes)
        if extra:
            gradient = self("ReduceSum", gradient, list(range(extra)), keepdims=0)
        pairs = list(zip(like.shape or (), shape[extra:], strict=True))
        repeated = [i for i, (own, size) in enumerate(pairs) if own == 1 != size]
        gradient = self("ReduceSum", gradient, repeated, keepdims=1) if repeated else gradient
        unsure = [i for i, (own, size) in enumerate(pairs) if isinstance(own, str) and own and size not in (own, None, 1)]
        return self._unrepeated(gradient, like, unsure) if unsure else gradient

    def _unrepeated(self, gradient: Tensor, like: Tensor, axes: Sequence[int]) -> Tensor:
        """Sums over axes along which ``like`` was repeated or not, which is known at run time: n times, once or often.

        Along others the gradient may have other sizes than ``like``, as that of a neuron has one channel.
        """
        sizes: list[Tensor] = []
        for i in range(len(like.shape or ())):
            size = self("Shape", gradient, start=i, end=i + 1)
            if i in axes:
                sizes.append(self.shape(like, i, i + 1))
                sizes.append(self("Div", size, self("Max", sizes[-1], 1)))
            else:
                sizes.append(size)
        times = [axis + i + 1 for i, axis in enumerate(axes)]
        return self("ReduceSum", self("Reshape", gradient, self("Concat", *sizes, axis=0), allowzero=1), times, keepdims=0)

    def of_shape(self, tensor: Tensor, like: Tensor) -> None:
        """Say that a new tensor has the shape of ``like``, for runtimes that lose sight of a batch of unknown size on the way.

        ONNX Runtime leaves a product in its blocked layout, which is for four axes, only where it knows that both factors have
        one shape. Of a long walk, over many views, it looks through all tensors of unknown size for each new one: so 128 steps
        of an LSTM in both directions load in 3 s, not in 38. But it also lets tensors share memory whose sizes have one name:
        nothing is said on the word of an output.
        """
        if like.shape is None or (len(like.shape) != 4 and not self._is_long) or like.name in self._outputs:
            return
        sizes = [size if isinstance(size, int) or size in self._sizes else None for size in like.shape]
        if any(isinstance(size, str) for size in sizes):
            self._shapes[tensor.name] = tensor.dtype, sizes

    def declared(self, nodes: Iterable[NodeProto]) -> Iterator[ValueInfoProto]:
        """What is known of the results of ``nodes``."""
        for name in (name for node in nodes for name in node.output if name in self._shapes):
            dtype, shape = self._shapes[name]
            yield helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    def live(self, outputs: Sequence[Tensor], seed: Tensor | None = None) -> tuple[Iterator[NodeProto], Iterator[TensorProto]]:
        """The nodes, in topological order, and the initializers that ``outputs`` depend on; made one by one, to save memory.

        What depends on ``seed``, the relevance pass, comes last. ONNX Runtime goes back from the outputs and computes first
        the input that stands last in the file: so it follows the relevance, and makes a denominator just before its use.
        """
        wanted, needed = {t.name for t in outputs}, []
        for node in reversed(self.nodes):
            if any(t.name in wanted for t in node.outputs):
                wanted.update(t.name for t in node.inputs if not t.left_out)
                needed.append(node)
        behind = set() if seed is None else {seed.name}
        early: list[Node] = []
        late: list[Node] = []
        for node in reversed(needed):
            depends = any(t.name in behind for t in node.inputs)
            (late if depends else early).append(node)
            behind.update(t.name for t in node.outputs if depends)
        constants = (c for name, c in self.constants.items() if name in wanted)
        return map(_exported, early + late), map(_initializer, constants)


def _initializer(constant: Tensor) -> TensorProto:
    """A constant as it stands in a file."""
    values = np.asarray(constant.values)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    return helper.make_tensor(constant.name, kind, values.shape, values.tobytes(), raw=True)


def _exported(node: Node) -> NodeProto:
    """A node as it stands in a file, where an array among its attributes is a tensor."""
    arrays = {name: numpy_helper.from_array(value) for name, value in node.attrs.items() if isinstance(value, np.ndarray)}
    return OnnxExporter.export_node(replace(node, attrs={**node.attrs, **arrays}) if arrays else node)


def _ends(tensor: Tensor, axes: Sequence[int]) -> dict[int, int]:
    """The sizes along some axes"""
    sizes = dims(tensor) or []
    return {axis: size for axis in axes if (size := sizes[axis]) is not None}


def _given(**attrs: int | None) -> dict[str, Any]:
    """The attributes that are not left out."""
    return {name: value for name, value in attrs.items() if value is not None}


def _names_of_sizes(inputs: Sequence[Tensor]) -> set[str]:
    """The names of sizes unknown before run time, where all inputs have one batch; else none is to be relied on."""
    shapes = [t.shape or [None] for t in inputs]
    if len({shape[0] for shape in shapes}) != 1:
        return set()
    return {size for shape in shapes for size in shape if isinstance(size, str)}


def _key(op: str, inputs: Sequence[Tensor], attrs: dict[str, Any], outputs: int) -> Any:
    fixed = tuple(sorted((name, repr(value)) for name, value in attrs.items()))
    return op, tuple(t.name for t in inputs), fixed, outputs
