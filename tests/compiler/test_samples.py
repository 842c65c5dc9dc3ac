"""Which axis the samples lie along, by the graph: nets whose sizes would suggest another one, and random nets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from nets import eighths, model, node, run

import onnxdtd
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.samples import Samples
from onnxdtd.contract import read_metadata
from onnxdtd.data.read import Layout
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.request import Request
from onnxdtd.study import jobs as engine
from onnxdtd.study.audit.audit import Audit
from onnxdtd.study.bench import bench
from onnxdtd.study.evaluate import Evaluation, Settings
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.verify import verify

RNG = np.random.default_rng(12)
Weights = Mapping[str, np.ndarray]
W, V = eighths(RNG, 6, 5), eighths(RNG, 5, 3)
XS = eighths(RNG, 5, 4, 6)


def found(proto: onnx.ModelProto) -> Samples:
    """The samples of a planned model."""
    asked = Request(preset="gradient", target="score" if len(proto.graph.output[0].type.tensor_type.shape.dim) > 2 else None)
    return prepare(proto, asked).plan.samples


def net(nodes: Sequence[onnx.NodeProto], weights: Weights, output: str = "y", **inputs: Any) -> onnx.ModelProto:
    return model(nodes, inputs, [output], weights)


def picture(classes: int = 3, softmax: bool = False) -> onnx.ModelProto:
    """One picture [3, H, W] without a batch axis, as many classes as channels."""
    nodes = [
        node("Unsqueeze", "x zero", "b"),
        node("Conv", "b w", "c"),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f v", "z"),
        node("Squeeze", "z zero", "y"),
        *([node("Softmax", "y", "q", axis=0)] if softmax else []),
    ]
    weights = {"zero": np.array([0]), "w": eighths(RNG, 6, 3, 3, 3), "v": eighths(RNG, 6, classes)}
    return net(nodes, weights, "q" if softmax else "y", x=[3, 10, 10])


def windows(count: int | str = 4) -> onnx.ModelProto:
    """All windows of one utterance become one row."""
    nodes = [node("MatMul", "x w", "e"), node("Reshape", "e row", "r"), node("MatMul", "r v", "y")]
    return net(nodes, {"w": eighths(RNG, 6, 5), "row": np.array([1, -1]), "v": eighths(RNG, 20, 3)}, x=[count, 6])


def dense(*shape: int | str, classes: int = 3, head: Sequence[onnx.NodeProto] = (), **more: Any) -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "y" if not head else "z"), *head]
    weights = {"w": eighths(RNG, int(shape[-1]), classes), "one": np.array([1])}
    return net(nodes, weights, nodes[-1].output[0], x=shape, **more)


MEAN = [node("MatMul", "x w", "h"), node("ReduceMean", "h", "y", axes=[0], keepdims=0)]
TURNED = [node("Conv", "x k", "c"), node("Transpose", "c", "y", perm=[2, 0, 1])]
BAG = [node("MatMul", "x w", "h"), node("ReduceMean", "h", "y", axes=[0], keepdims=1)]
TWO = [node("ReduceMean", "a", "m", axes=[0], keepdims=0), node("Concat", "m b", "c", axis=1), node("MatMul", "c w", "y")]
SQUEEZED = [node("Squeeze", "z one", "y")]
CASES: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, int | None], Any, bool]] = {
    "a picture, 3 channels and classes": (picture, {"x": None}, 1, False),
    "a picture, 4 classes": (lambda: picture(4), {"x": None}, 1, False),
    "a picture and a softmax": (lambda: picture(3, True), {"x": None}, 1, False),
    "windows of one utterance": (windows, {"x": None}, 1, False),
    "as many windows as the weights say": (lambda: windows("n"), {"x": None}, 1, False),
    "features, a fixed batch of 4": (lambda: dense(4, 6), {"x": 0}, 4, False),
    "features, a fixed batch of 1": (lambda: dense(1, 6), {"x": 0}, 1, False),
    "features, a batch with a name": (lambda: dense("n", 6), {"x": 0}, "n", False),
    "features without a batch": (lambda: dense(6), {"x": None}, 1, False),
    "one logit for each of a fixed batch": (lambda: dense(3, 6, classes=1, head=SQUEEZED), {"x": 0}, 3, True),
    "one logit for each of any batch": (lambda: dense("n", 6, classes=1, head=SQUEEZED), {"x": 0}, "n", True),
    "a choice of several items": (
        lambda: dense(3, 6, classes=1, head=[*SQUEEZED, node("Softmax", "y", "p", axis=0)]), {"x": None}, 1, False
    ),
    "as many features as logits": (
        lambda: net([node("Mul", "x w", "m"), node("Relu", "m", "y")], {"w": eighths(RNG, 3)}, x=[3]), {"x": None}, 1, False
    ),
    "time first": (lambda: net(MEAN, {"w": eighths(RNG, 6, 3)}, x=[5, 4, 6]), {"x": 1}, 4, False),
    "time first, and only there": (lambda: net(TURNED, {"k": eighths(RNG, 3, 6, 2)}, x=["n", 6, 5]), {"x": 0}, "n", False),
    "the same with a batch of 1": (lambda: net(TURNED, {"k": eighths(RNG, 3, 6, 2)}, x=[1, 6, 5]), {"x": 0}, 1, False),
    "features first": (
        lambda: net([node("Transpose", "x", "t"), node("MatMul", "t w", "y")], {"w": eighths(RNG, 6, 3)}, x=[6, "n"]),
        {"x": 1}, "n", False,
    ),
    "a bag of instances": (lambda: net(BAG, {"w": eighths(RNG, 6, 3)}, x=["k", 6]), {"x": None}, 1, False),
    "inputs with different axes": (
        lambda: net(TWO, {"w": eighths(RNG, 10, 3)}, a=[5, "n", 6], b=["n", 4]), {"a": 1, "b": 0}, "n", False
    ),
    "an input that all samples share": (
        lambda: net([node("Add", "a b", "c"), node("MatMul", "c w", "y")], {"w": eighths(RNG, 6, 3)}, a=["n", 6], b=[6]),
        {"a": 0, "b": None}, "n", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_axis_of_the_samples(name: str) -> None:
    made, axes, size, column = CASES[name]
    samples = found(made())
    assert samples.axes == axes
    assert (samples.size if size != "n" or samples.size == "n" else "n") == size
    assert samples.column == column


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("classes", [3, 4])
def test_one_picture_is_one_sample(classes: int, softmax: bool) -> None:
    """The arg-max is explained, not the sum of as many logits as there are channels."""
    proto, x = picture(classes, softmax), eighths(RNG, 3, 10, 10)
    explainer = onnxdtd.Explainer(onnxdtd.compile(proto, "gradient"))
    assert explainer.metadata["classes"] == classes
    assert explainer.metadata["samples"] == {"x": None}
    batch = run(picture_in_a_batch(proto), x=x[None])
    best = int(batch["z"][0].argmax())
    alone = onnxdtd.Explainer(onnxdtd.compile(picture_in_a_batch(proto), "gradient", output="z", target=best))
    np.testing.assert_array_equal(explainer(x).relevance["x"], alone(x[None]).relevance["x"][0])


def picture_in_a_batch(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same weights, with a batch of one picture in front."""
    kept = [n for n in proto.graph.node if n.op_type not in ("Unsqueeze", "Squeeze", "Softmax")]
    kept[0].input[0] = "x"
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name != "zero"}
    return model(kept, {"x": [1, 3, 10, 10]}, ["z"], weights)


