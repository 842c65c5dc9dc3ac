"""Do the weights of a node fit its input? Shape inference leaves part of that to the kernels of runtimes, which then fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxdtd.errors import ModelError
from onnxdtd.graph.emit import dims, label
from onnxdtd.graph.tensors import Graph, Node
from onnxdtd.operators.table import Sizes, of

Pair = tuple[str, Sizes, Sizes]  # what it is of, what it is, what it must be


def check(graph: Graph) -> None:
    """Raise ``ModelError`` for a node that no runtime runs."""
    for node in graph.nodes:
        fits, shapes = of(node).fits, [dims(t) for t in node.inputs]
        if fits is None or shapes[0] is None or shapes[1] is None:
            continue
        for what, is_so, must in fits(node, [s for s in shapes if s is not None]):
            if len(is_so) != len(must) or any(None not in (a, b) and a != b for a, b in zip(is_so, must, strict=True)):
                raise ModelError(
                    f"node {label(node)!r} ({node.op}): its {what} is {_text(is_so)} and not {_text(must)}, "
                    "so no runtime runs it; export the model again"
                )


def _text(sizes: Sizes) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in sizes) + "]"


def _times(size: int | None, factor: int) -> int | None:
    return None if size is None else size * factor


def conv(node: Node, shapes: Sequence[Sizes]) -> Iterator[Pair]:
    """Channels by groups, kernel, bias"""
    (x, w, *bias), group = shapes, node.attrs.get("group", 1)
    if len(w) != len(x) or len(w) < 3:
        yield "weight", w, [None] * max(len(x), 3)
        return
    yield "number of input channels", x[1:2], [_times(w[1], group)]
    yield "kernel", w[2:], node.attrs.get("kernel_shape", w[2:])
    if w[0] is not None:
        yield "number of output channels", w[:1], [w[0] + -w[0] % group]  # a multiple of the groups
    for b in bias:
        yield "bias", b, w[:1]


def conv_transpose(node: Node, shapes: Sequence[Sizes]) -> Iterator[Pair]:
    """The same the other way round"""
    x, w, *bias = shapes
    if len(w) != len(x) or len(w) < 3:
        yield "weight", w, [None] * max(len(x), 3)
        return
    yield "number of input channels", x[1:2], w[:1]
    yield "kernel", w[2:], node.attrs.get("kernel_shape", w[2:])
    for b in bias:
        yield "bias", b, [_times(w[1], node.attrs.get("group", 1))]


def channels(node: Node, shapes: Sequence[Sizes]) -> Iterator[Pair]:
    """A number a channel"""
    for vector in shapes[1:]:
        yield "weight", vector, shapes[0][1:2]


def _repeated(w: Sizes, over: Sizes) -> Sizes:
    """What ``w`` must be to be repeated along axes of ``over``: of its sizes there, or 1."""
    return (
        [1 if a == 1 else size for a, size in zip(w, over[len(over) - len(w) :], strict=True)] if len(w) <= len(over) else over
    )


def broadcasts(node: Node, shapes: Sequence[Sizes]) -> Iterator[Pair]:
    """Weights that repeat"""
    for w in shapes[1:]:
        yield "weight", w, _repeated(w, shapes[0])


def gemm(node: Node, shapes: Sequence[Sizes]) -> Iterator[Pair]:
    """The term that is added"""
    y = dims(node.outputs[0])
    for c in shapes[2:]:
        if y is not None and len(y) == 2:
            yield "bias", c, _repeated(c, y)
