"""What ONNX Runtime puts into one operator where it optimises a model, in operators of the standard.

The predictor's node stays in the file. Written down without its types first, which gives shape inference what it does not know
of such operators, then with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import NodeProto, TensorProto, helper

from onnxdtd.graph.attended import WAYS, Attrs, Way, of_the_standard
from onnxdtd.graph.body import Body, Constant, NotWritten
from onnxdtd.graph.inlined import Fresh
from onnxdtd.graph.known import Numbers


def is_fused(node: NodeProto) -> bool:
    """May it be written down?"""
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type) in FUSED


def spelled(node: NodeProto, constant: Constant, fresh: Fresh, known: Numbers | None, opset: int) -> list[NodeProto] | None:
    """The nodes that a node amounts to; None where that is not known."""
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    write = Body(node, constant, fresh, known, opset)
    try:
        FUSED["" if node.domain == "ai.onnx" else node.domain, node.op_type](write, node.input, node.output, attrs)
    except (NotWritten, KeyError, ValueError):  # a form that no runtime takes either
        return None
    return write.nodes


# --------------------------------------------------------------------------------------------------------------- norms


def _skipped(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """LayerNormalization of x + skip + bias, and that sum"""
    x, skip, gamma, beta, bias = [*inputs, "", ""][:5]
    total = _total(write, x, skip, bias, outputs)
    write("LayerNormalization", total, gamma, *filter(None, [beta]), result=outputs[0], axis=-1, epsilon=_epsilon(attrs))


def _skipped_rms(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """RMSNormalization of x + skip + bias, and that sum"""
    x, skip, gamma, bias = [*inputs, ""][:4]
    _rms(write, _total(write, x, skip, bias, outputs), gamma, outputs[0], -1, _epsilon(attrs))


def _total(write: Body, x: str, skip: str, bias: str, outputs: Sequence[str]) -> str:
    """x + bias + skip"""
    _, *statistics, total = [*outputs, "", "", ""][:4]
    if any(statistics):
        raise NotWritten("it hands on its statistics")
    return write("Add", write("Add", x, bias) if bias else x, skip, result=total)  # the bias is that of the layer in front


def _epsilon(attrs: Attrs) -> float:
    return float(attrs.get("epsilon", 1e-5 if "axis" in attrs else 1e-12))


def _simplified(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """RMSNormalization over the axes from ``axis`` on"""
    if any(outputs[1:]):
        raise NotWritten("it hands on its statistics")
    _rms(write, inputs[0], inputs[1], outputs[0], attrs.get("axis", -1), attrs.get("epsilon", 1e-5))


def _rms(write: Body, x: str, gamma: str, result: str, axis: int, epsilon: float) -> None:
    """γ x / √(mean x² + ε), in float32 at least"""
    sizes = write.sizes(x)
    if axis != -1 and (sizes is None or axis % len(sizes) != len(sizes) - 1):
        raise NotWritten("it goes over several axes")
    if write.opset >= RMS:
        write("RMSNormalization", x, gamma, result=result, axis=-1, epsilon=epsilon)
        return
    half = write.kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    whole = write("Cast", x, to=TensorProto.FLOAT) if half else x
    square = write("Mul", whole, whole)
    mean = write("ReduceMean", square, write.whole(-1)) if write.opset >= 18 else write("ReduceMean", square, axes=[-1])
    shift = write.constant(onnx.numpy_helper.to_array(helper.make_tensor("", TensorProto.FLOAT, [], [epsilon])), write.around)
    root = write("Sqrt", write("Add", mean, shift if half else write.scalar(epsilon, x)))
    scaled = write("Div", whole, root)
    write("Mul", write("CastLike", scaled, x) if half else scaled, gamma, result=result)


RMS = 23  # the operator set that has an RMSNormalization


def _embedded(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """LayerNormalization of the sum of what ids, segments and positions look up; that sum, and how many ids count"""
    ids, segments, words, places, kinds, gamma, beta, mask, positions = [*inputs, *[""] * 9][:9]
    result, counts, total = [*outputs, "", ""][:3]
    if not positions:
        axis = write("Shape", ids, start=1, end=2)
        zero, one = (
            write.constant(onnx.numpy_helper.to_array(helper.make_tensor("", 7, [], [n])), write.around) for n in (0, 1)
        )
        positions = write("Range", zero, write("Squeeze", axis), one)
    parts = [write("Gather", words, ids), write("Gather", places, positions)]
    parts += [write("Gather", kinds, segments)] if segments else []
    if write.known is None:  # as many as there are ids, whatever is known of segments and positions
        whole = write("Identity", parts[0], result=total)
    else:
        both = write("Add", *parts[:2], result=total if len(parts) < 3 else "")
        whole = write("Add", both, parts[2], result=total) if len(parts) == 3 else both
    write("LayerNormalization", whole, gamma, *filter(None, [beta]), result=result, axis=-1, epsilon=_epsilon(attrs))
    if counts:
        kept = write("Cast", mask or ids, to=TensorProto.INT32)
        write("ReduceSum", kept, write.whole(1), result=counts, keepdims=0)


# ------------------------------------------------------------------------------------------------------------ functions


def _gelu(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """Gelu(x + bias)"""
    x = write("Add", *inputs) if len(inputs) == 2 else inputs[0]
    if write.opset >= GELU:
        write("Gelu", x, result=outputs[0])
        return
    one = write("Add", write("Erf", write("Div", x, write.scalar(math.sqrt(2), x))), write.scalar(1.0, x))
    write("Mul", write("Mul", x, one), write.scalar(0.5, x), result=outputs[0])


def _tanh_gelu(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """Gelu(x + bias) by a tanh"""
    x = write("Add", *inputs) if len(inputs) == 2 and inputs[1] else inputs[0]
    if write.opset >= GELU:
        write("Gelu", x, result=outputs[0], approximate="tanh")
        return
    cube = write("Mul", write("Pow", x, write.scalar(3.0, x)), write.scalar(0.044715, x))
    inner = write("Mul", write("Add", x, cube), write.scalar(math.sqrt(2 / math.pi), x))
    one = write("Add", write("Tanh", inner), write.scalar(1.0, x))
    write("Mul", write("Mul", x, write.scalar(0.5, x)), one, result=outputs[0])


GELU = 20  # the operator set that has a Gelu


def _quick_gelu(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """x σ(α x)"""
    (x,) = inputs
    inner = write("Mul", x, write.scalar(attrs.get("alpha", 1.702), x))
    write("Mul", x, write("Sigmoid", inner), result=outputs[0])


def _activated(write: Body, x: str, result: str, attrs: Attrs) -> None:
    """The function that stands behind a layer, with its numbers by name, or in a list"""
    op = attrs["activation"].decode() if isinstance(attrs.get("activation"), bytes) else attrs.get("activation", "")
    given = attrs.get("activation_params", [])
    if op == "Clip":
        low, high = (write.scalar(number, x) for number in given)
        write("Clip", x, low, high, result=result)
        return
    schema = onnx.defs.get_schema(op, write.opset, "") if onnx.defs.has(op, write.opset, "") else None
    if schema is None:
        raise NotWritten(f"its activation is {op}")
    names = [name for name in ("alpha", "beta", "gamma") if name in schema.attributes]
    listed = dict(zip(names, given, strict=False))
    own = {name: attrs.get(f"activation_{name}", listed.get(name)) for name in names}
    write(op, x, result=result, **{name: value for name, value in own.items() if value is not None})


# --------------------------------------------------------------------------------------------------------------- layers


def _product(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """α A B, of matrices that may be transposed"""
    alpha, factors = attrs.get("alpha", 1.0), list(inputs)
    if attrs.get("transBatchA") or attrs.get("transBatchB"):
        raise NotWritten("it moves the axes of batches")
    turned = [bool(attrs.get(name)) for name in ("transA", "transB")]
    if write.known is None:
        told = [write("Einsum", t, equation="...ij->...ji") if turned[i] else t for i, t in enumerate(factors)]
        write("MatMul", *told, result=outputs[0])
        return
    for i, t in enumerate(factors):
        rank = len(write.sizes(t) or [])
        if rank < 2:
            raise NotWritten("the shape of its factors is not known")
        if turned[i]:
            factors[i] = write("Transpose", t, perm=[*range(rank - 2), rank - 1, rank - 2])
    product = write("MatMul", *factors, result=outputs[0] if alpha == 1.0 else "")
    if alpha != 1.0:
        write("Mul", product, write.scalar(alpha, inputs[0]), result=outputs[0])


def _gemm(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """f(α A B + β C)"""
    own = {name: attrs[name] for name in ("alpha", "beta", "transA", "transB") if name in attrs}
    _activated(write, write("Gemm", *inputs, **own), outputs[0], attrs)


def _conv(write: Body, inputs: Sequence[str], outputs: Sequence[str], attrs: Attrs) -> None:
    """f(w x + b + z)"""
    x, w, b, z = [*inputs, "", ""][:4]
    own = {name: value for name, value in attrs.items() if not name.startswith("activation")}
    mapped = write("Conv", x, w, *filter(None, [b]), **own)
    whole = write("Add", mapped, z) if z else mapped
    if attrs.get("activation"):
        _activated(write, whole, outputs[0], attrs)
    else:
        write("Identity", whole, result=outputs[0])


FUSED: dict[tuple[str, str], Way] = {
    ("", "Attention"): of_the_standard,
    ("", "SimplifiedLayerNormalization"): _simplified,
    **{("com.microsoft", op): way for op, way in WAYS.items()},
    ("com.microsoft", "SkipLayerNormalization"): _skipped,
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): _skipped_rms,
    ("com.microsoft", "EmbedLayerNormalization"): _embedded,
    ("com.microsoft", "Gelu"): _gelu,
    ("com.microsoft", "BiasGelu"): _gelu,
    ("com.microsoft", "FastGelu"): _tanh_gelu,
    ("com.microsoft", "QuickGelu"): _quick_gelu,
    ("com.microsoft", "FusedMatMul"): _product,
    ("com.microsoft", "TransposeMatMul"): _product,
    ("com.microsoft", "FusedGemm"): _gemm,
    ("com.microsoft", "FusedConv"): _conv,
}

PACKED = "it takes the tokens of all samples in one row: give the model from before convert_to_packing_mode"
BLOCKS = "its weights have few bits, in blocks: quantise with quant_format=QuantFormat.QDQ, or give the model from before"
LAYOUT = "it has its channels last: save what ONNX Runtime optimises at ORT_ENABLE_EXTENDED, which leaves them where they are"
UNSERVED = (
    "it takes keys and values from before, queries packed with them, or sizes that are not known: "
    "export without a cache, and optimise with --disable_packed_kv --disable_packed_qkv"
)
OTHERS = "ONNX Runtime writes it where it optimises a model: give the one from before, or optimise it with less"
WAYS_OUT: dict[str, str] = {  # of operators of com.microsoft; options are those of onnxruntime.transformers.optimizer
    **dict.fromkeys(("PackedAttention", "PackedMultiHeadAttention"), PACKED),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"), BLOCKS),
    **dict.fromkeys(("NhwcFusedConv", "NhwcMaxPool"), LAYOUT),
    **dict.fromkeys((*WAYS, "DecoderMaskedSelfAttention", "DecoderMaskedMultiHeadAttention"), UNSERVED),
    "BiasAdd": "optimise with --disable_bias_add",
    "BiasSplitGelu": "optimise with --disable_bias_splitgelu",
    "GroupNorm": "optimise with --disable_group_norm",
    "QEmbedLayerNormalization": "quantise the others alone, with op_types_to_quantize=['MatMul', 'Attention']",
    "NhwcConv": "optimise with --disable_nhwc_conv",
    "SkipGroupNorm": "optimise with --disable_skip_group_norm",
}