POSITIONS = [
    node("Shape", "x", "s"),
    node("Cast", "s", "s32", to=6),
    node("Cast", "s32", "s64", to=7),
    node("Reshape", "x s64", "r"),
    node("MatMul", "r w", "z"),
    node("Softmax", "z", "p", axis=2),
]


@pytest.mark.parametrize("opset", [12, 17])
def test_positions_are_no_samples(opset: int) -> None:
    """Below 13 the converter makes rows of all positions for the Softmax; what is said is the same."""
    proto = net(POSITIONS, {"w": eighths(RNG, 6, 5)}, "p", x=["n", 4, 6])
    proto.opset_import[0].version = opset
    with pytest.raises(RequestError, match=r"'p' \[n, 4, 5\] has scores of 5 classes \(axis 2\) at each position along axis 1"):
        onnxdtd.compile(proto)


@pytest.mark.parametrize("opset", [12, 17])
def test_flattened_positions_are_no_samples(opset: int) -> None:
    """What is explained lies before they are flattened."""
    nodes = [node("MatMul", "x w", "z"), node("Reshape", "z rows", "y")]
    proto = model(nodes, {"x": ["n", 4, 6]}, ["y"], {"w": eighths(RNG, 6, 5), "rows": np.array([-1, 5])}, opset=opset)
    with pytest.raises(RequestError, match=r"'z' \[n, 4, 5\] has scores of 5 classes \(axis 2\)"):
        onnxdtd.compile(proto)


def test_rows_that_see_each_other_are_no_samples() -> None:
    nodes = [node("ReduceMean", "x", "m", axes=[0]), node("Sub", "x m", "d"), node("MatMul", "d w", "y")]
    with pytest.raises(ModelError, match=r"the rows of 'y' are no samples: 'm_node' \(ReduceMean\) mixes them"):
        onnxdtd.compile(net(nodes, {"w": eighths(RNG, 6, 3)}, x=["n", 6]))


def test_rows_that_no_input_has_are_no_samples() -> None:
    nodes = [node("Reshape", "x rows", "r"), node("MatMul", "r w", "y")]
    with pytest.raises(ModelError, match="the rows of 'y' are no samples: they come from no axis of an input"):
        onnxdtd.compile(net(nodes, {"rows": np.array([2, 12]), "w": eighths(RNG, 12, 3)}, x=[4, 6]))


