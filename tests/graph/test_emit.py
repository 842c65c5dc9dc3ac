"""The node builder: what it shares, folds, sums, and leaves out."""

import numpy as np
import pytest
from nets import DOUBLE, Bench, integers, model, node, run
from onnx import numpy_helper

from onnxdtd.graph.emit import Emit, dims, known
from onnxdtd.graph.tensors import Graph, Node, Tensor


@pytest.fixture
def bench() -> Bench:
    nodes = [node("Mul", "x c", "m"), node("Relu", "m", "dtd/onnxdtd/Relu"), node("Relu", "dtd/onnxdtd/Relu", "y")]
    return Bench(model(nodes, {"x": ["n", 3], "z": [2, 3]}, ["y"], {"c": np.ones(3, np.float32)}))


# ---- the same thing twice is one thing -------------------------------------------------------------------------------


def test_the_same_node_is_built_once(bench):
    e, x, z = bench.e, bench.tensors["x"], bench.tensors["z"]
    assert e("Add", x, z) is e("Add", x, z)
    assert e("Add", x, 2.0) is e("Add", x, 2.0)
    assert e("Transpose", x, perm=[1, 0]) is e("Transpose", x, perm=[1, 0])
    assert len(e.nodes) == 3


def test_another_operator_input_or_attribute_is_another_node(bench):
    e, x, z = bench.e, bench.tensors["x"], bench.tensors["z"]
    different = [
        e("Add", x, z),
        e("Add", z, x),
        e("Sub", x, z),
        e("Add", x, 1.0),
        e("Add", x, -1.0),
        e("Softmax", x, axis=0),
        e("Softmax", x, axis=1),
        e("Softmax", x),
        e("Clip", x, None, 1.0),
        e("Clip", x, 1.0),
        e("Relu", x),
        e.multi("Relu", [None, None], x)[0],
    ]
    assert len({t.name for t in different}) == len(different)


def test_nodes_of_the_predictor_are_used_again(bench):
    e, x = bench.e, bench.tensors["x"]
    assert e("Mul", x, bench.tensors["c"]) is bench.tensors["m"]
    assert e("Relu", bench.tensors["m"]) is bench.tensors["dtd/onnxdtd/Relu"]
    assert not e.nodes


def test_equal_constants_share_an_initializer(bench):
    e = bench.e
    same = e.constant(np.array([1.0, 2.0], np.float32))
    assert e.constant(np.array([1.0, 2.0], np.float32)) is same
    different = [
        same,
        e.constant(np.array([1.0, 2.0])),
        e.constant(np.array([[1.0, 2.0]], np.float32)),
        e.constant(np.array([1, 2])),
        e.constant(np.array([0.0, -0.0], np.float32)),
        e.constant(np.array([0.0, 0.0], np.float32)),
    ]
    assert len({t.name for t in different}) == len(different)


def test_long_constants_that_begin_alike_are_two(bench):
    long = np.zeros(100)
    other = long.copy()
    other[-1] = 1
    first, second = bench.e.constant(long), bench.e.constant(other)
    assert first.name != second.name
    np.testing.assert_array_equal(second.values, other)


def test_names_are_unique_and_begin_with_the_scope(bench):
    e, x = bench.e, bench.tensors["x"]
    assert e("Relu", x).name == "dtd/onnxdtd/Relu_1"  # the predictor has a dtd/onnxdtd/Relu
    with e.within("conv1"):
        names = [e("Relu", e.constant(np.float32([i]))).name for i in range(3)]
        assert names == ["dtd/conv1/Relu", "dtd/conv1/Relu_1", "dtd/conv1/Relu_2"]
        assert [t.name for t in e.multi("Split", [None, None], x, axis=0)] == ["dtd/conv1/Split", "dtd/conv1/Split:1"]
    assert e("Exp", x).name == "dtd/onnxdtd/Exp", "as before"
    assert e.unique("target") == "target"
    assert e.unique("target") == "target_1"


# ---- numbers fold away -----------------------------------------------------------------------------------------------


