"""Attention, in all of its operators, as products and a softmax; rotated queries and keys as products with sines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxdtd.graph.body import Body, NotWritten

Attrs = dict[str, Any]
LAST = np.iinfo(np.int64).max


def by_head(write: Body, t: str, heads: int) -> str:
    """[batch, length, heads · size] as [batch, heads, length, size]"""
    return write("Transpose", write("Reshape", t, write.whole(0, 0, heads, -1)), perm=[0, 2, 1, 3])


def beside(write: Body, t: str, result: str) -> str:
    """[batch, heads, length, size] as [batch, length, heads · size]"""
    return write("Reshape", write("Transpose", t, perm=[0, 2, 1, 3]), write.whole(0, 0, -1), result=result)


def repeated(write: Body, t: str, heads: int, groups: int) -> str:
    """Each of the groups as often as heads share it"""
    if heads == groups:
        return t
    apart = write("Unsqueeze", t, write.whole(2))
    copies = write("Concat", *[apart] * (heads // groups), axis=2)
    size = write("Shape", t, start=2)
    return write("Reshape", copies, write("Concat", write.whole(0, heads), size, axis=0))


def later(write: Body, q: str, k: str) -> str:
    """[queries, keys]: is the key behind the query?"""
    zero, one = (write.constant(np.asarray(value), write.around) for value in (0, 1))
    rows, columns = (write("Range", zero, write("Squeeze", write("Shape", t, start=2, end=3)), one) for t in (q, k))
    return write("Less", write("Unsqueeze", rows, write.whole(1)), write("Unsqueeze", columns, write.whole(0)))


def weighed(
    write: Body,
    q: str,
    k: str,
    v: str,
    scale: float,
    biases: Sequence[str] = (),
    *,
    cap: float = 0.0,
    chosen: str = "",
    causal: bool = False,
) -> str:
    """softmax(s q kᵀ + biases) v of [batch, heads, length, size], of the keys that are ``chosen``, and none behind a query
    where it is ``causal``; 0 of a query that none is chosen for
    """
    scores = write("MatMul", q, write("Transpose", k, perm=[0, 1, 3, 2]))
    scores = write("Mul", scores, write.scalar(scale, q))
    if cap:
        scores = write("Mul", write("Tanh", write("Div", scores, write.scalar(cap, q))), write.scalar(cap, q))
    for bias in biases:
        scores = write("Add", scores, bias)
    if chosen:
        scores = write("Where", chosen, scores, write.lowest(q))
    if causal:
        scores = write("Where", later(write, q, k), write.lowest(q), scores)
    weights = write("Softmax", scores, axis=-1)
    if chosen:
        some = write("Greater", write("ReduceMax", scores, write.whole(-1)), write.lowest(q))
        weights = write("Where", some, weights, write.scalar(0.0, q))
    return write("MatMul", weights, v)


def of_the_standard(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """Attention of the default domain, of [batch, length, heads · size] or [batch, heads, length, size]"""
    q, k, v, mask, *past = [*inputs, *[""] * 7][:7]
    _only_the_first(outputs)
    width, depth = write.sizes(q), write.sizes(k)
    if any(past) or width is None or depth is None or len(width) != len(depth) or len(width) not in (3, 4):
        raise NotWritten("it takes keys and values from before, or the shape of its queries is not known")
    flat = len(width) == 3
    heads, groups = (attrs.get("q_num_heads"), attrs.get("kv_num_heads")) if flat else (width[1], depth[1])
    if not width[-1] or not heads or not groups or heads % groups:
        raise NotWritten("how many heads it has is not known")
    size = width[-1] // heads if flat else width[-1]
    if flat:
        q, k, v = (by_head(write, t, count) for t, count in ((q, heads), (k, groups), (v, groups)))
    k, v = (repeated(write, t, heads, groups) for t in (k, v))
    added = mask and write.known is not None and write.known.is_float(mask)
    mixed = weighed(
        write,
        *(q, k, v, attrs.get("scale") or size**-0.5),
        [mask] if added else [],
        cap=attrs.get("softcap", 0.0),
        chosen=write("Greater", mask, write.lowest(q)) if added else mask,
        causal=bool(attrs.get("is_causal")),
    )
    if flat:
        beside(write, mixed, outputs[0])
    else:
        write("Identity", mixed, result=outputs[0])


# ------------------------------------------------------------------------------------- those of ONNX Runtime, com.microsoft


def _only_the_first(outputs: Sequence[str]) -> None:
    if any(outputs[1:]):
        raise NotWritten("it hands on keys and values")


def _mask(write: Body, mask: str, x: str, keys: str, attrs: Attrs) -> list[str]:
    """What masked scores get added: the numbers say which keys count, up to which, from which on, by [batch], [2 · batch],
    [batch, keys] or [batch, queries, keys]; ``keys`` is [batch, keys, ...].
    """
    sizes = write.sizes(mask)
    if not mask or write.known is None:
        return []
    if sizes is None or len(sizes) not in (1, 2, 3):
        raise NotWritten("the form of its mask is not known")
    if len(sizes) == 1:
        kept = _within(write, mask, x, keys)
    else:
        kept = write("Cast", mask, to=TensorProto.BOOL)
        kept = write("Unsqueeze", kept, write.whole(1, 2) if len(sizes) == 2 else write.whole(1))
    value = attrs.get("mask_filter_value", -10000.0)
    return [write("Where", kept, write.scalar(0.0, x), write.scalar(value, x))]


def _within(write: Body, ends: str, x: str, keys: str) -> str:
    """[batch, 1, 1, keys]: is a key in front of the end of its sample, and not in front of the start, where there is one?"""
    batch, numbers = write("Shape", x, start=0, end=1), write("Cast", ends, to=TensorProto.INT64)
    zero, one = (write.constant(np.asarray(value), write.around) for value in (0, 1))
    places = write("Range", zero, write("Squeeze", write("Shape", keys, start=1, end=2)), one)
    if write.is_as_long(ends):
        return write("Unsqueeze", write("Less", places, write("Unsqueeze", numbers, write.whole(1))), write.whole(1, 2))
    starts = write("Concat", numbers, write("Expand", write.whole(0), batch), axis=0)
    twice = write("Add", batch, batch)
    end, start = (
        write("Unsqueeze", write("Slice", starts, *span), write.whole(1)) for span in ((write.whole(0), batch), (batch, twice))
    )
    kept = write("And", write("Less", places, end), write("Not", write("Less", places, start)))
    return write("Unsqueeze", kept, write.whole(1, 2))


def packed(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """Attention of x, whose queries, keys and values are x W + b"""
    x, weights, bias, mask, past, added, *more = [*inputs, *[""] * 7][:7]
    _only_the_first(outputs)
    if past or any(more) or attrs.get("do_rotary"):
        raise NotWritten("it takes keys and values from before, or rotates them")
    whole = write("MatMul", x, weights)
    projected(write, x, write("Add", whole, bias) if bias else whole, mask, added, outputs, attrs, write.sizes(weights))


def quantised(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """QAttention of x, of integers as its weights are, each column of which may have a scale of its own"""
    x, weights, bias, scale, own, mask, zero, shift, past = [*inputs, *[""] * 9][:9]
    _only_the_first(outputs)
    if past or attrs.get("do_rotary") or (shift and write.known is not None and write.sizes(shift) != write.sizes(own)):
        raise NotWritten("it takes keys and values from before, rotates them, or has one zero for several scales")
    x = write("DequantizeLinear", *filter(None, [x, scale, zero]))
    whole = write("MatMul", x, write("DequantizeLinear", *filter(None, [weights, own, shift]), axis=1))
    projected(write, x, write("Add", whole, bias), mask, "", outputs, attrs, write.sizes(weights))


def projected(
    write: Body,
    x: str,
    whole: str,
    mask: str,
    added: str,
    outputs: Sequence[str],
    attrs: Attrs,
    sizes: Sequence[int | None] | None,
) -> None:
    """Attention by queries, keys and values that lie side by side"""
    heads, widths = attrs["num_heads"], attrs.get("qkv_hidden_sizes") or []
    width = widths[0] if widths else ((sizes or [None])[-1] or 0) // 3
    if write.known is not None and not width:
        raise NotWritten("the sizes of its weights are not known")
    q, k, v = (by_head(write, t, heads) for t in write.split(whole, 2, *widths))
    biases = [*_mask(write, mask, x, x, attrs), *([added] if added else [])]
    scale = attrs.get("scale") or (width / heads or 1.0) ** -0.5
    beside(write, weighed(write, q, k, v, scale, biases, causal=bool(attrs.get("unidirectional"))), outputs[0])


def multi_head(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """MultiHeadAttention of queries, keys and values, each [batch, length, heads · size]"""
    q, k, v, bias, mask, added, *more = [*inputs, *[""] * 10][:10]
    _only_the_first(outputs)
    if any(more) or not k or not v:
        raise NotWritten("its queries, keys and values are packed, or come from before")
    heads, widths = attrs["num_heads"], [write.sizes(t) for t in (q, k, v)]
    if write.known is None:
        write("Identity", q, result=outputs[0])
        return
    if any(w is None or len(w) != 3 or w[2] is None or widths[0] is None or w[2] != widths[0][2] for w in widths):
        raise NotWritten("its queries, keys and values are not of one size")
    keys, width = k, int((widths[0] or [])[2] or 0)
    if bias:
        q, k, v = (write("Add", t, b) for t, b in zip((q, k, v), write.split(bias, 0), strict=True))
    biases = [*_mask(write, mask, q, keys, attrs), *([added] if added else [])]
    scale = attrs.get("scale") or (width / heads) ** -0.5
    q, k, v = (by_head(write, t, heads) for t in (q, k, v))
    beside(write, weighed(write, q, k, v, scale, biases, causal=bool(attrs.get("unidirectional"))), outputs[0])


def grouped(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """GroupQueryAttention from the first position on, which is causal, so that padding behind has no say"""
    q, k, v, past, old, _, _, cosines, sines, positions, added, *more = [*inputs, *[""] * 16][:16]
    heads, groups = attrs["num_heads"], attrs["kv_num_heads"]
    odd = attrs.get("smooth_softmax", 0) > 0 or attrs.get("local_window_size", -1) > 0 or not attrs.get("causal", 1)
    if past or old or any(more) or odd or attrs.get("kv_cache_bit_width") or attrs.get("qk_output") or any(outputs[3:]):
        raise NotWritten("it takes keys and values from before, or has a window or a sink")
    sizes = write.sizes(q)
    if sizes is None or len(sizes) != 3 or sizes[2] is None:
        raise NotWritten("the size of its queries is not known")
    size = sizes[2] // (heads if k else heads + 2 * groups)
    if not k:
        q, k, v = write.split(q, 2, heads * size, groups * size, groups * size)
    q, k, v = (by_head(write, t, count) for t, count in ((q, heads), (k, groups), (v, groups)))
    if attrs.get("do_rotary"):
        cosine, sine = (_at(write, table, positions, q, 2) for table in (cosines, sines))
        half = (write.sizes(cosines) or [None])[-1]
        q, k = (rotated(write, t, cosine, sine, half, size, bool(attrs.get("rotary_interleaved"))) for t in (q, k))
    for kept, name in zip((k, v), outputs[1:3], strict=False):
        if name:
            write("Identity", kept, result=name)
    k, v = (repeated(write, t, heads, groups) for t in (k, v))
    scale = attrs.get("scale") or size**-0.5
    mixed = weighed(write, q, k, v, scale, [added] if added else [], cap=attrs.get("softcap", 0.0), causal=True)
    beside(write, mixed, outputs[0])


def rotary(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """RotaryEmbedding of [batch, length, heads · size] or [batch, heads, length, size]"""
    x, positions, cosines, sines = inputs
    sizes, table = write.sizes(x), write.sizes(cosines)
    if attrs.get("is_packed_batching") or attrs.get("scale", 1.0) != 1.0:
        raise NotWritten("its batch is packed, or scaled")
    if write.known is None:
        write("Identity", x, result=outputs[0])
        return
    if sizes is None or len(sizes) not in (3, 4) or table is None or table[-1] is None or sizes[-1] is None:
        raise NotWritten("the shape of its input is not known")
    flat = len(sizes) == 3
    heads = attrs.get("num_heads") or (sizes[-1] // (2 * table[-1]) if flat else 0)
    cosine, sine = (_at(write, t, positions, x, 1 if flat else 2) for t in (cosines, sines))
    size = sizes[-1] // heads if flat else sizes[-1]
    whole = by_head(write, x, heads) if flat else x
    turned = rotated(write, whole, cosine, sine, table[-1], size, bool(attrs.get("interleaved")))
    if flat:
        beside(write, turned, outputs[0])
    else:
        write("Identity", turned, result=outputs[0])


def _at(write: Body, table: str, positions: str, x: str, axis: int) -> str:
    """[batch or 1, 1, length, half]: the rows of a table at the positions, counted along an axis of ``x`` from the one given,
    or from 0 on, where there are not as many
    """
    sizes = write.sizes(positions) if positions else []
    if sizes is None or len(sizes) not in (0, 1, 2):
        raise NotWritten("the form of its positions is not known")
    if len(sizes) < 2:
        zero, one = (write.constant(np.asarray(value), write.around) for value in (0, 1))
        count = write("Squeeze", write("Shape", x, start=axis, end=axis + 1))
        places = write("Range", zero, count, one)
        places = write("Add", places, positions) if positions else places
        positions = write("Unsqueeze", places, write.whole(0))
    return write("Unsqueeze", write("Gather", table, positions), write.whole(1))


def rotated(write: Body, x: str, cosine: str, sine: str, half: int | None, size: int, interleaved: bool) -> str:
    """(a, b) → (a cos − b sin, a sin + b cos) of ``half`` as many pairs of entries, side by side or that far apart; what is
    left of ``size`` stays.
    """
    if half is None:
        raise NotWritten("the size of its tables is not known")
    spans = ((0, 2 * half, 2), (1, 2 * half, 2)) if interleaved else ((0, half, 1), (half, 2 * half, 1))
    a, b = (write.part(x, 3, *span) for span in spans)
    turned = [
        write("Sub", write("Mul", a, cosine), write("Mul", b, sine)),
        write("Add", write("Mul", a, sine), write("Mul", b, cosine)),
    ]
    if interleaved:
        pairs = write("Concat", *(write("Unsqueeze", t, write.whole(4)) for t in turned), axis=4)
        turned = [write("Reshape", pairs, write.whole(0, 0, 0, 2 * half))]
    rest = [write.part(x, 3, 2 * half, LAST)] if 2 * half < size else []
    return write("Concat", *turned, *rest, axis=3)


Way = Callable[[Body, Sequence[str], Sequence[str], Attrs], None]
WAYS: dict[str, Way] = {
    "Attention": packed,
    "QAttention": quantised,
    "MultiHeadAttention": multi_head,
    "GroupQueryAttention": grouped,
    "RotaryEmbedding": rotary,
}