@pytest.mark.parametrize("declared", [True, False])
def test_rows_that_are_lost_are_said_to_be_by_node_and_the_way_out_works(declared: bool) -> None:
    """Sizes that are drawn are not followed; one sample, whose scores are declared as one row, needs no following."""
    nodes = [
        node("RandomUniform", "", "drawn", shape=[1], low=1.25, high=1.75),
        node("Cast", "drawn", "rows", to=7),
        node("Mul", "rows width", "columns"),
        node("Concat", "rows columns", "sizes", axis=0),
        node("Reshape", "x sizes", "r"),
        node("MatMul", "r w", "y"),
    ]
    proto = net(nodes, {"width": np.array([24]), "w": eighths(RNG, 24, 3)}, x=[1, 4, 6])
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    for size in [1, 3] if declared else [None, 3]:
        proto.graph.output[0].type.tensor_type.shape.dim.add(dim_value=size)
    if declared:
        x = eighths(RNG, 1, 4, 6)
        told = onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-epsilon", ledger=True))(x)
        assert told.ledger is not None
        np.testing.assert_allclose(told.ledger.totals()["relevance"], [told.relevance["x"].sum()], rtol=1e-5)
        return
    with pytest.raises(
        ModelError, match=r"cannot be followed behind 'r_node' \(Reshape\); .* scores declared as \[1, classes\]"
    ):
        onnxdtd.compile(proto)


def test_pairs_of_samples_are_mixed() -> None:
    """A matrix of similarities has the samples on both axes."""
    nodes = [node("Transpose", "x", "t"), node("MatMul", "x t", "g"), node("MatMul", "g x", "h"), node("MatMul", "h w", "y")]
    with pytest.raises(ModelError, match="the rows of 'y' are no samples"):
        onnxdtd.compile(net(nodes, {"w": eighths(RNG, 6, 3)}, x=[4, 6]), "gradient")