def test_arithmetic_with_numbers_folds(bench):
    e, x = bench.e, bench.tensors["x"]
    assert e.mul(2.0, 3.0) == 6.0
    assert e.add(2.0, 3.0) == 5.0
    assert e.mul(x, 1.0) is x
    assert e.mul(1.0, x) is x
    assert e.add(x, 0.0) is x
    assert e.add(0.0, x) is x
    assert e.sum([x]) is x
    assert e.sum([1.0, 2.0, 3.0]) == 6.0
    assert e.sub(x, e.constant(np.zeros(1, np.float32))) is x
    assert e.cast(x, np.dtype(np.float32)) is x
    assert not e.nodes
    assert e.mul(x, -1.0) is e("Neg", x)
    assert e.mul(2.0, x) is e.mul(x, 2.0)
    assert e.add(2.0, x) is e.add(x, 2.0)


def test_known_sizes_are_constants_and_unknown_ones_nodes(bench):
    e, x, z = bench.e, bench.tensors["x"], bench.tensors["z"]
    assert (dims(x), known(dims(x)), known(dims(z)), dims(Tensor("v"))) == ([None, 3], None, [2, 3], None)
    assert e.shape(z).values.tolist() == [2, 3]
    assert e.shape(z, 1).values.tolist() == [3]
    assert e.shape(x, 1).values.tolist() == [3]
    assert e.size(z).values.tolist() == [6]
    assert not e.nodes
    assert e.shape(x).name == e.nodes[-1].outputs[0].name
    assert e.nodes[-1].op == "Shape"
    found = bench.session(
        {"shape": e.shape(x), "batch": e.shape(x, 0, 1), "size": e.size(x), "ones": e.full(1.0, e.shape(x), x.dtype)}
    )
    values = found(x=np.ones((4, 3), np.float32), z=np.ones((2, 3), np.float32))
    assert {name: values[name].tolist() for name in ("shape", "batch", "size")} == {"shape": [4, 3], "batch": [4], "size": [12]}
    np.testing.assert_array_equal(values["ones"], np.ones((4, 3), np.float32))


def test_numbers_take_the_type_of_their_tensor():
    bench = Bench(model([node("Relu", "x", "y")], {"x": [2]}, ["y"], dtype=DOUBLE))
    e, x = bench.e, bench.tensors["x"]
    assert e("Add", x, 1.0).dtype == e.nodes[-1].inputs[1].dtype == np.float64
    assert e("Where", e("Less", x, 0.0), x, 0.0).dtype == np.float64
    assert e("Where", e("Less", x, 0.0), 1.0, x).dtype == np.float64
    assert e("Less", x, 0.0).dtype == np.bool_
    assert e("ArgMax", x).dtype == np.int64
    assert e.cast(x, np.dtype(np.float32)).dtype == np.float32
    assert e.full(1.0, e.shape(x), x.dtype).dtype == np.float64


# ---- the adjoint of broadcasting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "like"),
    [
        ((2, 3, 4), (2, 3, 4)),
        ((2, 3, 4), (1, 3, 1)),
        ((2, 3, 4), (3, 4)),
        ((2, 3, 4), (3, 1)),
        ((2, 3, 4), (1,)),
        ((2, 3, 4), ()),
        ((1, 3, 4), (1, 1, 4)),
        (("n", 3), (1, 3)),
        (("n", 3), ("n", 1)),
        (("n", 3), (3,)),
        (("n", 3), ("one", 3)),
        (("n", 3, "n"), ("one", 3, "other")),
        ((2, "n", 4), ("one", 4)),
        ((5, 3), ("other", 3)),
        (("none", 3), ("none too", 3)),
    ],
)
def test_unbroadcast(shape, like):
    """<broadcast(v), s> = <v, unbroadcast(s)>, and the shape is that of v, also where the runtime alone knows which are 1."""
    lengths = {"one": 1, "none": 0, "none too": 0}
    bench = Bench(model([node("Relu", "s", "y")], {"s": shape, "v": like}, ["y"]))
    e = bench.e
    found = bench.session({"back": e.unbroadcast(bench.tensors["s"], shape, bench.tensors["v"])})
    rng = np.random.default_rng(0)
    s, v = (integers(rng, *(lengths.get(d, 5) if isinstance(d, str) else d for d in part)) for part in (shape, like))
    back = found(s=s, v=v)["back"]
    assert back.shape == v.shape
    assert (np.broadcast_to(v, s.shape) * s).sum() == (v * back).sum()


