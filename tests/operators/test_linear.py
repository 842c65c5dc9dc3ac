"""Every linear operator against its own definition: <A x, s> = <x, Aᵀ s>, and A x is what the operator computes.

A and Aᵀ are what `onnxdtd.operators.linear` emits, run in ONNX Runtime; the operator itself on the same data is the reference.
Data are small integers, so everything but a mean must agree to the last bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from nets import DOUBLE, FLOAT, Bench, Session, assert_near, geometries, integers, model, node, symbolic
from onnx import ModelProto, NodeProto
from pairs import pairs

from onnxdtd.compiler.compile import prepare
from onnxdtd.graph.emit import Emit
from onnxdtd.operators import windows as lowering
from onnxdtd.operators.layer import Layer, NotLinear, Slot
from onnxdtd.operators.linear import followed_by
from onnxdtd.operators.table import OPERATORS, of
from onnxdtd.request import Request

DYNAMIC = (False, True)  # are the batch and the sizes unknown before run time?
ROUNDING = 2e-6  # float32, relative to the largest value; for what divides, see `Case.exact`


@dataclass(frozen=True)
class Case:
    """One operator: shapes of the inputs that are explained, shapes (or values) of those that are constant."""

    op: str
    x: dict[str, Sequence[int]]
    constants: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    inputs: str = ""  # as the node lists them; by default x, then constants
    batch: int | None = 0  # dynamic in the dynamic variant, as are all axes from 2 on; sizes of 1 stay, they may be repeated
    opset: int = 17
    dtype: np.dtype = FLOAT
    exact: bool = True

    def __str__(self) -> str:
        shapes = ",".join("x".join(map(str, shape)) for shape in self.x.values())
        constants = ",".join(f"{name}{list(np.shape(value))}" for name, value in self.weights().items())
        attrs = ",".join(f"{name}={value}" for name, value in self.attrs.items())
        return f"{self.op} {self.inputs} {shapes} {constants} {attrs}".replace(" ", "_")

    def weights(self) -> dict[str, np.ndarray]:
        """Arrays as they are; a tuple is a shape to fill with integers other than 0."""

        def fill(shape: tuple[int, ...]) -> np.ndarray:
            rng = np.random.default_rng(1)
            return (rng.integers(1, 5, shape) * rng.choice([-1, 1], shape)).astype(self.dtype)

        return {n: fill(value) if isinstance(value, tuple) else np.asarray(value) for n, value in self.constants.items()}

    def model(self, dynamic: bool) -> ModelProto:
        axes = lambda shape: [
            i for i, size in enumerate(shape) if size > 1 and (i == self.batch or (i >= 2 and dynamic is True))
        ]
        shapes = {n: symbolic(shape, axes(shape)) if dynamic else list(shape) for n, shape in self.x.items()}
        inputs = self.inputs or " ".join([*self.x, *self.constants])
        return model([node(self.op, inputs, "y", **self.attrs)], shapes, ["y"], self.weights(), self.dtype, self.opset)


def layer_of(bench: Bench, active: Sequence[str], position: int = 0) -> Layer:
    built = bench.nodes[position]
    return of(built).linear(bench.e, built, lambda tensor: tensor.name in active)


def maps(bench: Bench, layer: Layer, weight: Callable[[Emit, Slot], Any] = lambda e, slot: slot.w) -> Session:
    """A session that gives A x, up to broadcasting, as ``forward``, Aᵀ s for each slot as ``back0`` ..., b as ``bias``."""
    e, outputs = bench.e, {}
    s = bench.input("s", layer.y)
    terms = []
    for i, slot in enumerate(layer.slots):
        w = weight(e, slot)
        terms.append(slot.forward(slot.x, w))
        outputs[f"back{i}"] = slot.adjoint(s, w)
    if layer.b is not None:
        outputs["bias"] = layer.b
    return bench.session({"forward": e.sum(terms), **outputs})


def check_maps(session: Session, reference: Session, slots: Sequence[str], x: dict[str, np.ndarray], rtol: float) -> None:
    """<A x, s> = <x, Aᵀ s> and b, where b = f(0) and A x = f(x) - f(0) of the operator itself."""
    zero = reference(**{name: np.zeros_like(value) for name, value in x.items()})["y"]
    y = reference(**x)["y"].astype(np.float64) - zero
    s = integers(np.random.default_rng(2), *y.shape, dtype=zero.dtype)
    found = session(**x, s=s)
    assert_near(np.broadcast_to(found["forward"], y.shape), y, rtol)
    assert_near(np.broadcast_to(found.get("bias", zero * 0), y.shape), zero, rtol)
    backs = {name: found[f"back{i}"].astype(np.float64) for i, name in enumerate(slots)}
    assert {name: back.shape for name, back in backs.items()} == {name: x[name].shape for name in slots}
    size = sum(np.abs(x[name] * back).sum() for name, back in backs.items())
    assert abs((y * s).sum() - sum((x[name] * back).sum() for name, back in backs.items())) <= rtol * size


def check(case: Case, dynamic: bool) -> None:
    """The maps of a case with its own weights, and, where it has any, with w⁺ in their place."""
    bench = Bench(case.model(dynamic))
    layer = layer_of(bench, list(case.x))
    x = {name: integers(np.random.default_rng(0), *shape, dtype=case.dtype) for name, shape in case.x.items()}
    slots = [slot.x.name for slot in layer.slots]
    rtol = 0 if case.exact else 1e-14 if case.dtype == DOUBLE else ROUNDING
    check_maps(maps(bench, layer), Session(bench.proto), slots, x, rtol)
    weights = case.weights()
    if len(slots) == 1 and layer.slots[0].w is bench.tensors.get("w"):
        positive = replace(case, constants=case.constants | {"w": np.maximum(weights["w"], 0)})
        bench = Bench(case.model(dynamic))
        session = maps(bench, layer_of(bench, slots), lambda e, slot: e("Relu", slot.w))
        check_maps(session, Session(positive.model(dynamic)), slots, x, rtol)


# ---- Conv ------------------------------------------------------------------------------------------------------------


def conv(size: Sequence[int], kernel: Sequence[int], group: int = 1, inputs: int = 2, outputs: int = 4, **attrs: Any) -> Case:
    attrs |= {"group": group} if group > 1 else {}
    return Case("Conv", {"x": (2, inputs, *size)}, {"w": (outputs, inputs // group, *kernel), "b": (outputs,)}, attrs)


def conv_transpose(size: Sequence[int], kernel: Sequence[int], group: int = 1, **attrs: Any) -> Case:
    attrs |= {"group": group} if group > 1 else {}
    return Case("ConvTranspose", {"x": (2, 4, *size)}, {"w": (4, 6 // group, *kernel), "b": (6,)}, attrs)


CONV = [
    *[
        (conv([size], [3], strides=[stride], dilations=[dilation], pads=pads), dynamic)
        for size, stride, dilation, pads, dynamic in pairs([7, 8], [1, 2, 3], [1, 2], [[0, 0], [1, 2], [2, 0]], DYNAMIC)
    ],
    *[
        (conv(size, kernel, strides=strides, auto_pad=auto), dynamic)
        for size, kernel, strides, auto, dynamic in pairs(
            [[7, 8], [8, 7]], [[3, 2], [1, 3]], [[1, 1], [2, 1], [2, 3]], ["SAME_UPPER", "SAME_LOWER", "VALID"], DYNAMIC
        )
    ],
    *[
        (conv([5, 6], [3, 2], group, 4, outputs, strides=strides, pads=[1, 0, 1, 1]), dynamic)
        for (group, outputs), strides, dynamic in pairs([(1, 6), (2, 6), (4, 4), (4, 8)], [[1, 1], [2, 1]], DYNAMIC)
    ],
    *[
        (conv([4, 5, 3], [2, 3, 1], group, 2, 4, strides=strides, pads=[0, 1, 0, 1, 2, 0], dilations=[2, 1, 1]), dynamic)
        for group, strides, dynamic in pairs([1, 2], [[1, 1, 1], [2, 1, 2]], DYNAMIC)
    ],
    *pairs(
        [
            conv([6], [1], pads=[1, 2]),  # more padding than the window reaches: no flipped convolution
            conv([6], [2], strides=[1], pads=[3, 0]),
            conv([5, 5], [1, 1]),
            conv([5, 5], [1, 1], strides=[2, 2]),
            conv([5, 5], [1, 1], strides=[3, 3], auto_pad="SAME_LOWER"),
            conv([3, 3], [3, 3]),
            conv([3, 3], [3, 3], 4, 4, 4, strides=[1, 1]),
            replace(conv([6, 6], [3, 3], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), constants={"w": (4, 2, 3, 3)}),
        ],
        DYNAMIC,
    ),
]

CONV_TRANSPOSE = [
    *[
        (conv_transpose([5], [3], strides=[stride], dilations=[dilation], pads=pads), dynamic)
        for stride, dilation, pads, dynamic in pairs([1, 2, 3], [1, 2], [[0, 0], [1, 0], [1, 2]], DYNAMIC)
    ],
    *[
        (conv_transpose([3, 4], [3, 2], group, strides=strides, output_padding=more, pads=[1, 0, 0, 1]), dynamic)
        for group, (strides, more), dynamic in pairs([1, 2], [([2, 3], [0, 0]), ([2, 3], [1, 2]), ([2, 2], [1, 0])], DYNAMIC)
    ],
    *pairs(
        [
            conv_transpose([4, 4], [1, 1], strides=[2, 2]),
            conv_transpose([3, 4], [2, 3], auto_pad="VALID", strides=[2, 1]),
            conv_transpose([2, 3, 2], [2, 1, 3], strides=[1, 2, 1], pads=[0, 0, 1, 0, 0, 1]),
            replace(conv_transpose([3, 3], [3, 3], kernel_shape=[3, 3]), constants={"w": (4, 6, 3, 3)}),
        ],
        DYNAMIC,
    ),
]


# ---- averages --------------------------------------------------------------------------------------------------------


def average(size: Sequence[int], kernel: Sequence[int], **attrs: Any) -> Case:
    # Before 22 onnx infers windows that start in the padding; the compiler converts such models.
    opset = 19 if "dilations" in attrs else 17
    return Case("AveragePool", {"x": (2, 3, *size)}, {}, {"kernel_shape": list(kernel), **attrs}, opset=opset, exact=False)


def reduction(op: str, shape: Sequence[int], axes: Sequence[int] | None, keepdims: int, opset: int) -> Case:
    attrs, constants = {"keepdims": keepdims}, {}
    if axes is not None and (op == "ReduceSum" or opset >= 18):
        constants = {"axes": np.asarray(axes, np.int64)}
    elif axes is not None:
        attrs["axes"] = list(axes)
    return Case(op, {"x": shape}, constants, attrs, opset=opset, dtype=DOUBLE, exact=op == "ReduceSum")


AVERAGE = [
    *[
        (average([size], [3], strides=[stride], pads=pads, ceil_mode=ceil, count_include_pad=include), dynamic)
        for size, stride, pads, ceil, include, dynamic in pairs(
            [7, 8], [1, 2, 3], [[0, 0], [1, 1], [1, 2]], [0, 1], [0, 1], DYNAMIC
        )
    ],
    *[
        (average(size, [3, 2], strides=strides, auto_pad=auto), dynamic)
        for size, strides, auto, dynamic in pairs(
            [[7, 8], [8, 7]], [[1, 1], [2, 2], [3, 2]], ["SAME_UPPER", "SAME_LOWER", "VALID"], DYNAMIC
        )
    ],
    *[
        (
            average(
                [7, 8], [3, 2], strides=strides, dilations=[2, 1], pads=[1, 0, 2, 1], ceil_mode=ceil, count_include_pad=all_
            ),
            dynamic,
        )
        for strides, ceil, all_, dynamic in pairs([[1, 1], [2, 3]], [0, 1], [0, 1], DYNAMIC)
    ],
    *pairs(
        [
            average([4, 4], [2, 2], strides=[2, 2]),
            average([5, 4], [2, 2], strides=[2, 2]),
            average([4, 3, 5], [2, 2, 3], strides=[1, 2, 2], pads=[1, 0, 1, 0, 1, 1]),
            average([3, 3], [3, 3]),
            Case("GlobalAveragePool", {"x": (2, 3, 4, 5)}, exact=False),
            Case("GlobalAveragePool", {"x": (2, 3, 7)}, exact=False),
        ],
        DYNAMIC,
    ),
]

REDUCE = [
    (reduction(op, (2, 3, 4, 5), axes, keepdims, opset), dynamic)
    for (op, opset), axes, keepdims, dynamic in pairs(
        [("ReduceMean", 17), ("ReduceMean", 18), ("ReduceSum", 17)], [[2, 3], [-1, 2], [1], [-4], None], [0, 1], DYNAMIC
    )
]


# ---- dense -----------------------------------------------------------------------------------------------------------


def gemm(active: str, ta: int, tb: int, c: Sequence[int] | None, **attrs: Any) -> Case:
    """[2, 3] · [3, 4] + C with the operands named in ``active`` explained and the others constant."""
    shapes = {"a": (3, 2) if ta else (2, 3), "b": (4, 3) if tb else (3, 4)} | ({} if c is None else {"c": tuple(c)})
    attrs |= {name: 1 for name, on in (("transA", ta), ("transB", tb)) if on}
    x = {name: shape for name, shape in shapes.items() if name in active}
    constants = {name: shape for name, shape in shapes.items() if name not in active}
    batch = 0 if active == "a" and not ta else None
    return Case("Gemm", x, constants, attrs, " ".join(shapes), batch, dtype=DOUBLE)


GEMM = [
    *[
        (Case("Gemm", {"a": (2, 3)}, {"b": (3, 3)}, attrs, "a b", 0, dtype=DOUBLE), dynamic)  # a square either way round
        for attrs, dynamic in pairs([{}, {"transB": 1}], DYNAMIC)
    ],
    *[
        (gemm(active, ta, tb, c, **attrs), dynamic)
        for (active, ta), tb, c, attrs, dynamic in pairs(
            [("a", 0), ("a", 1), ("b", 0), ("b", 1)],
            [0, 1],
            [None, (4,), (2, 1)],
            [{}, {"alpha": 0.5, "beta": 2.0}, {"alpha": -2.0, "beta": 0.0}],
            DYNAMIC,
        )
    ],
    *[
        (gemm(active, 0, 1, c, alpha=-0.5, beta=-3.0), dynamic)
        for active, c, dynamic in pairs(["c", "ac", "bc"], [(2, 4), (4,), (1, 4), (2, 1), (1,), ()], DYNAMIC)
    ],
]


def matmul(x: Sequence[int], w: Sequence[int], left: bool) -> Case:
    batch = 0 if left and len(x) > 1 else None
    return Case("MatMul", {"x": tuple(x)}, {"w": tuple(w)}, {}, "x w" if left else "w x", batch, dtype=DOUBLE)


MATMUL = [
    *[
        (matmul(x, w, left=True), dynamic)
        for (x, w), dynamic in pairs(
            [
                ((2, 3), (3, 4)),
                ((2, 3), (3, 3)),
                ((5, 2, 3), (3, 3)),
                ((2, 3), (3,)),
                ((3,), (3, 4)),
                ((3,), (3,)),
                ((5, 2, 3), (3, 4)),
                ((5, 2, 3), (3,)),
                ((5, 2, 3), (5, 3, 4)),
                ((1, 2, 3), (5, 3, 4)),
                ((5, 2, 3), (1, 3, 4)),
                ((2, 3), (5, 3, 4)),
                ((1, 6, 2, 3), (5, 1, 3, 4)),
                ((6, 2, 3), (5, 1, 3, 4)),
            ],
            DYNAMIC,
        )
    ],
    *[
        (matmul(x, w, left=False), dynamic)
        for (x, w), dynamic in pairs(
            [
                ((3, 2), (4, 3)),
                ((3, 2), (3,)),
                ((3,), (4, 3)),
                ((3,), (3,)),
                ((5, 3, 2), (4, 3)),
                ((5, 3, 2), (3,)),
                ((5, 3, 2), (5, 4, 3)),
                ((1, 3, 2), (5, 4, 3)),
                ((3, 2), (5, 4, 3)),
                ((6, 3, 2), (5, 1, 4, 3)),
            ],
            DYNAMIC,
        )
    ],
]


# ---- element by element ----------------------------------------------------------------------------------------------

SHAPES = [(2, 3, 4), (1, 3, 1), (3, 1), (4,), (1,), ()]

ELEMENTWISE = [
    # One operand explained, of each size, in either place; None: left and right exchanged.
    *[
        (Case(op, {"x": x}, {"c": c}, {}, inputs, None, dtype=DOUBLE), dynamic)
        for op, (x, c), inputs, dynamic in pairs(
            ["Add", "Sub", "Mul"],
            [(s, SHAPES[0]) for s in SHAPES] + [(SHAPES[0], s) for s in SHAPES[1:]],
            ["x c", "c x"],
            DYNAMIC,
        )
    ],
    *[
        (Case("Div", {"x": x}, {"c": c}, {}, "x c", None, dtype=DOUBLE, exact=False), dynamic)
        for x, c, dynamic in pairs(SHAPES[:3], SHAPES, DYNAMIC)
    ],
    # Both explained.
    *[
        (Case(op, {"x": a, "z": b}, {}, {}, "x z", None, dtype=DOUBLE), dynamic)
        for op, (a, b), dynamic in pairs(
            ["Add", "Sub"], [((2, 3, 4), s) for s in SHAPES] + [((1, 4), (3, 1)), ((4,), (2, 3, 4))], DYNAMIC
        )
    ],
    *pairs(
        [
            Case("Sum", {"x": (2, 3)}, {"c": (2, 1)}, {}, "x c", None, dtype=DOUBLE),
            Case("Sum", {"x": (2, 3), "z": (3,)}, {"c": (2, 1), "d": (1, 1)}, {}, "c x d z", None, dtype=DOUBLE),
            Case("Sum", {"x": (2, 3)}, {}, {}, "x", dtype=DOUBLE),
            Case("Neg", {"x": (2, 3, 4)}, dtype=DOUBLE),
            *[
                Case(
                    "BatchNormalization",
                    {"x": shape},
                    {"g": (3,), "b": (3,), "m": (3,), "v": np.array([0, 0.75, 3.75])},
                    {"epsilon": 0.25},
                    dtype=DOUBLE,
                )
                for shape in [(2, 3), (2, 3, 4), (2, 3, 4, 5)]
            ],
        ],
        DYNAMIC,
    ),
]


# ---- products by index, interpolation --------------------------------------------------------------------------------

EINSUM = [
    (Case("Einsum", {"x": x}, {"w": w}, {"equation": equation}, inputs, dtype=DOUBLE, exact=False), dynamic)
    for (equation, x, w, inputs), dynamic in pairs(
        [
            ("ij,jk->ik", (2, 3), (3, 4), "x w"),
            ("ij,jk->ki", (2, 3), (3, 4), "x w"),
            ("kj, bj -> bk", (2, 3), (4, 3), "w x"),
            ("bij,bjk->bik", (2, 3, 4), (2, 4, 5), "x w"),
            ("bhwc,hkc->bhwk", (2, 3, 2, 4), (3, 5, 4), "x w"),
            ("bc,c->bc", (2, 3), (3,), "x w"),
            ("bi,j->bij", (2, 3), (4,), "x w"),
            ("bij,bjk->bi", (2, 3, 4), (2, 4, 5), "x w"),
            ("bij,bk->bk", (2, 3, 4), (2, 5), "x w"),
            ("bi,j->bi", (2, 3), (4,), "x w"),
            ("...i,ij", (2, 3, 4), (4, 5), "x w"),
            ("ij,...kj->...i", (2, 3, 4), (5, 4), "w x"),
            ("...i,...i->...i", (2, 4, 3), (1, 4, 3), "x w"),
            ("bij,bij->bi", (2, 3, 4), (2, 3, 1), "x w"),
            ("bij,bij->bi", (2, 1, 4), (2, 3, 4), "w x"),
            ("bi,bi->", (2, 3), (2, 3), "x w"),
        ],
        DYNAMIC,
    )
]

EINSUM += [
    (Case("Einsum", {"x": x}, constants, {"equation": equation}, inputs, dtype=DOUBLE, exact=False), dynamic)
    for (equation, x, constants, inputs), dynamic in pairs(
        [
            ("bij->bj", (2, 3, 4), {}, "x"),
            ("bij->jbi", (2, 3, 4), {}, "x"),
            ("bii->bi", (2, 3, 3), {}, "x"),
            ("bii", (2, 3, 3), {}, "x"),
            ("biji,j->ij", (2, 3, 4, 3), {"w": (4,)}, "x w"),
            ("jj,bi,kij->bk", (2, 3), {"w": (4, 4), "v": (5, 3, 4)}, "w x v"),
        ],
        DYNAMIC,
    )
]


def resize(before: Sequence[int], by: dict[str, Any], **attrs: Any) -> Case:
    inputs = "x _ scales" if "scales" in by else "x _ _ sizes"
    return Case("Resize", {"x": (2, 3, *before)}, by, attrs, inputs, exact=False)


def scales(*factors: float) -> dict[str, np.ndarray]:
    return {"scales": np.array([1, 1, *factors], np.float32)}


RESIZE = [
    *[
        (resize([size], by, mode=mode, coordinate_transformation_mode=coordinates), dynamic)
        for size, by, mode, coordinates, dynamic in pairs(
            [4, 5],
            [scales(2), scales(1.5), scales(0.6), {"sizes": np.array([2, 3, 7])}, {"sizes": np.array([2, 3, 3])}],
            ["nearest", "linear"],
            ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"],
            DYNAMIC,
        )
    ],
    *[
        (
            resize([5, 4], scales(2, 3), mode="nearest", nearest_mode=rounding, coordinate_transformation_mode="asymmetric"),
            dynamic,
        )
        for rounding, dynamic in pairs(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"], DYNAMIC)
    ],
    *pairs(
        [
            resize([4, 5], scales(2, 0.5), mode="linear"),
            resize([3, 6], {"sizes": np.array([2, 3, 10, 49])}, mode="linear"),
            resize([2, 3, 4], scales(2, 1, 2), mode="nearest"),
            replace(resize([4, 5], {"scales": np.float32([1.5, 2])}, mode="linear", axes=[3, 2]), opset=18),
            replace(resize([4, 5], {"sizes": np.array([7, 5])}, mode="linear", axes=[2, 3]), opset=18),
            replace(resize([5], scales(0.7), mode="linear", coordinate_transformation_mode="half_pixel_symmetric"), opset=19),
            replace(resize([8, 5], {"sizes": np.array([2, 3, 3, 7])}, mode="linear", antialias=1), opset=18),
            resize([5, 3], {"sizes": np.array([2, 6, 7, 3])}, mode="linear"),  # channels behind
            resize([5, 3], {"scales": np.float32([1, 2, 1.5, 1])}, mode="nearest"),
        ],
        DYNAMIC,
    ),
]

# ---- sums that gather ------------------------------------------------------------------------------------------------

INTO = {"i": np.array([[[0, 2, 2, 0]], [[1, 0, -1, 1]]])}  # along axis 1 of [2, 3, 4]
PLACES = {"i": np.array([[0, 2], [1, 0], [0, -1]])}
SUMS = pairs(
    [
        Case("CumSum", {"x": (2, 3, 4)}, {"axis": np.array(axis)}, {"exclusive": exclusive, "reverse": reverse}, dtype=DOUBLE)
        for axis, exclusive, reverse in pairs([1, 2, -3], [0, 1], [0, 1])
    ]
    + [
        Case(op, x, at | constants, {"reduction": "add"} | attrs, "x i z", None, 18, DOUBLE)
        for op, at, z, attrs in [
            ("ScatterElements", INTO, (2, 1, 4), {"axis": 1}),
            ("ScatterND", PLACES, (3, 4), {}),
        ]
        for x, constants in [
            ({"x": (2, 3, 4), "z": z}, {}),
            ({"x": (2, 3, 4)}, {"z": z}),
            ({"z": z}, {"x": (2, 3, 4)}),
        ]
    ]
    + [
        Case("Mean", {"x": (2, 3), "z": (3,)}, {"c": (2, 1)}, {}, "c x z", None, exact=False),
        Case("Mean", {"x": (2, 3)}, {}, {}, "x"),
    ],
    DYNAMIC,
)

NO = {"exact": False, "dtype": DOUBLE}
WAVES = {"step": np.array(2), "window": np.hanning(6).astype(FLOAT), "length": np.array(6)}
TRANSFORMS = [
    *pairs(
        [
            Case("DFT", {"x": (2, 6, 1)}, {}, {"axis": 1, "onesided": 1}, **NO),
            Case("DFT", {"x": (2, 5, 3, 2)}, {"n": np.array(4)}, {"axis": 1}, **NO),
            Case("DFT", {"x": (2, 5, 2)}, {"n": np.array(8)}, {"axis": 1, "inverse": 1}, **NO),
            Case("STFT", {"x": (2, 12, 1)}, WAVES, {"onesided": 1}, "x step window length", exact=False),
            Case("STFT", {"x": (2, 11, 1)}, WAVES, {"onesided": 0}, "x step _ length", exact=False),
            Case("STFT", {"x": (2, 11)}, WAVES, {"onesided": 1}, "x step window _", exact=False),
            Case("Col2Im", {"x": (2, 12, 12)}, {"im": np.array([5, 4]), "b": np.array([2, 2])}, opset=18),
            Case(
                "Col2Im",
                {"x": (2, 12, 9)},
                {"im": np.array([5, 4]), "b": np.array([3, 2])},
                {"strides": [2, 1], "pads": [1, 0, 1, 1], "dilations": [1, 2]},
                opset=18,
            ),
        ],
        (False, "batch"),
    )
]

TABLE = [*TRANSFORMS, *SUMS, *EINSUM, *RESIZE, *CONV, *CONV_TRANSPOSE, *AVERAGE, *REDUCE, *GEMM, *MATMUL, *ELEMENTWISE]


@pytest.mark.parametrize(("case", "dynamic"), TABLE, ids=str)
def test_inner_product(case, dynamic):
    check(case, dynamic)


def test_every_operator_is_in_the_table():
    keys = {f"{case.op}.{case.attrs['reduction']}" if "reduction" in case.attrs else case.op for case, _ in TABLE}
    assert keys == {op for op, entry in OPERATORS.items() if entry.linear}


# ---- geometries nobody thought of ------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(geometries(), st.sampled_from([(1, 1, 2), (1, 3, 1), (2, 4, 2), (3, 3, 3), (2, 2, 4)]), st.booleans())
def test_inner_product_of_any_convolution(geometry, channels, dynamic):
    size, kernel, attrs = geometry
    group, inputs, outputs = channels
    check(conv(size, kernel, group, inputs, outputs, **attrs), dynamic)


@settings(max_examples=150)
@given(geometries(), st.booleans(), st.booleans(), st.booleans())
def test_inner_product_of_any_average(geometry, ceil, include, dynamic):
    size, kernel, attrs = geometry
    if "auto_pad" not in attrs:
        attrs |= {"ceil_mode": int(ceil)}
    else:
        assume(all(s <= k for s, k in zip(attrs["strides"], kernel, strict=True)))  # ONNX Runtime refuses the others
    case = average(size, kernel, count_include_pad=int(include), **attrs)
    check(case, dynamic)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("Mul", {"x": (2, 3), "z": (2, 3)}), "both factors"),
        (Case("Div", {"x": (2, 3)}, {"c": (2, 3)}, {}, "c x"), "divides by"),
        (Case("MatMul", {"x": (2, 3), "z": (3, 4)}), "both factors"),
        (Case("MatMul", {"x": (3,)}, {"w": (5, 3, 4)}, {}, "x w"), "vector by a stack"),
        (Case("Gemm", {"x": (2, 3), "z": (3, 4)}), "both factors"),
        (Case("Conv", {"x": (1, 1, 5), "z": (1, 1, 3)}), "weights depend on the input"),
        (conv_transpose([4], [3], auto_pad="SAME_UPPER", strides=[2]), "auto_pad"),
        (conv_transpose([4], [3], output_shape=[9], strides=[2]), "output_shape"),
        (Case("ReduceSum", {"x": (2, 3)}, {}, {"noop_with_empty_axes": 1}), "no axes"),
        (Case("Einsum", {"x": (2, 3), "z": (3, 4)}, {}, {"equation": "ij,jk->ik"}), "both factors"),
        (Case("Einsum", {"x": (2, "n", "n")}, {}, {"equation": "bii->bi"}), "size of an axis whose diagonal"),
        (resize([4], scales(2), mode="cubic"), "cubic"),
        (resize([4], {"scales": np.float32([2, 1, 1])}, mode="nearest"), "the batch"),
        (
            replace(resize([4], {"sizes": np.array([4, 6, 7])}, keep_aspect_ratio_policy="not_larger"), opset=18),
            "keep_aspect_ratio_policy",
        ),
    ],
    ids=str,
)
def test_not_linear(case, reason):
    bench = Bench(case.model(dynamic=False))
    with pytest.raises(NotLinear, match=reason):
        layer_of(bench, list(case.x))


@pytest.mark.parametrize("op", ["Add", "MatMul", "AveragePool", "ReduceMean"])
def test_an_unknown_rank_is_refused(op):
    attrs = {"kernel_shape": [2]} if op == "AveragePool" else {}
    inputs = "x c" if op in ("Add", "MatMul") else "x"
    nodes = [node("Cast", "sizes", "shape", to=7), node("Reshape", "x0 shape", "x"), node(op, inputs, "y", **attrs)]
    bench = Bench(model(nodes, {"x0": ["n"], "sizes": ["rank"]}, [], {"c": np.ones((2, 2), np.float32)}))
    with pytest.raises(NotLinear, match="rank"):
        layer_of(bench, ["x"], 2)


# ---- fused views -----------------------------------------------------------------------------------------------------

NORM = {"g": np.array([2.0, -1, 3]), "beta": np.array([1.0, -2, 0]), "m": np.array([1.0, 2, -1])}
NORM |= {"v": np.array([0, 0.75, 3.75])}
WEIGHTS = {
    "conv": {"w": (3, 2, 3, 3), "b": (3,)},
    "conv 1d": {"w": (3, 2, 3)},
    "groups": {"w": (3, 1, 3), "b": (3,)},
    "conv transpose": {"w": (2, 3, 3), "b": (3,)},
    "dense": {"w": (4, 3), "b": (3,)},
    "transposed": {"w": (3, 4), "b": (2, 1)},
}


def norm(h: str, y: str, **attrs: Any) -> NodeProto:
    return node("BatchNormalization", f"{h} g beta m v", y, epsilon=0.25, **attrs)


@dataclass(frozen=True)
class Chain:
    """A layer h = f(x), what is behind it, and the shape of the constant c."""

    x: Sequence[int]
    weights: str
    nodes: list[NodeProto]
    c: tuple[int, ...] = ()

    @property
    def end(self) -> str:
        return self.nodes[-1].output[0]

    def __str__(self) -> str:
        return "+".join([self.weights] + [n.op_type for n in self.nodes])

    def model(self, outputs: Sequence[str] = (), more: Sequence[NodeProto] = (), dynamic: bool = False) -> ModelProto:
        rng = np.random.default_rng(3)
        arrays = {name: integers(rng, *shape) for name, shape in WEIGHTS[self.weights].items()}
        arrays |= {name: value.astype(np.float32) for name, value in NORM.items()} | {"c": integers(rng, *self.c)}
        shape = symbolic(self.x) if dynamic else self.x
        return model([*self.nodes, *more], {"x": shape}, [self.end, *outputs], arrays)


CONV2D = node("Conv", "x w b", "h", pads=[1, 1, 1, 1], strides=[2, 2])
MATMUL_NODE = node("MatMul", "x w", "h")
CHAINS = [
    Chain((2, 2, 5, 5), "conv", [CONV2D, norm("h", "n")]),
    Chain((2, 2, 5), "conv 1d", [node("Conv", "x w", "h"), norm("h", "n")]),
    Chain((2, 3, 5), "groups", [node("Conv", "x w b", "h", group=3), norm("h", "n")]),
    Chain((2, 2, 4), "conv transpose", [node("ConvTranspose", "x w b", "h", strides=[2]), norm("h", "n")]),
    Chain((2, 4), "dense", [node("Gemm", "x w b", "h", alpha=0.5, beta=2.0), norm("h", "n")]),
    Chain((2, 4), "transposed", [node("Gemm", "x w b", "h", transB=1), norm("h", "n")]),
    Chain((2, 4), "dense", [MATMUL_NODE, norm("h", "n")]),
    Chain((2, 4), "dense", [MATMUL_NODE, node("Add", "h c", "n")], (3,)),
    Chain((2, 5, 4), "dense", [MATMUL_NODE, node("Add", "c h", "n")], (5, 1)),
    Chain((2, 4), "dense", [MATMUL_NODE, node("Sub", "h c", "n")], (3,)),
    Chain((2, 2, 5, 5), "conv", [CONV2D, node("Add", "h c", "n")], (3, 1, 1)),
    Chain((2, 2, 5, 5), "conv", [CONV2D, node("Add", "h c", "n"), norm("n", "n2")], (1, 3, 1, 1)),
    Chain((2, 2, 5, 5), "conv", [CONV2D, norm("h", "n"), node("Sub", "n c", "n2")], (1,)),
    Chain((2, 4), "dense", [node("Gemm", "x w b", "h"), node("Add", "h c", "n"), node("Sub", "n c", "n2")], (3,)),
]


def fused(bench: Bench) -> Layer:
    """The first node with all behind it taken in."""
    active = {t.name for t in bench.graph.inputs} | {t.name for n in bench.nodes for t in n.outputs}
    is_active = lambda tensor: tensor.name in active
    layer = OPERATORS[bench.nodes[0].op].linear(bench.e, bench.nodes[0], is_active)
    for behind in bench.nodes[1:]:
        whole = followed_by(bench.e, layer, behind, is_active)
        assert whole is not None, behind.op
        layer = whole
    return layer


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_fused_view(chain, dynamic):
    """forward(x, w) + b is what comes out of the chain, and the adjoint is that of the chain."""
    bench = Bench(chain.model(dynamic=dynamic))
    layer = fused(bench)
    assert layer.y.name == chain.end
    x = integers(np.random.default_rng(0), *chain.x)
    with_bias = bench.e("Add", layer.slots[0].forward(layer.slots[0].x, layer.slots[0].w), layer.b)
    found = bench.session({"whole": with_bias})(x=x)
    assert_near(found["whole"], found[chain.end], 0)
    reference = Session(bench.proto)
    renamed = lambda **feeds: {"y": reference(**feeds)[chain.end]}
    check_maps(maps(bench, layer), renamed, ["x"], {"x": x}, 0)


@pytest.mark.parametrize(
    ("layer", "behind"),
    [
        pytest.param(MATMUL_NODE, node("Sub", "c h", "n"), id="constant minus h"),
        pytest.param(MATMUL_NODE, node("Add", "h big", "n"), id="h repeated by the constant"),
        pytest.param(MATMUL_NODE, node("Add", "h h", "n"), id="both active"),
        pytest.param(MATMUL_NODE, norm("h", "n rm rv", training_mode=1), id="statistics of the batch"),
        pytest.param(node("ReduceMean", "x", "h", keepdims=1, axes=[1]), node("Add", "h c", "n"), id="average"),
        pytest.param(node("Gemm", "w2 x", "h"), norm("h", "n"), id="right factor of Gemm"),
        pytest.param(node("ConvTranspose", "x3 wt", "h", group=3), norm("h", "n"), id="groups of ConvTranspose"),
    ],
)
def test_not_fused(layer, behind):
    shapes = {"w": (4, 3), "c": (3,), "big": (2, 1, 3), "w2": (2, 2), "wt": (3, 1, 2)}
    weights = {n: np.ones(shape, np.float32) for n, shape in shapes.items()} | {
        n: v.astype(np.float32) for n, v in NORM.items()
    }
    inputs = {"x": [2, 3] if "w2" in layer.input else [2, 4], "x3": [2, 3, 5]}
    bench = Bench(model([layer, behind], {name: inputs[name] for name in layer.input if name in inputs}, ["n"], weights))
    active = lambda tensor: tensor.name in ("x", "x3", "h", "n")
    built = OPERATORS[layer.op_type].linear(bench.e, bench.nodes[0], active)
    assert followed_by(bench.e, built, bench.nodes[1], active) is None


def steps(net: ModelProto, **request: Any) -> list[str]:
    """The operators of each step of the plan."""
    return [step.op for step in prepare(net, Request(preset="dtd", **request)).plan.steps]


def test_fused_unless_somebody_looks_between():
    chain = Chain((2, 4), "dense", [MATMUL_NODE, node("Add", "h c", "n")], (3,))
    assert steps(chain.model()) == ["MatMul+Add"]
    assert steps(chain.model(), keep=["h"]) == ["MatMul", "Add"]
    assert steps(chain.model(), keep=["n"]) == ["MatMul+Add"]
    assert steps(chain.model(outputs=["h"]), output="n") == ["MatMul", "Add"]
    assert steps(chain.model(outputs=["h"]), output="h") == ["MatMul"]
    assert steps(chain.model(), output="h") == ["MatMul"]
    second = [node("Relu", "h", "r"), node("Add", "n r", "y")]
    assert steps(chain.model(outputs=["y"], more=second), output="y") == ["MatMul", "Add", "Relu", "Add"]


# ---- the test itself -------------------------------------------------------------------------------------------------

FAULTS: dict[str, Callable[[Emit, Slot], Slot]] = {
    "sign of the adjoint": lambda e, slot: replace(slot, adjoint=lambda s, w: e.mul(slot.adjoint(s, w), -1.0)),
    "adjoint too large by 1 %": lambda e, slot: replace(slot, adjoint=lambda s, w: e.mul(slot.adjoint(s, w), 1.01)),
    "both maps doubled": lambda e, slot: replace(
        slot,
        forward=lambda x, w: e.mul(slot.forward(x, w), 2.0),
        adjoint=lambda s, w: e.mul(slot.adjoint(s, w), 2.0),
    ),
    "adjoint deaf to the weight": lambda e, slot: replace(slot, adjoint=lambda s, w: slot.adjoint(s, slot.w)),
    "forward deaf to the weight": lambda e, slot: replace(slot, forward=lambda x, w: slot.forward(x, slot.w)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_catches_a_fault_in_a_layer(fault, monkeypatch):
    build = OPERATORS["Conv"].linear

    def faulty(e: Emit, built: Any, active: Any) -> Layer:
        layer = build(e, built, active)
        return replace(layer, slots=[FAULTS[fault](e, slot) for slot in layer.slots])

    case = conv([5, 4], [3, 2], pads=[1, 0, 1, 0])
    check(case, dynamic=False)
    monkeypatch.setitem(OPERATORS, "Conv", replace(OPERATORS["Conv"], linear=faulty))
    with pytest.raises(AssertionError):
        check(case, dynamic=False)


@pytest.mark.parametrize(
    ("function", "faulty", "case"),
    [
        ("flip", lambda e, w, shape, group: w, conv([5], [3], inputs=4, outputs=4)),
        ("flipped_pads", lambda win: [2, 0], conv([5], [3], pads=[1, 1])),
        ("transposed_pads", lambda win, inside, outside: ([0, 1], [0]), conv([6], [3], strides=[2], pads=[1, 0])),
        ("_share", lambda e, kernel, x, y, win, attrs: 1 / 3, average([5], [3], pads=[1, 1])),
    ],
)
def test_the_check_catches_a_fault_in_the_lowering(function, faulty, case, monkeypatch):
    check(case, dynamic=False)
    monkeypatch.setattr(lowering, function, faulty)
    with pytest.raises(AssertionError):
        check(case, dynamic=False)