def test_a_net_of_3000_nodes() -> None:
    """Deeper than Python's stack."""
    nodes = [node("MatMul", "x w", "t0"), *(node("Relu", f"t{i}", f"t{i + 1}") for i in range(3000))]
    proto = net([*nodes, node("MatMul", "t3000 v", "y")], {"w": W, "v": V}, x=["n", 6])
    explainer = onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-epsilon", ledger=True))
    result = explainer(XS[:, 0])
    assert explainer.samples == {"x": 0}
    assert result.ledger is not None
    np.testing.assert_allclose(result.ledger.totals()["relevance"], result.relevance["x"].sum(1), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------- whoever takes samples, along any axis

LAYOUTS = {"last": (2, "n"), "second of three at once": (1, 3), "one sample": (None, 1), "one sample at once": (0, 1)}


def twin(axis: int | None, count: int | str) -> onnx.ModelProto:
    """Samples [4, 6] along an axis of the input, or one without; inside they lie in front."""
    perm = [(axis or 0), *(i for i in range(3) if i != (axis or 0))]
    front = node("Unsqueeze", "x zero", "f") if axis is None else node("Transpose", "x", "f", perm=perm)
    last = [node("ReduceMean", "r", "p", axes=[1], keepdims=0), node("MatMul", "p v", "z")]
    nodes = [front, node("MatMul", "f w", "h"), node("Relu", "h", "r"), *last]
    nodes += [node("Squeeze", "z zero", "y")] if axis is None else [node("Identity", "z", "y")]
    shape: list[int | str] = [4, 6]
    if axis is not None:
        shape.insert(axis, count)
    return net(nodes, {"w": W, "v": V, "zero": np.array([0])}, x=shape)


@pytest.fixture(params=LAYOUTS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, int | None, int | None]:
    """Two files of one model, the second with the samples elsewhere: along which axis, and how many at once."""
    axis, count = LAYOUTS[request.param]
    for name, made in (("front", twin(0, "n")), ("other", twin(axis, count))):
        onnx.save(made, tmp_path / f"{name}.onnx")
    return tmp_path / "front.onnx", tmp_path / "other.onnx", axis, count if isinstance(count, int) else None


Pair = tuple[Path, Path, int | None, int | None]


def test_an_explainer_counts_them(pair: Pair) -> None:
    front, other, axis, count = pair
    first, second = (onnxdtd.Explainer(onnxdtd.compile(path, "lrp-epsilon", target="input")) for path in (front, other))
    xs = XS[: count or len(XS)]
    layout = Layout.of(second.inputs["x"].shape, second.samples["x"])
    assert second.samples == {"x": axis}
    assert second.count({"x": layout.put(xs)}) == len(xs)
    target = [i % 3 for i in range(len(xs))]
    got, want = second(layout.put(xs), target).relevance["x"], first(xs, target).relevance["x"]
    np.testing.assert_allclose(layout.take(got), want, rtol=1e-6, atol=1e-7)
    with pytest.raises(RequestError, match=f"target has 7 classes for {len(xs)} samples"):
        second(layout.put(xs), [0] * 7)


@pytest.mark.parametrize("name", ["several", "one"])
def test_explain_reads_them(pair: Pair, name: str, tmp_path: Path) -> None:
    """A file has its samples in front, however the model takes them; one sample needs no axis for that."""
    front, other, _, _ = pair
    np.save(tmp_path / f"{name}.npy", XS if name == "several" else XS[0])
    jobs = [Presenter(onnxdtd.Explainer(onnxdtd.compile(path, "lrp-epsilon", low=-1, high=1))) for path in (front, other)]
    want, got = ([made.explain(sample) for sample in made.feeding.read(tmp_path / f"{name}.npy")] for made in jobs)
    assert len(got) == len(want) == (len(XS) if name == "several" else 1)
    for (result, relevance, *_), (wanted, expected, *_) in zip(got, want, strict=True):
        assert (result.predicted, result.target) == (wanted.predicted, wanted.target)
        assert result.score == pytest.approx(wanted.score, rel=1e-6)
        np.testing.assert_allclose(relevance, expected, rtol=1e-6, atol=1e-7)


def test_explain_reads_several_inputs_of_one_sample(tmp_path: Path) -> None:
    """Two vectors without a batch axis, of three samples; the second is the same for all."""
    nodes = [node("Concat", "a b", "c", axis=0), node("MatMul", "c w", "y")]
    made = net(nodes, {"w": eighths(RNG, 10, 3)}, a=[6], b=[4])
    explainer = onnxdtd.Explainer(onnxdtd.compile(made, "lrp-epsilon"))
    assert explainer.samples == {"a": None, "b": None}
    a, b = eighths(RNG, 3, 6), eighths(RNG, 4)
    np.savez(tmp_path / "some.npz", a=a, b=b)
    job = Presenter(explainer)
    found = [job.explain(sample)[1] for sample in job.feeding.read(tmp_path / "some.npz")]
    assert len(found) == 3
    for i, relevance in enumerate(found):
        want = explainer({"a": a[i], "b": b}).relevance
        np.testing.assert_array_equal(relevance, np.concatenate([want["a"], want["b"]]))


def test_scores_and_evaluations_are_the_same(pair: Pair, tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", x=XS, label=np.arange(5) % 3)
    results = []
    for path in pair[:2]:
        job = Evaluation([path], ["lrp-epsilon"], tmp_path / "some.npz", settings=Settings(steps=2, target="label"))
        results.append(job.assemble(engine.run(job, 1, "processes", tmp_path / "journal"))["models"][0])
    front, other = results
    assert other["samples"] == front["samples"] == len(XS)
    assert other["accuracy"] == front["accuracy"]
    for order in ("morf", "lerf", "random"):
        np.testing.assert_allclose(*(m["presets"][0]["curves"][order] for m in (other, front)), atol=1e-6)


def near(found: Any, wanted: Any) -> bool:
    """Are two tables of numbers and words equal up to rounding?"""
    if isinstance(found, dict):
        return found.keys() == wanted.keys() and all(near(found[key], wanted[key]) for key in found)
    return bool(found == (pytest.approx(wanted, rel=1e-4, abs=1e-6) if isinstance(wanted, float) else wanted))


def test_audits_are_the_same(pair: Pair) -> None:
    """But for the random relevance of convergence, and for root points where a batch is laid out in another order inside."""
    found = []
    for path in pair[:2]:
        job = Audit(path, Request(), ("lrp-epsilon",), XS, neurons=2)
        measure = job.prepare()
        parts = [measure(number) for number in range(job.units())]
        found.append(job.assemble(parts)["presets"][0])
    front, other = found
    for name in ("preconditions", "similarity", "class_sensitivity"):
        assert near(other[name], front[name]), name
    several = pair[3] is not None and pair[3] > 1
    assert bool(other["roots"]) == bool(other["convergence"]) == (not several)
    if not several:
        assert [row["start"] for row in other["convergence"]] == [row["start"] for row in front["convergence"]]
        for row, wanted in zip(other["roots"], front["roots"], strict=True):
            assert near(row, wanted)


def test_verify_and_bench_run_them(pair: Pair) -> None:
    _, other, _, count = pair
    compiled = other.with_name("compiled.onnx")
    onnxdtd.save(onnxdtd.compile(other, "lrp-epsilon"), compiled)
    report = verify(compiled, other)
    assert report.passed, report
    assert any(check.name == "balance" and check.passed for check in report.checks)
    assert [timing.batch for timing in bench(other, Request(), [2], rounds=1)] == [count or 2]


def test_files_that_do_not_say_where_they_lie() -> None:
    """Those of before: along axis 0, but not along that of features."""
    for shape, axis in ((["n", 6], 0), ([6], None)):
        compiled = onnxdtd.compile(dense(*shape), "gradient")
        (entry,) = (entry for entry in compiled.metadata_props if entry.key == "onnxdtd.samples")
        compiled.metadata_props.remove(entry)
        assert onnxdtd.Explainer(compiled).samples == {"x": axis}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_random_nets_with_a_moved_axis(data: st.DataObject) -> None:
    """Each sample gets the same relevance, and the same ledger, as where the samples lie in front."""
    inner = data.draw(st.sampled_from([[4, 6], [3, 4, 6], [6]]))
    rank, count = len(inner) + 1, data.draw(st.integers(1, 3))
    fixed, axis = data.draw(st.booleans()), data.draw(st.integers(0, rank - 1))
    layers, weights, current = [], {"v": V + 2, "w": W + 2}, "f"  # positive: no denominator is near 0
    for i, kind in enumerate(data.draw(st.lists(st.sampled_from(["dense", "swap", "merge", "maximum"]), max_size=4))):
        weights[f"w{i}"] = eighths(np.random.default_rng(i), 6, 6) + 2
        if kind == "dense":
            layers += [node("MatMul", f"{current} w{i}", f"d{i}"), node("Relu", f"d{i}", f"h{i}")]
        elif kind == "swap":  # compute with the samples on another axis
            perm = [*range(1, rank - 1), 0, rank - 1]
            back = [int(k) for k in np.argsort(perm)]
            layers += [node("Transpose", current, f"a{i}", perm=perm), node("MatMul", f"a{i} w{i}", f"d{i}")]
            layers += [node("Transpose", f"d{i}", f"h{i}", perm=back)]
        elif kind == "merge":  # samples and positions on one axis
            weights |= {f"to{i}": np.array([-1, 6]), f"from{i}": np.array([-1, *inner])}
            layers += [node("Reshape", f"{current} to{i}", f"a{i}"), node("MatMul", f"a{i} w{i}", f"d{i}")]
            layers += [node("Reshape", f"d{i} from{i}", f"h{i}")]
        else:
            layers += [node("ReduceMax", current, f"m{i}", axes=[-1]), node("Add", f"{current} m{i}", f"h{i}")]
        current = f"h{i}"
    tail = [node("MatMul", f"{current} w", "l")]
    tail += [node("ReduceMean", "l", "p", axes=list(range(1, rank - 1)), keepdims=0)] if rank > 2 else []
    tail.append(node("MatMul", "p v" if rank > 2 else "l v", "y"))
    moved: list[int | str] = [*inner]
    moved.insert(axis, count if fixed else "n")
    perm = [axis, *(i for i in range(rank) if i != axis)]
    front = model([node("Identity", "x", "f"), *layers, *tail], {"x": ["n", *inner]}, ["y"], weights)
    other = model([node("Transpose", "x", "f", perm=perm), *layers, *tail], {"x": moved}, ["y"], weights)
    xs = eighths(np.random.default_rng(3), count, *inner, low=0.25)
    want, got = (onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-epsilon", ledger=True)) for proto in (front, other))
    assert got.samples == {"x": axis}
    wanted, result = want(xs), got(np.ascontiguousarray(np.moveaxis(xs, 0, axis)))
    np.testing.assert_allclose(np.moveaxis(result.relevance["x"], axis, 0), wanted.relevance["x"], rtol=1e-5, atol=1e-6)
    assert result.ledger is not None
    assert wanted.ledger is not None
    assert result.ledger.steps == wanted.ledger.steps
    for name in ("in", "out"):
        np.testing.assert_allclose(result.ledger[name], wanted.ledger[name], rtol=1e-5, atol=1e-6)


# -------------------------------------------------------------------------------------------------- maps laid out as rows


def cells(head: str = "Sigmoid", rows: Sequence[int] = (0, -1)) -> onnx.ModelProto:
    """A map of scores, each squashed by itself, as a row of cells."""
    nodes = [node("Conv", "x w", "z"), node(head, "z", "s"), node("Reshape", "s rows", "y")]
    return net(nodes, {"w": KERNEL, "rows": np.array(rows)}, x=["n", 1, 6, 6])


KERNEL = eighths(RNG, 2, 1, 3, 3)
PICTURES = eighths(RNG, 3, 1, 6, 6)


@pytest.mark.parametrize("preset", ["gradient", "lrp-epsilon", "dtd-z", "lrp-alpha2beta1"])
def test_cells_of_a_map_are_classes(preset: str) -> None:
    """A cell is explained as by the same net with that cell alone as its only logit."""
    explainer = onnxdtd.Explainer(onnxdtd.compile(cells(), preset, target="input", ledger=preset != "gradient"))
    assert explainer.metadata["classes"] == 32
    scores = run(cells(), x=PICTURES)["y"]
    found = explainer(PICTURES, [5, 20, -1])
    np.testing.assert_array_equal(found.outputs["y"], scores)
    for i, cell in enumerate([5, 20, int(scores[2].argmax())]):
        channel, row, column = np.unravel_index(cell, [2, 4, 4])
        window = (slice(None), slice(None), slice(row, row + 3), slice(column, column + 3))
        alone = [node("Flatten", "x", "f"), node("MatMul", "f v", "y")]
        one = net(alone, {"v": KERNEL[channel].reshape(9, 1)}, x=["n", 1, 3, 3])
        want = np.zeros_like(PICTURES[i : i + 1])
        want[window] = run(onnxdtd.compile(one, preset), x=PICTURES[i : i + 1][window])["relevance"]
        np.testing.assert_allclose(found.relevance["x"][i : i + 1], want, rtol=1e-5, atol=1e-6)


def test_cells_squashed_by_a_sigmoid_written_out() -> None:
    nodes = [node("Conv", "x w", "z"), node("Neg", "z", "m"), node("Exp", "m", "e"), node("Add", "e one", "d")]
    nodes += [node("Reciprocal", "d", "s"), node("Reshape", "s rows", "y")]
    proto = net(nodes, {"w": KERNEL, "one": np.float32(1), "rows": np.array([0, -1])}, x=["n", 1, 6, 6])
    want, found = (onnxdtd.Explainer(onnxdtd.compile(p, "lrp-epsilon", target=5))(PICTURES) for p in (cells(), proto))
    np.testing.assert_array_equal(found.relevance["x"], want.relevance["x"])


@pytest.mark.parametrize(("head", "rows"), [("Softmax", (0, -1)), ("Sigmoid", (-1, 16))], ids=["a softmax", "rows of channels"])
def test_other_maps_have_positions(head: str, rows: Sequence[int]) -> None:
    """A softmax compares cells of a row only; and channels are no samples."""
    classes = "4 classes (axis 3)" if head == "Softmax" else "2 classes (axis 1)"
    with pytest.raises(RequestError, match=re.escape(f"'z' [n, 2, 4, 4] has scores of {classes} at each position along ax")):
        onnxdtd.compile(cells(head, rows))


def test_a_mask_that_is_lined_up_with_heads_has_no_samples() -> None:
    """Its rows are called as the samples are, but [n, 1, 4] against [n, heads, 1, 4] has one for each head."""
    nodes = [
        node("Reshape", "x heads", "h"),
        node("Mul", "h mask", "m"),
        node("Reshape", "m joined", "j"),
        node("MatMul", "j w", "y"),
    ]
    weights = {"heads": np.array([0, 2, 1, 4]), "joined": np.array([0, 8]), "w": eighths(RNG, 8, 3)}
    with pytest.raises(ModelError, match="'mask' has 2 rows, by the way it is used, and not one for each of the samples 'n'"):
        onnxdtd.compile(net(nodes, weights, x=["n", 8], mask=["n", 1, 4]), "gradient", explain=["x"])


@pytest.mark.parametrize("order", ["x mask", "mask x"])
def test_a_mask_that_is_picked_entry_by_entry_has_the_samples_of_the_same_name(order: str) -> None:
    """As exporters index it by number, with all samples in one row; what is mixed cannot be followed."""
    nodes = [
        node("Reshape", "mask flat", "f"),
        node("NonZero", "f", "where"),
        node("Reshape", "where flat", "i"),
        node("Gather", "f i", "g"),
        node("ReduceSum", "g zero", "s", keepdims=0),
        node("Mul", "x s", "m"),
        node("MatMul", "m w", "y"),
    ]
    weights = {"flat": np.array([-1]), "zero": np.array([0]), "w": eighths(RNG, 4, 3)}
    inputs: dict[str, Any] = {name: ["n", 4] for name in order.split()}
    assert prepare(net(nodes, weights, **inputs), Request(preset="gradient", explain=["x"])).plan.samples.axes == {
        "x": 0,
        "mask": 0,
    }


def test_of_axes_that_nothing_mixes_samples_are_in_front_of_the_input() -> None:
    nodes = [node("MatMul", "x w", "z"), node("Transpose", "z", "y", perm=[1, 0, 2])]
    proto = model(nodes, {"x": ["n", 5, 3]}, ["y"], {"w": np.ones((3, 2), np.float32)})
    metadata = read_metadata(onnxdtd.compile(proto, "lrp-epsilon", position=4))
    assert metadata["samples"] == {"x": 0}
    assert metadata["axes"] == ["positions", "samples", "classes"]


def test_a_reduction_that_names_no_axes_mixes_nothing() -> None:
    nodes = [node("ReduceL1", "x axes", "a", noop_with_empty_axes=1), node("MatMul", "a w", "y")]
    weights = {"axes": np.zeros(0, np.int64), "w": np.ones((4, 2), np.float32)}
    x = np.asarray([[1, -2, 3, -4], [-1, 2, 5, 6]], np.float32)
    found = run(onnxdtd.compile(model(nodes, {"x": ["n", 4]}, ["y"], weights, opset=18), "gradient"), x=x)
    assert np.array_equal(found["relevance"], np.sign(x))


def heads() -> onnx.ModelProto:
    """Attention of two heads, whose shapes are computed as exporters write it, and which nobody has declared."""
    nodes = [
        node("Shape", "x", "sizes"),
        node("Gather", "sizes zero", "size", axis=0),
        node("Unsqueeze", "size first", "batch"),
        node("Concat", "batch rest", "shape", axis=0),
        node("Equal", "sizes minus", "same"),
        node("Where", "same sizes sizes", "long"),
        node("Expand", "types long", "type"),
        node("Add", "x type", "s"),
    ]
    for name in "qkv":
        nodes += [node("MatMul", f"s w{name}", f"h{name}"), node("Reshape", f"h{name} shape", f"r{name}")]
        nodes += [node("Transpose", f"r{name}", name, perm=[0, 2, 1, 3])]
    nodes += [
        node("Transpose", "k", "t", perm=[0, 1, 3, 2]),
        node("MatMul", "q t", "z"),
        node("Softmax", "z", "p"),
        node("MatMul", "p v", "o"),
        node("ReduceMean", "o", "y", axes=[1, 2], keepdims=0),
    ]
    rng = np.random.default_rng(4)
    weights = {f"w{name}": eighths(rng, 6, 6) for name in "qkv"}
    weights |= {"zero": np.asarray(0), "first": np.asarray([0]), "rest": np.asarray([4, 2, 3])}
    weights |= {"minus": np.asarray(-1), "types": eighths(rng, 1, 1, 6)}
    return model(nodes, {"x": ["n", 4, 6]}, ["y"], weights)


def test_nothing_is_summed_up_along_samples_whose_size_has_lost_its_name() -> None:
    prepared = prepare(heads(), Request(preset="attnlrp"))
    q = next(t for step in prepared.plan.steps for t in step.outputs if t.name == "q")
    assert list(q.shape or ()) == ["n", 2, 4, 3]
    assert "Max" not in {each.op_type for each in build(prepared).graph.node}


def attention(heads: int = 2) -> onnx.ModelProto:
    """Heads split off and joined again the way that exporters write, by sizes computed from x, [n, t, 6]."""
    reshaped = [node("Shape", "x", "of_n", start=0, end=1), node("Shape", "x", "of_t", start=1, end=2)]
    reshaped += [node("Concat", "of_n of_t heads rest", "split", axis=0), node("Concat", "of_n of_t six", "joined", axis=0)]
    nodes = [
        *reshaped,
        node("MatMul", "x w", "h"),
        node("Reshape", "h split", "s"),
        node("Transpose", "s", "q", perm=[0, 2, 1, 3]),
        node("Transpose", "s", "k", perm=[0, 2, 3, 1]),
        node("MatMul", "q k", "a"),
        node("Softmax", "a", "p", axis=-1),
        node("MatMul", "p q", "m"),
        node("Transpose", "m", "u", perm=[0, 2, 1, 3]),
        node("Reshape", "u joined", "o"),
        node("ReduceMean", "o", "e", axes=[1], keepdims=0),
        node("MatMul", "e v", "y"),
    ]
    numbers = {"heads": np.array([heads]), "rest": np.array([-1]), "six": np.array([6])}
    return net(nodes, {"w": eighths(RNG, 6, 6), "v": eighths(RNG, 6, 3), **numbers}, x=["n", "t", 6])


def measured(proto: onnx.ModelProto) -> dict[str, list[Any]]:
    """The sizes of each tensor with axes, those known at run time only as ``3 x/1`` for three times as on axis 1 of x."""
    samples, graph = found(proto), prepare(proto, Request(preset="gradient")).graph
    sizes = {name: samples.measure(t) for name, t in graph.tensors().items()}
    word = lambda size: f"{size[0]} {size[1].name}/{size[2]}" if isinstance(size, tuple) else size
    return {name: list(map(word, own)) for name, own in sizes.items() if own is not None}


def test_sizes_are_those_of_inputs_and_no_tensor_is_read_for_its_shape() -> None:
    proto = attention()
    sizes = measured(proto)
    assert sizes["m"] == ["1 x/0", 2, "1 x/1", 3]
    assert sizes["u"] == ["1 x/0", "1 x/1", 2, 3]
    own = {t for n in proto.graph.node for t in n.output} - {"y"}  # which is kept anyway
    for preset in ("gradient", "lrp-epsilon", "attnlrp"):
        compiled = onnxdtd.compile(proto, preset)
        theirs = compiled.graph.node[len(proto.graph.node) :]
        assert not own & {n.input[0] for n in theirs if n.op_type == "Shape"}
        for shape in [(1, 1, 6), (3, 4, 6)]:
            x = np.random.default_rng(5).normal(size=shape).astype(np.float32)
            alone = [run(compiled, x=row[None])["relevance"][0] for row in x]
            np.testing.assert_allclose(run(compiled, x=x)["relevance"], alone, rtol=0, atol=2e-6 * np.abs(alone).max())


def test_sizes_of_rows_merged_with_others() -> None:
    nodes = [node("Reshape", "x rows", "r"), node("MatMul", "r w", "h"), node("Reshape", "h back", "b")]
    numbers = {"rows": np.array([-1, 6]), "back": np.array([-1, 4, 5])}
    nodes += [node("ReduceSum", "b one", "s", keepdims=0), node("MatMul", "s v", "y")]
    sizes = measured(net(nodes, {"w": W, "v": V, "one": np.array([1]), **numbers}, x=["n", 4, 6]))
    assert (sizes["r"], sizes["h"]) == (["4 x/0", 6], ["4 x/0", 5])
    assert sizes["s"] == ["1 x/0", 5]


def test_sizes_of_one_that_may_be_repeated_are_not_known() -> None:
    """What is added has an entry for each position of another input, and nobody knows how many these are."""
    nodes = [
        node("Shape", "z", "of_z", start=1, end=2),
        node("Squeeze", "of_z first", "count"),
        node("Range", "zero count step", "numbers"),
        node("Cast", "numbers", "places", to=1),
        node("Unsqueeze", "places last", "column"),
        node("Add", "x column", "b"),
        node("Tanh", "b", "g"),
        node("MatMul", "g w", "h"),
        node("Add", "h z", "s"),
        node("ReduceMean", "s", "m", axes=[1], keepdims=0),
        node("MatMul", "m v", "y"),
    ]
    numbers = {"first": np.array([0]), "last": np.array([-1]), "zero": np.array(0), "step": np.array(1)}
    proto = net(nodes, {"w": W, "v": V, **numbers}, x=["n", 1, 6], z=["n", "t", 5])
    assert measured(proto)["b"] == [None, None, 6]
    x, z = (np.random.default_rng(7).normal(size=size).astype(np.float32) for size in ((3, 1, 6), (3, 4, 5)))
    compiled = onnxdtd.compile(proto, "gradient", target=0)
    assert run(compiled, x=x, z=z)["relevance/x"].shape == x.shape


def test_sizes_of_what_an_expand_may_repeat_are_not_known() -> None:
    """It is told to have the size of another input, or its own, which is sure."""
    nodes = [node("Shape", "z", "of_z"), node("Shape", "x", "of_x"), node("Gather", "of_z count", "rows")]
    nodes += [node("Concat", "rows six", "long", axis=0), node("MatMul", "x u", "d"), node("Tanh", "d", "e")]
    nodes += [node("Expand", "e long", "r"), node("MatMul", "r w", "h"), node("Reshape", "h one", "f")]
    nodes += [node("ReduceMean", "f", "m", axes=[0], keepdims=1), node("MatMul", "m v", "p"), node("MatMul", "z q", "c")]
    numbers = {"count": np.array([0]), "six": np.array([6]), "one": np.array([-1, 5])}
    weights = {"u": eighths(RNG, 6, 6), "w": W, "v": V, "q": eighths(RNG, 4, 3)}
    proto = net([*nodes, node("Add", "p c", "y")], {**weights, **numbers}, x=["k", 6], z=["n", 4])
    assert measured(proto)["r"] == [None, 6]
    x, z = (np.random.default_rng(8).normal(size=size).astype(np.float32) for size in ((3, 6), (3, 4)))
    compiled = onnxdtd.compile(proto, "gradient", target=0)
    one, often = run(compiled, x=x[:1], z=z), run(compiled, x=np.repeat(x[:1], 3, 0), z=z)
    np.testing.assert_allclose(one["relevance/x"], often["relevance/x"].sum(0, keepdims=True), rtol=1e-5)


def test_sizes_of_what_is_cut_at_the_size_of_another_are_not_known() -> None:
    """Of four rows there are four where a Slice asks for seven."""
    nodes = [node("Shape", "z", "count", start=1, end=2), node("MatMul", "x w", "h"), node("Tanh", "h", "g")]
    nodes += [node("Slice", "g first count second", "c"), node("ReduceMean", "c", "m", axes=[1], keepdims=0)]
    nodes += [node("ReduceMean", "z", "o", axes=[1], keepdims=0), node("Add", "m o", "s"), node("MatMul", "s v", "y")]
    numbers = {"first": np.array([0]), "second": np.array([1])}
    proto = net(nodes, {"w": W, "v": V, **numbers}, x=["n", 4, 6], z=["n", "t", 5])
    assert measured(proto)["c"] == [None, None, 5]
    x, z = (np.random.default_rng(9).normal(size=size).astype(np.float32) for size in ((3, 4, 6), (3, 7, 5)))
    compiled = onnxdtd.compile(proto, "gradient", target=0)
    np.testing.assert_array_equal(run(compiled, x=x, z=z)["relevance/x"], run(compiled, x=x, z=z[:, :4])["relevance/x"])


@pytest.mark.parametrize("declared", ["m", "n"])
def test_sizes_of_what_may_be_repeated_are_not_those_of_what_it_meets(declared: str) -> None:
    """b has a row for each of a, or one for all: which of them, not even the name of its size tells for sure."""
    nodes = [node("MatMul", "b w", "h"), node("Tanh", "h", "g"), node("Mul", "a u", "c"), node("Add", "c g", "s")]
    proto = net([*nodes, node("MatMul", "s v", "y")], {"w": W, "v": V, "u": eighths(RNG, 5)}, a=["n", 5], b=[declared, 6])
    assert measured(proto)["g"] == [None, 5]
    compiled = onnxdtd.compile(proto, "gradient", target=0)
    a, b = np.random.default_rng(6).normal(size=(3, 5)).astype(np.float32), XS[0, :3]
    some = run(compiled, a=a, b=b)
    np.testing.assert_array_equal(some["relevance/b"].shape, b.shape)
    if declared == "m":
        one = run(compiled, a=a, b=b[:1])
        np.testing.assert_allclose(one["relevance/b"], 3 * run(compiled, a=a[:1], b=b[:1])["relevance/b"], rtol=1e-5)