def test_nothing_is_summed_where_nothing_was_repeated(bench):
    z = bench.tensors["z"]
    assert bench.e.unbroadcast(z, [2, 3], z) is z


# ---- what goes into the file -----------------------------------------------------------------------------------------


def test_live_drops_what_no_output_needs(bench):
    e, x = bench.e, bench.tensors["x"]
    used = e("Add", e("Mul", x, 2.0), bench.tensors["m"])
    e("Exp", e("Sub", x, 3.0))
    nodes, constants = map(list, e.live([used]))
    assert [n.op_type for n in nodes] == ["Mul", "Add"]
    assert [numpy_helper.to_array(c).tolist() for c in constants] == [2.0]
    assert list(map(list, e.live([x]))) == [[], []]


def test_live_keeps_all_outputs_of_a_node_and_the_order(bench):
    e, x = bench.e, bench.tensors["x"]
    first, second = e.multi("Split", [None, None], e("Exp", x), axis=0)
    nodes, _ = map(list, e.live([e("Add", second, 1.0), e("Neg", x)]))
    assert [n.op_type for n in nodes] == ["Exp", "Split", "Add", "Neg"]
    assert list(nodes[1].output) == [first.name, second.name]


def test_live_puts_what_depends_on_the_seed_last(bench):
    e, x = bench.e, bench.tensors["x"]
    seed = e("Exp", x)
    relevance = e("Neg", seed)
    total = e("Mul", relevance, e("Abs", x))
    assert [n.op_type for n in e.live([total])[0]] == ["Exp", "Neg", "Abs", "Mul"]
    assert [n.op_type for n in e.live([total], seed)[0]] == ["Exp", "Abs", "Neg", "Mul"]


