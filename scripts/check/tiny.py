"""Small nets for what no exported model has: each written in ONNX's own notation, with seeded weights.

A tensor named like ``w_4x3x3x3`` is a weight of that shape. One that ends in ``i8`` or ``u8`` holds integers of that type.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

WEIGHT = re.compile(r"\w+?_(\d+(?:x\d+)*)(i8|u8|i32|f16|f64)?")
TYPES = {"i8": np.int8, "u8": np.uint8, "i32": np.int32, "f16": np.float16, "f64": np.float64, None: np.float32}
HEAD = '<ir_version: 10, opset_import: ["": {opset}, "ai.onnx.ml": 3, "com.microsoft": 1, "com.acme": 1]> net '


def net(text: str, opset: int = 21) -> ModelProto:
    """A model: its inputs, outputs and nodes are in ``text``, its weights are drawn."""
    proto = onnx.parser.parse_model(HEAD.format(opset=opset) + text)
    graph = proto.graph
    held = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    used = dict.fromkeys(name for node in graph.node for name in node.input if name not in held)
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{i}"
    for name in used:
        if shape := WEIGHT.fullmatch(name):
            graph.initializer.append(numpy_helper.from_array(_drawn(name, shape), name))
    return proto


def _drawn(name: str, shape: re.Match[str]) -> np.ndarray:
    """Numbers that depend on the name alone; as a variance they would have to be positive, so those called ``var`` are."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    sizes, dtype = [int(size) for size in shape[1].split("x")], TYPES[shape[2]]
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0 if dtype == np.uint8 else -100, 100, sizes).astype(dtype)
    drawn = rng.standard_normal(sizes) / np.sqrt(np.prod(sizes[1:]))
    return (np.absolute(drawn) + 0.5 if name.startswith("var") else drawn).astype(dtype)


