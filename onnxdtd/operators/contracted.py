"""Einsum as a layer: a product of tensors with a letter for each axis, in which what is summed over in A is repeated in Aᵀ."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from onnxdtd.graph.emit import Emit, wide
from onnxdtd.graph.tensors import Node, Tensor, Value, as_tensor
from onnxdtd.operators import narrowed, spread
from onnxdtd.operators.equations import apart, sizes, spelled
from onnxdtd.operators.layer import Active, Layer, NotLinear, Slot, reread, shape_of
from onnxdtd.operators.table import PRODUCT, Operator, enter, if_inputs_are


def einsum(e: Emit, node: Node, active: Active) -> Layer:
    """y = Σ x w, where w is the product of all other factors, summed over what they alone have."""
    terms, result = spelled(node)
    i, *more = [i for i, t in enumerate(node.inputs) if active(t)]
    if more:
        raise NotLinear("both factors depend on the input")
    x, own = node.inputs[i], terms[i]
    others: list[tuple[str, Tensor]] = [(term, t) for j, (term, t) in enumerate(zip(terms, node.inputs, strict=True)) if j != i]
    while len(set(own)) < len(own):  # a diagonal is a product with a unit matrix
        own, unit = apart(own, "".join(terms) + own)
        others.append((unit, _unit(e, x, [own.index(letter) for letter in unit])))
    names, factors = [term for term, _ in others], [t for _, t in others]
    letters, w = _outer(e, names, factors, own + result)

    def forward(x: Value, w: Value) -> Value:
        if not letters:
            return e.mul(_summed(e, own, x, result), w)
        return (
            e("Einsum", x, w, equation=f"{own},{letters}->{result}")
            if i == 0
            else e("Einsum", w, x, equation=f"{letters},{own}->{result}")
        )

    inside, outside = sizes(names, factors), sizes([own, *names], [x, *factors])
    before, back = shape_of(x), [outside[c] if c in result else inside.get(c, 1) for c in own]
    sure = [size if here is not None else None for here, size in zip(before, back, strict=True)]  # an open one is that of x
    kept, alone = "".join(c for c in own if c in result + letters), [i for i, c in enumerate(own) if c not in result + letters]

    square = len({inside[c] for c in letters if c in inside}) < len(letters)

    def adjoint(s: Tensor, w: Value) -> Tensor:
        w = reread(e, w, square)
        moved = e("Einsum", s, w, equation=f"{result},{letters}->{kept}") if letters else e.mul(_summed(e, result, s, kept), w)
        whole = e.unbroadcast(e("Unsqueeze", moved, alone) if alone else moved, sure, x)
        return e("Expand", whole, e.shape(x)) if any(a == 1 != b for a, b in zip(back, before, strict=True)) else whole

    family = "affine" if set(own) <= set(result) else "dense" if letters else "average"
    return Layer(family, [Slot(x, w, forward, adjoint)], node.outputs[0])


def _unit(e: Emit, x: Tensor, axes: Sequence[int]) -> Tensor:
    size = next((size for size in (shape_of(x)[axis] for axis in axes) if size is not None), None)
    if size is None:
        raise NotLinear("the size of an axis whose diagonal it takes is unknown")
    return e.constant(np.eye(size, dtype=wide(x.dtype)))


def _outer(e: Emit, names: Sequence[str], factors: Sequence[Tensor], others: str) -> tuple[str, Value]:
    """The product of factors, with its letters, of which all are among those of the others."""
    letters = "".join(dict.fromkeys(c for name in names for c in name if c in others))
    if not names:
        return "", 1.0
    if list(names) == [letters]:
        return letters, factors[0]
    shape = [sizes(names, factors)[c] for c in letters]
    return letters, e("Einsum", *factors, equation=f"{','.join(names)}->{letters}", shape=shape)


def _summed(e: Emit, letters: str, x: Value, result: str) -> Tensor:
    return as_tensor(x) if letters == result else e("Einsum", x, equation=f"{letters}->{result}")


def _of_sums(node: Node, layer: Layer) -> int:
    """Each output is a sum over all axes that are not in it."""
    return prod(size or 1 for size in sizes(spelled(node)[0], node.inputs).values())


enter(
    Operator(
        "Einsum",
        kind=PRODUCT,
        linear=einsum,
        cost=_of_sums,
        sign=if_inputs_are,
        axes=spread.einsum,
        moves=True,
        narrowed=narrowed.mixed,
        learned=slice(None),
    )
)