def test_what_is_emitted_runs(bench):
    e, x, z = bench.e, bench.tensors["x"], bench.tensors["z"]
    total = e.sum([e.mul(x, 2.0), e.mul(z, -1.0), 1.0, e("Clip", x, None, 0.5)])
    data = np.array([[1, 2, 3], [-4, 5, 0]], np.float32)
    found = bench.session({"total": total})(x=data, z=np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(found["total"], 2 * data - 1 + 1 + np.minimum(data, 0.5))


def test_a_constant_of_the_predictor_is_not_confused_with_ours():
    """An initializer that bears the name that we would give is left alone."""
    name = "dtd/constant/float32/2.0"
    proto = model([node("Mul", f"x {name}", "y")], {"x": [2]}, ["y"], {name: np.float32(5)})
    bench = Bench(proto)
    found = bench.session({"twice": bench.e("Mul", bench.tensors["x"], 2.0)})(x=np.float32([1, 2]))
    assert found["twice"].tolist() == [2, 4]
    assert run(proto, x=np.float32([1, 2]))["y"].tolist() == [5, 10]


def test_an_operator_of_a_foreign_domain_is_another_operator():
    x, y = Tensor("x", np.float32, [2]), Tensor("y", np.float32)
    graph = Graph([Node("Relu", "theirs", {}, [x], [y], domain="com.example")], inputs=[x])
    assert Emit(graph)("Relu", x) is not y


def declared(inputs: dict[str, list], *others: list) -> dict[str, list]:
    """What is declared of tensors like each input, the output and each of ``others``, and of one that nobody needs."""
    first, *_ = inputs
    made = Bench(model([node("Relu", first, "y")], inputs, ["y"]))
    e, likes = made.e, [*(made.tensors[name] for name in inputs), made.tensors["y"]]
    likes += [Tensor(f"other{i}", np.float32, shape) for i, shape in enumerate(others)]
    results = [e("Neg", like) for like in likes]
    for result, like in zip(results, likes, strict=True):
        e.of_shape(result, like)
    e.of_shape(e("Exp", likes[0]), likes[0])
    found = list(e.declared(e.live(results)[0]))
    assert {value.name for value in found} <= {result.name for result in results}
    sizes = {v.name: [d.dim_param or d.dim_value or None for d in v.type.tensor_type.shape.dim] for v in found}
    return {like.name: sizes[result.name] for result, like in zip(results, likes, strict=True) if result.name in sizes}


def test_shapes_are_declared_where_a_size_of_a_picture_has_the_name_of_an_inputs():
    assert declared({"x": ["n", 3, "h", 8]}) == {"x": ["n", 3, "h", 8]}
    assert declared({"x": ["n", 3, 8, 8]}, ["n", 3, "unk__0", "w"], ["unk__0", 3, 8, 8]) == {
        "x": ["n", 3, 8, 8],
        "other0": ["n", 3, None, None],
    }
    assert not declared({"x": [2, 3, 8, 8]})
    assert not declared({"x": ["n", 3, 8]})


@pytest.mark.parametrize("other", ["m", 2, None])
def test_no_shape_is_declared_where_inputs_may_have_batches_of_different_sizes(other):
    """One may be repeated for the other: ONNX Runtime would take sizes of one name for one size, and fail."""
    assert declared({"x": ["n", 3, 8, 8], "z": ["n", 4]}) == {"x": ["n", 3, 8, 8]}
    assert not declared({"x": ["n", 3, 8, 8], "z": [other, 3, 8, 8]})


def test_what_is_forgotten_is_built_again_under_the_same_names(bench):
    e, x = bench.e, bench.tensors["x"]
    kept, names = e("Neg", x), []
    for _ in range(2):
        with e.forgetting():
            names.append([e("Exp", e("Neg", x)).name, e.constant(np.float32([7, 8])).name, e.unique("target")])
    assert names[0] == names[1]
    assert [node.outputs[0] for node in e.nodes] == [kept]
    assert not e.constants


# ---- what GPUs do not have at every operator set ---------------------------------------------------------------------


@pytest.mark.parametrize("opset", [18, 19])
def test_zeros_around_a_tensor(opset):
    """At operator set 19 by Concat and Slice; a negative width takes away."""
    x = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    bench = Bench(model([node("Identity", "x", "y")], {"x": ["n", "m"]}, ["y"], opset=opset))
    found = bench.session({"framed": bench.e.framed(bench.tensors["x"], [1, -1, -2, 2])})(x=x)["framed"]
    np.testing.assert_array_equal(found, [[0, 0, 0, 0, 0], [2, 3, 4, 0, 0]])
    assert ("Pad" in {n.op for n in bench.e.nodes}) == (opset == 18)


@pytest.mark.parametrize("opset", [18, 19])
def test_what_is_equal(opset):
    """At operator set 19 what is neither less nor greater; NaN equals nothing."""
    bench = Bench(model([node("Identity", "x", "y")], {"x": ["n"]}, ["y"], opset=opset))
    found = bench.session({"equal": bench.e.equal(bench.tensors["x"], 2.0)})(x=np.float32([1, 2, 3, np.nan]))["equal"]
    assert found.tolist() == [False, True, False, False]
    assert ("Equal" in {n.op for n in bench.e.nodes}) == (opset == 18)


def test_sizes_that_are_known_are_calculated_with(bench):
    e, x = bench.e, bench.tensors["x"]
    assert e.whole("Add", e.shape(bench.tensors["z"]), [1, 1]).values.tolist() == [3, 4]
    assert e.whole("Concat", e.shape(x, 1), [7]).values.tolist() == [3, 7]
    open_one = e.whole("Mul", e.whole("Sub", e.whole("Gather", e.shape(x), [0]), [1]), [2])
    assert run_of(bench, e.whole("Concat", open_one, [5]), 4).tolist() == [6, 5]


def run_of(bench: Bench, tensor: Tensor, batch: int) -> np.ndarray:
    """What a tensor is for a batch."""
    return bench.session({"found": tensor})(x=np.ones((batch, 3), np.float32), z=np.ones((2, 3), np.float32))["found"]