NETS = {
    "convtranspose": """(float[N, 3, 6, 6] x) => (float[N, 4] y) {
        a = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]>(x, w_3x4x3x3, b_4)
        c = LeakyRelu<alpha = 0.1>(a)
        d = ConvTranspose<group = 2, dilations = [2, 1]>(c, v_4x2x2x2)
        e = Relu(d)
        f = ConvTranspose<strides = [2, 3]>(e, u_4x4x3x3)
        g = GlobalAveragePool(f)
        h = Flatten(g)
        y = Gemm(h, t_4x4, c_4)
    }""",
    "moves": """(float[N, 4, 8, 8] x) => (float[N, 3] y) <
        int64[2] from = {-1, 1}, int64[2] to = {-20, 8}, int64[2] axes = {2, 3}, int64[2] steps = {-2, 3},
        int64[3] picked = {3, 0, 0}, int64[2] parts = {1, 2}, int64[8] pads = {0, 0, 1, 0, 0, 0, 0, 2},
        int64[4] tiles = {1, 1, 2, 1}, int64[1] two = {2}, int64[5] wide = {1, 1, 4, 2, 3}, int64[3] row = {0, -1, 5},
        bool[5] mask = {1, 0, 1, 1, 0}
    > {
        a = Conv<pads = [1, 1, 1, 1]>(x, w_8x4x3x3, b_8)
        b = Relu(a)
        d = DepthToSpace<blocksize = 2, mode = "CRD">(b)
        s = SpaceToDepth<blocksize = 2>(d)
        c = Slice(s, from, to, axes, steps)
        g = Gather<axis = 1>(c, picked)
        p, q = Split<axis = 1>(g, parts)
        j = Concat<axis = 1>(q, p)
        k = Pad(j, pads)
        t = Tile(k, tiles)
        r = Transpose<perm = [0, 2, 1, 3]>(t)
        m = ReduceMean<keepdims = 0>(r, two)
        u = Reshape(m, row)
        z = Where(mask, u, o_5)
        f = Flatten(z)
        y = Gemm<transB = 1>(f, v_3x50)
    }""",
    "extremes": """(float[N, 3, 8, 8] x) => (float[N, 4] y) <int64[1] last = {3}> {
        a = Conv(x, w_4x3x3x3, b_4)
        b = Conv(x, v_4x3x3x3)
        c = Max(a, b)
        d = Min(a, c, b)
        e = Sum(a, d, c)
        f = Sub(e, b)
        g = Neg(f)
        h = MaxPool<kernel_shape = [2, 2], strides = [1, 2], dilations = [2, 1], pads = [0, 1, 0, 0]>(g)
        i = ReduceMax<keepdims = 1>(h, last)
        j = GlobalMaxPool(i)
        k = Flatten(j)
        y = Gemm<alpha = 0.5, beta = 2.0>(k, u_4x4, t_4)
    }""",
    "einsum": """(float[N, 5, 6] x) => (float[N, 3] y) <int64[1] one = {1}> {
        a = Einsum<equation = "bij,jk->bik">(x, w_6x8)
        b = Relu(a)
        k = MatMul(b, u_8x8)
        c = Einsum<equation = "bik,bjk->bij">(b, k)
        s = Softmax<axis = -1>(c)
        d = Einsum<equation = "bij,bjk->bik">(s, b)
        e = ReduceSum<keepdims = 0>(d, one)
        y = Einsum<equation = "bk,kc->bc">(e, v_8x3)
    }""",
    "groups": """(float[N, 4, 6, 6] x) => (float[N, 3] y) {
        a = Conv(x, w_8x4x3x3)
        b = GroupNormalization<num_groups = 2>(a, scale_8, shift_8)
        c = Relu(b)
        d = InstanceNormalization(c, size_8, bias_8)
        e = Gelu<approximate = "tanh">(d)
        f = LayerNormalization<axis = 1>(e, rows_8x4x4, cols_8x4x4)
        g = Flatten(f)
        y = MatMul(g, v_128x3)
    }""",
    "activations": """(float[N, 6] x) => (float[N, 3] y) {
        a = Gemm(x, w_6x8, b_8)
        c = Elu(a)
        d = MatMul(c, a_8x8)
        e = Selu(d)
        f = MatMul(e, b_8x8)
        g = Celu(f)
        h = MatMul(g, c_8x8)
        i = Softplus(h)
        j = MatMul(i, d_8x8)
        k = Softsign(j)
        l = MatMul(k, e_8x8)
        m = HardSigmoid(l)
        n = MatMul(m, f_8x8)
        o = HardSwish(n)
        p = MatMul(o, g_8x8)
        q = Mish(p)
        r = MatMul(q, h_8x8)
        s = ThresholdedRelu<alpha = 0.5>(r)
        t = MatMul(s, i_8x8)
        u = PRelu(t, slope_8)
        v = MatMul(u, j_8x8)
        w = Erf(v)
        z = MatMul(w, k_8x8)
        aa = Tanh(z)
        bb = MatMul(aa, l_8x8)
        cc = Sigmoid(bb)
        y = Gemm(cc, v_8x3, b_3)
    }""",
    "curves": """(float[N, 6] x) => (float[N, 3] y) <float two = {2}, int64[1] last = {-1}> {
        a = Gemm(x, w_6x8, b_8)
        c = Abs(a)
        d = Exp(c)
        e = Log(d)
        f = Sqrt(d)
        g = Reciprocal(f)
        h = Pow(a, two)
        i = ReduceL2<keepdims = 1>(h, last)
        j = ReduceL1<keepdims = 1>(a, last)
        k = ReduceSumSquare<keepdims = 1>(a, last)
        l = Sum(e, g, h, i, j, k)
        m = Softmax(l)
        n = LogSoftmax(m)
        y = Gemm(n, v_8x3, b_3)
    }""",
    "local": """(float[N, 4, 9, 9] x) => (float[N, 4] p) <int64[4] to = {0, 0, 12, 6}> {
        a = Conv<auto_pad = "SAME_LOWER", strides = [2, 2], group = 2>(x, w_4x2x3x3, b_4)
        b = BatchNormalization(a, scale_4, shift_4, mean_4, var_4)
        c = Relu(b)
        d = LRN<size = 3>(c)
        e = AveragePool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1, pads = [1, 1, 1, 1]>(d)
        f = AveragePool<kernel_shape = [2, 2], pads = [1, 0, 0, 1], count_include_pad = 1, auto_pad = "NOTSET">(e)
        g = MaxPool<kernel_shape = [2, 2], ceil_mode = 1, strides = [2, 2]>(f)
        h = GlobalAveragePool(g)
        i = Flatten(h)
        j = Dropout(i)
        z = MatMul(j, v_4x4)
        p = Softmax(z)
    }""",
    "resized": """(float[N, 3, 4, 4] x) => (float[N, 4] y) <
        float[4] scales = {1, 1, 2, 1.5}, int64[2] axes = {2, 3}, int64[2] size = {4, 9}
    > {
        a = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , scales)
        b = Conv(a, w_4x3x3x3, b_4)
        c = Relu(b)
        d = Resize<mode = "linear">(c, , scales)
        e = Relu(d)
        f = ReduceMean<keepdims = 0>(e, axes)
        y = Gemm(f, v_4x4, c_4)
    }""",
    "gates": """(float[N, 4, 6, 6] x) => (float[N, 3] y) <
        float one = {1}, float half = {0.5}, float three = {3}, float root = {0.797}, float c = {0.044715}
    > {
        a = Conv(x, w_8x4x3x3, b_8)
        s = Sigmoid(a)
        b = Mul(a, s)
        d = GlobalAveragePool(b)
        e = Conv(d, down_4x8x1x1)
        f = Relu(e)
        g = Conv(f, up_8x4x1x1)
        h = HardSigmoid(g)
        i = Mul(b, h)
        j, k = Split<axis = 1, num_outputs = 2>(i)
        l = Sigmoid(k)
        m = Mul(j, l)
        n = Pow(m, three)
        o = Mul(n, c)
        p = Add(m, o)
        q = Mul(p, root)
        r = Tanh(q)
        t = Add(r, one)
        u = Mul(m, t)
        v = Mul(u, half)
        z = Flatten(v)
        y = Gemm(z, v_64x3, b_3)
    }""",
    "attention": """(float[N, 5, 8] x, float[N, 1, 1, 5] mask) => (float[N, 3] y) <
        int64[4] heads = {0, 0, 2, 4}, int64[3] joined = {0, 0, 8}, float scale = {0.5}, int64[1] one = {1}, int64 zero = {0}
    > {
        a = LayerNormalization(x, scale_8, shift_8)
        q0 = MatMul(a, q_8x8)
        k0 = MatMul(a, k_8x8)
        v0 = MatMul(a, v_8x8)
        q1 = Reshape(q0, heads)
        k1 = Reshape(k0, heads)
        v1 = Reshape(v0, heads)
        q2 = Transpose<perm = [0, 2, 1, 3]>(q1)
        k2 = Transpose<perm = [0, 2, 3, 1]>(k1)
        v2 = Transpose<perm = [0, 2, 1, 3]>(v1)
        b = MatMul(q2, k2)
        c = Mul(b, scale)
        d = Add(c, mask)
        e = Softmax<axis = -1>(d)
        f = MatMul(e, v2)
        g = Transpose<perm = [0, 2, 1, 3]>(f)
        h = Reshape(g, joined)
        i = MatMul(h, o_8x8)
        j = Add(x, i)
        k = Gather<axis = 1>(j, zero)
        y = Gemm(k, t_8x3, b_3)
    }""",
    "two inputs": """(float[N, 3, 6, 6] image, float[N, 4] table) => (float[N, 3] scores, int64[N] label) <int64[1] one = {1}> {
        a = Conv(image, w_4x3x3x3, b_4)
        b = Relu(a)
        c = GlobalAveragePool(b)
        d = Flatten(c)
        e = Gemm(table, u_4x6)
        f = Relu(e)
        g = Concat<axis = 1>(d, f)
        z = Gemm(g, v_10x3, c_3)
        scores = Softmax(z)
        label = ArgMax<axis = 1, keepdims = 0>(z)
    }""",
    "sequence": """(float[T, N, 6] x) => (float[N, 3] y) <int64[1] zero = {0}, int64[1] time = {0}> {
        a = MatMul(x, w_6x8)
        b = Add(a, b_8)
        c = Tanh(b)
        d = MatMul(c, v_8x1)
        e = Softmax<axis = 0>(d)
        f = Mul(c, e)
        g = ReduceSum<keepdims = 0>(f, zero)
        y = Gemm(g, u_8x3)
    }""",
    "mapped scores": """(float[N, 3, 8, 8] x) => (float[N, 4] y) <int64[2] axes = {2, 3}> {
        a = Conv(x, w_6x3x3x3, b_6)
        b = Relu(a)
        c = Conv(b, v_4x6x1x1, c_4)
        d = Conv(b, u_4x6x1x1)
        e = Add(c, d)
        f = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(e)
        y = ReduceMean<keepdims = 0>(f, axes)
    }""",
    "one logit": """(float[N, 6] x) => (float[N] p) <int64[1] one = {1}> {
        a = Gemm(x, w_6x8, b_8)
        b = Relu(a)
        c = Gemm(b, v_8x1, c_1)
        d = Squeeze(c, one)
        p = Sigmoid(d)
    }""",
    "sigmoid written out": """(float[N, 6] x) => (float[N, 1] p) <float[1] one = {1}> {
        a = Gemm(x, w_6x8, b_8)
        b = Relu(a)
        c = Gemm(b, v_8x1, c_1)
        d = Neg(c)
        e = Exp(d)
        f = Add(e, one)
        p = Reciprocal(f)
    }""",
    "quantised": """(float[N, 3, 8, 8] x) => (float[N, 4] y) <
        float s = {0.02}, uint8 z = {0}, uint8 m = {100}, float t = {0.01}, int8 n = {0}, uint8 zw = {90},
        int64[2] row = {0, -1}
    > {
        a = QuantizeLinear(x, s, m)
        b = QLinearConv<pads = [1, 1, 1, 1]>(a, s, m, w_4x3x3x3i8, t, n, s, z, b_4i32)
        c = com.microsoft.QLinearLeakyRelu<alpha = 0.2>(b, s, z, s, m)
        d = com.microsoft.QLinearAdd(b, s, z, c, s, m, s, m)
        e = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2], strides = [2, 2]>(d, s, m, s, m)
        f = com.microsoft.QLinearSigmoid(e, s, m, t, z)
        g = com.microsoft.QLinearMul(e, s, m, f, t, z, s, m)
        h = Reshape(g, row)
        i = QLinearMatMul(h, s, m, v_64x8u8, t, zw, s, m)
        j = com.microsoft.QGemm(i, s, m, u_8x4u8, t, zw, c_4i32, s, m)
        y = DequantizeLinear(j, s, m)
    }""",
    "dequantised weights": """(float[N, 3, 6, 6] x) => (float[N, 4] y) <
        float[4] t = {0.01, 0.02, 0.03, 0.04}, int8[4] n = {0, 0, 0, 0}, float s = {0.05}, uint8 z = {20}
    > {
        a = DequantizeLinear<axis = 0>(w_4x3x3x3i8, t, n)
        b = QuantizeLinear(x, s, z)
        c = DequantizeLinear(b, s, z)
        d = Conv(c, a, b_4)
        e = Relu(d)
        f = QuantizeLinear(e, s, z)
        g = DequantizeLinear(f, s, z)
        h = GlobalAveragePool(g)
        i = Flatten(h)
        y = Gemm(i, v_4x4)
    }""",
    "bytes in": """(uint8[N, 8, 8, 3] x) => (float[N, 3] y) <float top = {255}, float half = {0.5}> {
        a = Cast<to = 1>(x)
        b = Div(a, top)
        c = Sub(b, half)
        d = Transpose<perm = [0, 3, 1, 2]>(c)
        e = Conv(d, w_4x3x3x3, b_4)
        f = Relu(e)
        g = GlobalMaxPool(f)
        h = Flatten(g)
        y = Gemm(h, v_4x3)
    }""",
    "half": """(float16[1, 3, 6, 6] x) => (float16[1, 3] y) {
        a = Conv(x, w_4x3x3x3f16, b_4f16)
        b = Relu(a)
        c = GlobalAveragePool(b)
        d = Flatten(c)
        y = Gemm(d, v_4x3f16)
    }""",
    "double": """(double[N, 6] x) => (double[N, 3] y) {
        a = Gemm(x, w_6x8f64, b_8f64)
        b = Relu(a)
        c = MatMul(b, v_8x3f64)
        y = Softmax(c)
    }""",
    "tokens": """(int64[N, 7] ids, float[N, 7] weight) => (float[N, 3] y) <int64[1] one = {1}, int64[1] two = {2}> {
        a = Gather(table_20x8, ids)
        w = Unsqueeze(weight, two)
        b = Mul(a, w)
        c = ReduceMean<keepdims = 0>(b, one)
        y = Gemm(c, v_8x3)
    }""",
    "table": """(float[N, 3] x, float[N, 2] z) => (int64[N] label, float[N, 3] scores) {
        a = ai.onnx.ml.Imputer<imputed_value_floats = [0.5, 1.0, 2.0], replaced_value_float = nan>(x)
        b = ai.onnx.ml.Scaler<offset = [0.1, 0.2, 0.3], scale = [1.0, 2.0, 3.0]>(a)
        c = ai.onnx.ml.FeatureVectorizer<inputdimensions = [3, 2]>(b, z)
        d = ai.onnx.ml.Normalizer<norm = "L2">(c)
        label, s = ai.onnx.ml.LinearClassifier<classlabels_ints = [4, 7, 9], multi_class = 0, post_transform = "NONE",
            coefficients = [0.1, -0.2, 0.3, 0.4, 0.5, -0.6, 0.7, 0.8, 0.9, 1.0, 0.2, 0.3, -0.4, 0.5, 0.6],
            intercepts = [0.1, 0.2, 0.3]>(d)
        scores = ai.onnx.ml.Normalizer<norm = "L1">(s)
    }""",
    "words": """(float[N, 3] x, string[N, 1] colour) => (float[N, 3] y) {
        a = ai.onnx.ml.OneHotEncoder<cats_strings = ["red", "green"], zeros = 1>(colour)
        b = Flatten(a)
        c = Concat<axis = 1>(x, b)
        y = Gemm(c, v_5x3)
    }""",
    "branches": """(float[N, 6] x) => (float[N, 3] y) <bool yes = {1}> {
        a = If(yes)<
            then_branch = then () => (float[N, 6] b) { b = Relu(x) },
            else_branch = else () => (float[N, 6] c) { c = Neg(x) }>
        d = Gemm(a, w_6x8, b_8)
        y = MatMul(d, u_8x3)
    }""",
    "counted sizes": """(float[N, 4, H, W] x) => (float[N, 3] y) <
        int64 zero = {0}, int64[1] least = {-1}, int64[1] first = {0}
    > {
        a = Conv(x, w_6x4x3x3)
        b = Relu(a)
        c = GlobalAveragePool(b)
        s = Shape(c)
        n = Gather(s, zero)
        m = Unsqueeze(n, first)
        r = Concat<axis = 0>(m, least)
        d = Reshape(c, r)
        y = Gemm(d, v_6x3)
    }""",
    "unknown": """(float[1, 6] x) => (float[1, 3] y) <int64[1] k = {4}> {
        a = Hardmax(x)
        b = com.acme.Snake(a)
        c = Gemm(b, w_6x8)
        d, e = TopK(c, k)
        f = RandomNormalLike(d)
        y = MatMul(f, v_4x3)
    }""",
    "signs": """(float[N, 6] x) => (float[N, 3] y) {
        a = Gemm(x, w_6x8)
        b = Hardmax(a)
        c = Gemm(b, v_8x8)
        d = Hardmax(c)
        y = MatMul(d, u_8x3)
    }""",
    "map of classes": """(float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) { y = Conv(x, w_4x3x3x3) }""",
    "skips": """(float[N, 4, 6, 6] x) => (float[N, 3] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, w_4x4x3x3, b_4)
        b = BatchNormalization(a, scale_4, shift_4, mean_4, var_4)
        c = Relu(b)
        d = Add(x, c)
        e = Conv<pads = [1, 1, 1, 1]>(d, v_4x4x3x3)
        f = BatchNormalization(e, scale2_4, shift2_4, mean2_4, var2_4)
        g = Add(d, f)
        h = Relu(g)
        i = BatchNormalization(h, scale3_4, shift3_4, mean3_4, var3_4)
        j = Concat<axis = 1>(i, h)
        k = Concat<axis = 1>(j, d)
        l = Conv(k, t_4x12x1x1)
        m = GlobalAveragePool(l)
        n = Flatten(m)
        o = Gemm(n, u_4x3)
        y = Softmax(o)
    }""",
    "channels last": """(float[N, 8, 8, 3] x) => (float[N, 1] p) <int64[2] axes = {1, 2}> {
        a = Transpose<perm = [0, 3, 1, 2]>(x)
        b = Conv(a, w_6x3x3x3, b_6)
        c = Relu(b)
        d = Transpose<perm = [0, 2, 3, 1]>(c)
        e = MatMul(d, v_6x1)
        f = Add(e, c_1)
        z = ReduceMean<keepdims = 0>(f, axes)
        p = Sigmoid(z)
    }""",
    "windows of scores": """(float[N, 3, 9, 9] x) => (float[N, 1] p) {
        a = Conv<strides = [2, 2]>(x, w_4x3x3x3, b_4)
        b = Relu(a)
        c = Conv<pads = [1, 0, 1, 2], group = 1>(b, v_1x4x3x3, c_1)
        d = GlobalAveragePool(c)
        z = Flatten(d)
        p = Sigmoid(z)
    }""",
    "framed scores": """(float[N, 3, 8, 8] x) => (float[N, 3] y) <
        int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, int64[2] from = {1, 0}, int64[2] to = {6, 5}, int64[2] axes = {2, 3},
        int64[3] row = {0, 0, -1}, int64[1] last = {2}, float[4] scales = {1, 1, 2, 2}
    > {
        a = Conv(x, w_4x3x3x3, b_4)
        b = Relu(a)
        c = Conv<strides = [2, 2], group = 1>(b, v_3x4x2x2, c_3)
        d = Pad(c, pads)
        e = Slice(d, from, to, axes)
        f = Resize<mode = "nearest">(e, , scales)
        g = Reshape(f, row)
        y = ReduceMean<keepdims = 0>(g, last)
    }""",
    "listed scores": """(float[N, 8, 8, 3] x) => (float[N, 3] y) <int64[3] list = {0, -1, 4}, int64[1] last = {2}> {
        a = Einsum<equation = "nhwc,cd->nhwd">(x, w_3x4)
        b = Relu(a)
        c = Reshape(b, list)
        d = Einsum<equation = "npc,ck->npk">(c, v_4x3)
        e = Transpose<perm = [0, 2, 1]>(d)
        f = ReduceMean<keepdims = 1>(e, last)
        y = Squeeze(f, last)
    }""",
    "scores from the left": """(float[N, 6, 5] x) => (float[N, 1] p) <int64[1] last = {2}> {
        a = MatMul(w_4x6, x)
        b = Relu(a)
        c = MatMul(v_1x4, b)
        z = ReduceMean<keepdims = 0>(c, last)
        p = Sigmoid(z)
    }""",
    "weighted scores": """(float[N, 5, 6] x) => (float[N, 2] y) <int64[1] one = {1}> {
        a = MatMul(x, w_6x8)
        b = Relu(a)
        c = MatMul(b, u_8x1)
        d = Softmax<axis = 1>(c)
        e = MatMul(b, v_8x2)
        f = Mul(d, e)
        y = ReduceSum<keepdims = 0>(f, one)
    }""",
    "difference": """(float[N, 6] x) => (float[N, 3] y) <float temperature = {0.7}> {
        a = Gemm(x, w_6x8, b_8)
        b = Relu(a)
        c = Gemm<alpha = 0.5>(b, u_8x3, c_3)
        d = MatMul(x, v_6x3)
        e = Gemm<beta = 2.0>(b, t_8x3, d)
        f = Sub(c, e)
        g = Div(f, temperature)
        y = LogSoftmax(g)
    }""",
    "winner": """(float[N, 3, 8, 8] x) => (float[N, 1] p) {
        a = Conv(x, w_4x3x3x3, b_4)
        b = LeakyRelu(a)
        c = Conv(b, v_1x4x1x1)
        d = GlobalMaxPool(c)
        z = Flatten(d)
        p = Sigmoid(z)
    }""",
    "grouped": """(float[N, 4, 9, 8] x) => (float[N, 3] y) {
        a = Conv<group = 4, strides = [2, 1], pads = [1, 1, 0, 1]>(x, w_4x1x3x3, b_4)
        b = Relu(a)
        c = Conv<group = 2, dilations = [1, 2], auto_pad = "VALID">(b, v_6x2x2x2)
        d = Relu(c)
        e = AveragePool<auto_pad = "SAME_UPPER", kernel_shape = [3, 2], strides = [2, 1]>(d)
        f = GlobalAveragePool(e)
        g = Flatten(f)
        y = Gemm<transB = 1>(g, u_3x6)
    }""",
    "any size": """(float[N, 3, H, W] x) => (float[N, 3] y) <int64[2] axes = {2, 3}> {
        a = Conv<strides = [2, 2], auto_pad = "SAME_UPPER">(x, w_4x3x3x3, b_4)
        b = Relu(a)
        c = Conv<strides = [3, 2], pads = [1, 1, 0, 0]>(b, v_4x4x2x2)
        d = Relu(c)
        e = MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(d)
        f = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>(e)
        g = ReduceMean<keepdims = 0>(f, axes)
        y = Gemm(g, u_4x3)
    }""",
    "one dimension": """(float[N, 2, 24] x) => (float[N, 3] y) <int64[1] last = {2}> {
        a = Conv<strides = [2], pads = [1, 1]>(x, w_4x2x3, b_4)
        b = Relu(a)
        c = MaxPool<kernel_shape = [2], strides = [2]>(b)
        d = ConvTranspose<strides = [2]>(c, v_4x4x2)
        e = Tanh(d)
        f = AveragePool<kernel_shape = [3], strides = [3]>(e)
        g = ReduceSum<keepdims = 0>(f, last)
        y = Gemm(g, u_4x3)
    }""",
    "volume": """(float[N, 1, 4, 5, 6] x) => (float[N, 3] y) {
        a = Conv<pads = [1, 1, 1, 1, 1, 1]>(x, w_3x1x3x3x3, b_3)
        b = Relu(a)
        c = MaxPool<kernel_shape = [2, 2, 2], strides = [2, 2, 2]>(b)
        d = GlobalAveragePool(c)
        e = Flatten(d)
        y = Gemm(e, u_3x3)
    }""",
    "products": """(float[N, 6] x) => (float[N, 3] y) <float half = {0.5}, float two = {2}, int64[1] last = {-1}> {
        a = Gemm<transA = 0, transB = 1>(x, w_8x6, b_8)
        b = Tanh(a)
        c = Gemm(x, v_6x8)
        d = Mul(b, c)
        e = Softplus(c)
        f = Div(d, e)
        g = Mul(half, f)
        h = ReduceMean<keepdims = 1>(g, last)
        i = Sub(g, h)
        j = Pow(i, two)
        k = ReduceMean<keepdims = 1>(j, last)
        l = Sqrt(k)
        m = Div(i, l)
        n = Mul(m, scale_8)
        y = Gemm(n, u_8x3)
    }""",
    "transposed": """(float[6, 4] x) => (float[3] y) <int64[1] one = {1}> {
        a = Gemm<transA = 1>(x, w_6x5)
        b = Relu(a)
        c = MatMul(v_3x4, b)
        y = ReduceMean<keepdims = 0>(c, one)
    }""",
    "merged batch": """(float[N, 5, 6] x) => (float[N, 3] y) <
        int64[2] flat = {-1, 6}, int64[2] zero = {0, 0}, int64[1] from = {0}, int64[1] to = {1}, int64[2] tail = {5, 8},
        int64[1] one = {1}
    > {
        a = Reshape(x, flat)
        b = Gemm(a, w_6x8, b_8)
        c = Relu(b)
        s = Shape(x)
        n = Slice(s, from, to)
        t = Concat<axis = 0>(n, tail)
        d = Reshape(c, t)
        e = ReduceMax<keepdims = 0>(d, one)
        y = Gemm(e, v_8x3)
    }""",
    "time in front": """(float[T, N, 6] x) => (float[N, 3] y) <
        int64[2] flat = {-1, 6}, int64[1] from = {0}, int64[1] to = {2}, int64[1] tail = {8}, int64 last = {-1}
    > {
        a = Reshape(x, flat)
        b = Gemm(a, w_6x8, b_8)
        c = Relu(b)
        s = Shape(x)
        n = Slice(s, from, to)
        t = Concat<axis = 0>(n, tail)
        d = Reshape(c, t)
        e = Transpose<perm = [1, 0, 2]>(d)
        f = Gather<axis = 1>(e, last)
        y = Gemm(f, v_8x3)
    }""",
    "computed sizes": """(float[N, 4, H, W] x) => (float[N, 3] y) <
        int64 one = {1}, int64[1] two = {2}, int64[1] first = {0}, int64[1] second = {1}, int64[1] least = {-1},
        int64[1] three = {3}
    > {
        a = Conv<pads = [1, 1, 1, 1]>(x, w_6x4x3x3)
        b = Relu(a)
        s = Shape(b)
        n = Slice(s, first, second)
        c = Gather(s, one)
        d = Unsqueeze(c, first)
        e = Div(d, two)
        r = Concat<axis = 0>(n, e, two, least)
        f = Reshape(b, r)
        g = ReduceMean<keepdims = 0>(f, three)
        h = Flatten(g)
        y = Gemm(h, v_6x3)
    }""",
    "doubled": """(float[N, 4] x) => (float[N, 3] y) <int64[2] tiles = {1, 2}, int64[3] wide = {1, 3, 4}, int64[1] one = {1}> {
        a = Concat<axis = 1>(x, x)
        b = Tile(x, tiles)
        c = Add(a, b)
        d = Unsqueeze(x, one)
        e = Expand(d, wide)
        f = ReduceSum<keepdims = 0>(e, one)
        g = Concat<axis = 1>(c, f)
        y = Gemm(g, v_12x3)
    }""",
    "vector": """(float[6] x) => (float[3] y) {
        a = MatMul(x, w_6x8)
        b = Add(a, b_8)
        c = Relu(b)
        y = MatMul(c, v_8x3)
    }""",
    "unknown rank": """(float[N, 6] x, int64[K] sizes) => (float[N, 3] y) {
        a = Reshape(x, sizes)
        b = Relu(a)
        c = Flatten(b)
        y = MatMul(c, v_6x3)
    }""",
    "several outputs": """(float[N, 6] x, float[N, 6] z) => (float[N, 3] one, float[N, 2] two) {
        a = Gemm(x, w_6x8, b_8)
        b = Relu(a)
        one = Gemm(b, v_8x3)
        c = Gemm(z, u_6x8)
        d = Sum(b, c)
        two = Gemm(d, t_8x2)
    }""",
    "clash": """(float[N, 6] x) => (float[N, 3] logit) {
        relevance = Gemm(x, w_6x8, b_8)
        a = Relu(relevance)
        logit = Gemm(a, v_8x3)
    }""",
    "ruled out": """(float[N, 6] x) => (float[N, 3] p) <bool[3] out = {0, 1, 0}, float never = {-inf}> {
        a = Gemm(x, w_6x8, b_8)
        b = Relu(a)
        c = Gemm(b, v_8x3)
        z = Where(out, never, c)
        p = Softmax(z)
    }""",
    "spelled softmax": """(float[N, 6] x) => (float[N, 3] p) <int64[1] one = {1}> {
        a = Gemm(x, w_6x8, b_8)
        b = Relu(a)
        c = Gemm(b, v_8x3)
        m = ReduceMax<keepdims = 1>(c, one)
        d = Sub(c, m)
        e = Exp(d)
        s = ReduceSum<keepdims = 1>(e, one)
        p = Div(e, s)
    }""",
    "flags": """(float[N, 6] x) => (int64[N] label, float[N, 2] both) <float[1] one = {1}> {
        a = Gemm(x, w_6x8, b_8)
        b = Relu(a)
        c = Gemm(b, v_8x1)
        p = Sigmoid(c)
        q = Sub(one, p)
        both = Concat<axis = 1>(q, p)
        label = ArgMax<axis = 1, keepdims = 0>(both)
    }""",
}
OPSETS = {
    "old": (
        """(float[1, 3, 6, 6] x) => (float[1, 4] y) <int64[2] row = {1, -1}, float[4] scales = {1, 1, 2, 2}> {
        a = Conv(x, w_4x3x3x3, b_4)
        b = BatchNormalization<momentum = 0.9>(a, scale_4, shift_4, mean_4, var_4)
        c = Clip<min = 0.0, max = 6.0>(b)
        d = Upsample<mode = "nearest">(c, scales)
        e = GlobalAveragePool(d)
        f = Reshape(e, row)
        g = Gemm(f, v_4x4, c_4)
        y = Softmax<axis = 1>(g)
    }""",
        9,
    ),
    "older": (
        """(float[1, 6] x) => (float[1, 3] y) {
        a = Gemm(x, w_6x8, b_8)
        b = Dropout<ratio = 0.5>(a)
        c = Relu(b)
        d = MatMul(c, v_8x3)
        y = LogSoftmax(d)
    }""",
        7,
    ),
    "oldest": ("(float[1, 4] x) => (float[1, 4] y) { y = Relu(x) }", 6),
}


def tiny() -> dict[str, ModelProto]:
    """All of them by name. ``named`` is one whose metadata name its classes."""
    found = {name: net(text) for name, text in NETS.items()} | {name: net(*given) for name, given in OPSETS.items()}
    found["named"] = net("(float[N, 3] x) => (float[N, 3] y) { y = Gemm(x, w_3x3, b_3) }")
    found["named"].metadata_props.add(key="names", value="{0: 'cat', 1: 'dog', 2: '7'}")
    return found
