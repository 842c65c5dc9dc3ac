"""Scores with an axis of positions: what lies where is read off the graph, and an entry is explained as if it were alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run
from pairs import in_turn

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.data.read import Sample
from onnxdtd.errors import RequestError
from onnxdtd.method.toml import Library
from onnxdtd.request import Request
from onnxdtd.study.audit.roots import roots
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.verify import verify

RNG = np.random.default_rng(8)
UNSERVED = ("epsilon-gamma-box", "grad-cam", "dtd-minmax")  # need bounds, a map, a fit
PRESETS = [name for name in Library().presets if name not in UNSERVED]
SOME = ["dtd", "lrp-epsilon", "lrp-gamma", "lrp-alpha2beta1", "epsilon-plus-flat", "gradient"]
K, V, B = eighths(RNG, 5, 2, 3), eighths(RNG, 5, 3), eighths(RNG, 3)
X = eighths(RNG, 3, 2, 6)
BODY = [node("Conv", "x k", "a"), node("Relu", "a", "r")]  # [n, 5, 4]: features of four moments
DENSE = [node("MatMul", "t v", "m"), node("Add", "m b", "z")]
T, C = 2, 1  # the entry that is asked for
LAYOUTS: dict[str, tuple[list[onnx.NodeProto], tuple[int, int]]] = {
    "time, classes": ([node("Transpose", "r", "t", perm=[0, 2, 1]), *DENSE], (T, C)),
    "classes, time": ([node("Conv", "r filters b", "z")], (C, T)),
    "time first": ([node("Transpose", "r", "t", perm=[2, 0, 1]), *DENSE], (T, C)),
    "a softmax": ([node("Transpose", "r", "t", perm=[0, 2, 1]), *DENSE, node("Softmax", "z", "y", axis=-1)], (T, C)),
    "sigmoids": ([node("Conv", "r filters b", "z"), node("Sigmoid", "z", "s"), node("Unsqueeze", "s one", "y")], (C, T)),
    "turned behind a softmax": (
        [
            *(node("Transpose", "r", "t", perm=[0, 2, 1]), *DENSE),
            *(node("LogSoftmax", "z", "p", axis=2), node("Transpose", "p", "y", perm=[2, 1, 0])),
        ],
        (C, T),
    ),
}
WEIGHTS = {"k": K, "v": V, "b": B, "filters": V.T[:, :, None].copy(), "one": np.array([1])}


def net(layout: str) -> onnx.ModelProto:
    nodes, _ = LAYOUTS[layout]
    return model([*BODY, *nodes], {"x": ["n", 2, 6]}, [nodes[-1].output[0]], WEIGHTS)


def twin(preset: str, classes: slice = slice(C, C + 1), **options: Any) -> onnxdtd.Explainer:
    """The model whose last layer has that entry alone."""
    nodes = [*BODY, node("Gather", "r moment", "g", axis=2), node("MatMul", "g v", "m"), node("Add", "m b", "y")]
    weights = {"k": K, "v": V[:, classes].copy(), "b": B[classes].copy(), "moment": np.asarray(T)}
    return onnxdtd.Explainer(onnxdtd.compile(model(nodes, {"x": ["n", 2, 6]}, ["y"], weights), preset, **options))


def explainer(layout: str, preset: str, **options: Any) -> onnxdtd.Explainer:
    return onnxdtd.Explainer(onnxdtd.compile(net(layout), preset, **options))


@pytest.mark.parametrize(("layout", "preset"), [*in_turn(LAYOUTS, SOME), *(("time, classes", name) for name in PRESETS)])
def test_an_entry_is_explained_as_if_it_were_the_only_one(layout: str, preset: str) -> None:
    want, found = twin(preset)(X), explainer(layout, preset, target=LAYOUTS[layout][1])(X)
    np.testing.assert_allclose(found.logit, want.logit, rtol=1e-6)
    assert_near(found.relevance["x"], want.relevance["x"], 1e-6)


@pytest.mark.parametrize(("layout", "preset"), in_turn(LAYOUTS, SOME[::-1]))
def test_coefficients_of_one_entry_are_that_entry(layout: str, preset: str) -> None:
    """Of each sample another one."""
    asked = explainer(layout, preset, target="score")
    shape = [s if isinstance(s, int) else len(X) for s in asked.inputs["score"].shape]
    axis = asked.samples["score"]
    assert axis is not None
    for entry, fixed in ((LAYOUTS[layout][1], 1.0), ((0, 0), -1.0)):
        c, index = np.zeros(shape, np.float32), list(entry if layout != "sigmoids" else (0, *entry))
        index.insert(axis, slice(None))  # type: ignore[arg-type]
        c[tuple(index)] = fixed
        found = asked(X, score=c)
        if fixed > 0:
            named = asked(X, target=index[:axis] + index[axis + 1 :])
            np.testing.assert_array_equal(named.relevance["x"], found.relevance["x"])
            want = explainer(layout, preset, target=entry)(X)
            assert_near(found.relevance["x"], want.relevance["x"], 1e-6)
            np.testing.assert_allclose(found.logit, want.logit, rtol=1e-6)
        elif preset in ("lrp-epsilon", "gradient"):  # which a factor passes through
            want = explainer(layout, preset, target=entry)(X)
            assert_near(found.relevance["x"], -want.relevance["x"], 1e-6)


@pytest.mark.parametrize(("layout", "options"), in_turn(LAYOUTS, [{}, {"contrast": True}, {"contrast": "rest"}, {"target": 2}]))
def test_the_classes_of_a_position(layout: str, options: dict[str, Any]) -> None:
    want = twin("lrp-gamma", slice(None), **options)(X)
    found = explainer(layout, "lrp-gamma", position=T, **options)
    np.testing.assert_allclose(found(X).logit, want.logit, rtol=1e-5)
    assert_near(found(X).relevance["x"], want.relevance["x"], 1e-5)
    assert found.labels[1] == f"class 1 at position {'0,' if layout == 'sigmoids' else ''}2"


def test_a_class_of_a_position_is_chosen_at_run_time() -> None:
    found = explainer("time first", "dtd-z", position=T, target="input")(X, target=[0, -1, 2])
    wanted = twin("dtd-z", slice(None), target="input")(X, target=[0, -1, 2])
    assert_near(found.relevance["x"], wanted.relevance["x"], 1e-6)
    missing = explainer("time first", "dtd-z", position=T, target="input")
    missing.labels = missing.labels.__class__(count=None)  # so that the file itself has to say it
    unknown = missing(X, target=7)
    assert np.isnan(unknown.logit).all()
    assert np.isnan(unknown.relevance["x"]).any((1, 2)).all()


def area(size: int | str = 6) -> onnx.ModelProto:
    """The classes of each pixel."""
    nodes = [node("Conv", "x k", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "r"), node("Conv", "r v", "z")]
    weights = {"k": eighths(RNG, 4, 1, 3, 3), "v": eighths(RNG, 3, 4, 1, 1)}
    return model(nodes, {"x": ["n", 1, size, size]}, ["z"], weights)


PICTURES = eighths(RNG, 2, 1, 6, 6)


def test_a_region_is_the_sum_of_its_pixels() -> None:
    proto = area()
    c = np.zeros([2, 3, 6, 6], np.float32)
    c[:, 1, 2:4, 3] = 1
    found = onnxdtd.Explainer(onnxdtd.compile(proto, "gradient", target="score"))(PICTURES, score=c)
    pixels = [onnxdtd.Explainer(onnxdtd.compile(proto, "gradient", target=(1, row, 3)))(PICTURES) for row in (2, 3)]
    assert_near(found.relevance["x"], pixels[0].relevance["x"] + pixels[1].relevance["x"], 1e-6)
    np.testing.assert_allclose(found.logit, pixels[0].logit + pixels[1].logit, rtol=1e-6)


def test_a_pixel_that_a_picture_does_not_have_has_no_number() -> None:
    """Sizes that are known at run time only."""
    explainers = [onnxdtd.Explainer(onnxdtd.compile(area("s"), "gradient", position=at)) for at in ((5, 5), (5, 6))]
    found, beyond = (e(PICTURES).relevance["x"] for e in explainers)
    fixed = onnxdtd.Explainer(onnxdtd.compile(area(), "gradient", position=(5, 5)))(PICTURES)
    assert np.isnan(beyond).all()
    assert found.shape == fixed.relevance["x"].shape
    assert not np.isnan(found).any()


def notes(squeezed: bool) -> onnx.ModelProto:
    """A map of one logit for each cell."""
    tail = [node("Reshape", "s shape", "y")] if squeezed else [node("Identity", "s", "y")]
    nodes = [node("Conv", "x k", "z"), node("Sigmoid", "z", "s"), *tail]
    return model(nodes, {"x": ["n", 1, 6, 6]}, ["y"], {"k": eighths(RNG, 1, 1, 3, 3), "shape": np.array([-1, 4, 4])})


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_cell_speaks_for_itself_and_a_position_for_or_against(squeezed: bool) -> None:
    proto = notes(squeezed)
    cell, sign = (onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-epsilon", **{key: (1, 2)})) for key in ("target", "position"))
    found, either = cell(PICTURES), sign(PICTURES)
    z = np.log(found.outputs["y"] / (1 - found.outputs["y"])).reshape(2, 4, 4)[:, 1, 2]
    np.testing.assert_allclose(found.logit, z, rtol=1e-5)
    np.testing.assert_allclose(either.logit, np.abs(z), rtol=1e-5)
    assert cell.labels[1] == ("class 1 at position 1,2" if squeezed else "class 1 at position 0,1,2")


# ---------------------------------------------------------------------------------------------- what is read off the graph

TURNED = node("Transpose", "r", "t", perm=[0, 2, 1])
LINE = [TURNED, *DENSE]
MEAN = node("ReduceMean", "r", "p", axes=[2], keepdims=0)
READ: dict[str, tuple[list[onnx.NodeProto], str]] = {
    "a row of classes": ([MEAN, node("MatMul", "p v", "z")], "samples classes"),
    "axes of one entry": ([MEAN, node("MatMul", "p v", "m"), node("Unsqueeze", "m two", "z")], "samples classes classes"),
    "as many classes as moments": ([TURNED, node("MatMul", "t four", "z")], "samples positions classes"),
    "the same, classes first": ([TURNED, node("MatMul", "t four", "m"), node("Transpose", "m", "z", perm=[0, 2, 1])],
                                "samples classes positions"),
    "a softmax over time": ([*LINE, node("Softmax", "z", "y", axis=1)], "samples classes positions"),
    "the best class of each moment": ([*LINE, node("ArgMax", "z", "y", axis=2)], "samples positions classes"),
    "moments as a row": ([*LINE, node("Flatten", "z", "y")], "samples cells"),
    "one score a moment": ([TURNED, node("MatMul", "t one_neuron", "z")], "samples positions positions"),
    "classes broken up": ([*LINE, node("Reshape", "z parts", "y")], "samples entries entries"),
    "several layers": ([*LINE, node("Transpose", "z", "u", perm=[0, 2, 1]), node("MatMul", "u square", "y")],
                       "samples entries entries"),
    "features first": ([MEAN, node("MatMul", "p v", "m"), node("Transpose", "m", "z", perm=[1, 0])], "classes samples"),
    "rows that the converter makes": (
        [*LINE, node("Flatten", "z", "f", axis=2), node("Softmax", "f", "q"), node("Reshape", "q line", "y")],
        "samples positions classes",
    ),
}  # fmt: skip
MORE = {
    "four": eighths(RNG, 5, 4), "two": np.array([2]), "one_neuron": eighths(RNG, 5, 1), "parts": np.array([0, 2, 6]),
    "line": np.array([-1, 4, 3]), "square": eighths(RNG, 4, 4),
}  # fmt: skip


def ends_in(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    weights = WEIGHTS | MORE
    return model([*BODY, *nodes], {"x": ["n", 2, 6]}, [nodes[-1].output[0]], weights)


@pytest.mark.parametrize("name", READ)
def test_what_lies_along_the_axes(name: str) -> None:
    nodes, axes = READ[name]
    assert prepare(ends_in(nodes), Request(preset="gradient", target="score")).plan.raster.axes == axes.split()


def test_inspect_says_what_can_be_explained() -> None:
    """Also of a model that is refused until somebody says which position is meant."""
    found = onnxdtd.inspect(ends_in(READ["a softmax over time"][0]))
    ways = ["--position 1", "--target 2,1", "--target score"]
    assert found["outputs"] == [
        {"output": "y", "scores": "'y' [n, 4, 3]", "axes": ["samples", "classes", "positions"], "ways": ways}
    ]
    assert found["notes"][0].startswith("'y' [n, 4, 3] has scores of 4 classes (axis 1) at each position along axis 2")
    for way in ways:
        option, value = way.removeprefix("--").split()
        onnxdtd.compile(ends_in(READ["a softmax over time"][0]), "gradient", **{option: value})


@pytest.mark.parametrize("target", [2, "2", (2,) * 2])
def test_a_number_is_an_entry_where_there_is_one_axis(target: Any) -> None:
    """An axis of one entry does not count, but may be said."""
    proto = ends_in(READ["one score a moment"][0])
    explained = onnxdtd.Explainer(onnxdtd.compile(proto, "gradient", target=(2, 0) if isinstance(target, tuple) else target))
    found = explained(X)
    np.testing.assert_allclose(found.logit, found.outputs["z"][:, 2, 0], rtol=1e-6)
    assert explained.labels[0] == "position 2,0"


def test_several_outputs_with_positions() -> None:
    nodes, _ = READ["as many classes as moments"]
    proto = model([*BODY, *nodes, node("ReduceMax", "r", "m", axes=[1])], {"x": ["n", 2, 6]}, ["z", "m"], WEIGHTS | MORE)
    for options, message in (
        ({}, "choose one of several outputs with --output, and an entry of it: 'z'"),
        ({"position": 1}, "choose one"),
    ):
        with pytest.raises(RequestError, match=message):
            onnxdtd.inspect(proto, Request(**options))
    both = onnxdtd.inspect(proto, Request(output="z", position=1, preset="gradient"))
    assert [entry["output"] for entry in both["outputs"]] == ["z"]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("as many classes as moments", {}, "'z' [n, 4, 4] has scores of 4 classes (axis 2) at each position along axis 1 (0 to 3): "
     "give --position 2 for what it says there, --target 2,2 (an index of axes 1 (0 to 3) and 2 (0 to 3)) for one of its "
     "entries, or --target score for any weighted sum of them"),
    ("as many classes as moments", {"target": 1}, "give --position 2"),
    ("as many classes as moments", {"position": 4}, "--position 4: 4 is no index of axis 1 of 'z' [n, 4, 4]; give 0 to 3"),
    ("as many classes as moments", {"position": 0, "target": 4}, "target 4 is no class of this model, which has classes 0"),
    ("as many classes as moments", {"target": (0, 4)}, "--target 0,4: 4 is no index of axis 2 of 'z'"),
    ("as many classes as moments", {"target": (0, 1, 2)}, "--target 0,1,2: give an index of axes 1 (0 to 3) and 2 (0 to 3)"),
    ("as many classes as moments", {"target": (0, 1), "position": 0}, "--target 0,1: says the position as well"),
    ("as many classes as moments", {"target": "score", "position": 0}, "--target score: the input says what counts"),
    ("one score a moment", {}, "'z' [n, 4, 1] has a score at each position along axis 1 (0 to 3): give --position 2 for "
     "what it says there, --target 2 (an index of axis 1"),
    ("classes broken up", {}, "nothing tells which axis of 'y' [n, 2, 6] has classes: give --target 1,3 (an index of axes"),
    ("classes broken up", {"position": (0, 1)}, "nothing tells which axis"),
    ("a row of classes", {"position": 1}, "--position 1: 'z' [n, 3] has a row of scores for each sample"),
    ("a row of classes", {"target": (1, 1)}, "--target 1,1: give an index of axis 1 (0 to 2) of 'z' [n, 3]"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_what_cannot_be_meant(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        onnxdtd.compile(ends_in(READ[name][0]), "gradient", **options)


@pytest.mark.parametrize(
    ("layout", "options"),
    [("time first", {"position": T}), ("sigmoids", {"target": (C, T)}), ("time first", {"target": "score"})],
    ids=["position", "entry", "score"],
)
def test_verify_knows_what_is_explained(layout: str, options: dict[str, Any], tmp_path: Path) -> None:
    source, compiled = tmp_path / "net.onnx", tmp_path / "net.dtd.onnx"
    onnx.save(net(layout), source)
    onnxdtd.save(onnxdtd.compile(source, "lrp-epsilon", ledger=True, **options), compiled, source)
    report = verify(compiled, source)
    assert report.passed, [check for check in report.checks if check.passed is False]
    assert {"score", "samples", "balance"} <= {check.name for check in report.checks if check.passed}


@pytest.mark.parametrize(
    ("layout", "options", "label"),
    [
        ("a softmax", {"position": T}, "class {} at position 2"),
        ("time first", {"position": T, "labels": ["ah", "oh", "uh"]}, "{} at position 2"),
        ("sigmoids", {"target": (2, T)}, "class 2 at position 0,2"),
    ],
)
def test_what_is_said_of_a_sample(layout: str, options: dict[str, Any], label: str) -> None:
    """Predicted is what the model says at the position that is explained."""
    result, *_ = Presenter(explainer(layout, "lrp-epsilon", **options)).explain(Sample("s", X[1]))
    (scores,) = run(net(layout), x=X[1:2]).values()
    there = np.take(scores, T, {"a softmax": 1, "time first": 0, "sigmoids": 3}[layout]).ravel()
    best = int(there.argmax())
    assert (result.predicted, result.score) == (best, pytest.approx(there[best]))
    assert result.target_label == label.format(options.get("labels", range(3))[best])


@pytest.mark.parametrize(("asked", "words"), [({"position": 4}, "position 4"), ({"target": (4, 1)}, "position 4")], ids=str)
def test_a_position_that_an_input_does_not_have_is_refused(asked: dict[str, Any], words: str) -> None:
    """Where the model leaves open how many there are, only an input tells."""
    nodes, _ = LAYOUTS["time, classes"]
    proto = model([*BODY, *nodes], {"x": ["n", 2, "t"]}, [nodes[-1].output[0]], WEIGHTS)
    presenter = Presenter(onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-epsilon", **asked)))
    assert presenter.explain(Sample("s", eighths(RNG, 2, 7)))[0].target_label.endswith(words)
    with pytest.raises(RequestError, match=rf"there is no {words} in the scores of this input, \[1, 4, 3\]"):
        presenter.explain(Sample("s", X[1]))


def test_what_is_said_of_a_weighted_sum() -> None:
    """Coefficients lie beside the other inputs of a sample."""
    asked = explainer("a softmax", "lrp-epsilon", target="score")
    result, *_ = Presenter(asked).explain(Sample("s", X[1], others={"score": np.ones([4, 3], np.float32)}))
    assert (result.predicted, result.target, result.target_label) == (None, None, "Σ c z")
    wrong: dict[str, Any] = {
        "give score=": lambda: asked(X),
        "takes no coefficients": lambda: twin("gradient")(X, score=X),
        "is no entry of scores": lambda: asked(X, target=(4, 0)),
        "is no entry": lambda: asked(X, target=1),
        "either target": lambda: asked(X, target=(0, 0), score=X),
    }
    for message, give in wrong.items():
        with pytest.raises(RequestError, match=message):
            give()


def test_a_position_is_measured(tmp_path: Path) -> None:
    """The classes of the data are those at the position."""
    onnx.save(net("time first"), tmp_path / "net.onnx")
    (scores,) = run(net("time first"), x=X).values()
    np.savez(tmp_path / "data.npz", x=X, label=scores[T].argmax(1))
    request, data = Request(position=T), tmp_path / "data.npz"
    few = onnxdtd.Settings(steps=2)
    found = onnxdtd.evaluate([tmp_path / "net.onnx"], data, request, presets=["lrp-epsilon"], settings=few)["models"][0]
    assert (found["accuracy"], found["scores"]) == (1, 3)
    turned = Request(preset="dtd", position=T, target="input")
    assert roots(tmp_path / "net.onnx", turned, X, [0, 1, 2], neurons=2)


@pytest.mark.parametrize("options", [{"position": (1, 2)}, {"target": (2, 1, 2)}, {"position": (1, 2), "target": "input"}])
def test_a_map_without_a_batch(options: dict[str, Any]) -> None:
    """Its rows are neurons, which are no samples: it is one."""
    nodes = [node("Unsqueeze", "x front", "b"), *area().graph.node, node("Squeeze", "z front", "y")]
    nodes[1].input[0] = "b"
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in area().graph.initializer}
    alone = model(nodes, {"x": [1, 6, 6]}, ["y"], weights | {"front": np.array([0])})
    batch = model(nodes[1:-1], {"b": ["n", 1, 6, 6]}, ["z"], weights)
    one, many = (onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-gamma", **options)) for proto in (alone, batch))
    target = {"target": 1} if "input" in options.values() else {}
    found, want = one(PICTURES[1], **target), many(PICTURES[1:], **target)
    assert one.metadata["axes"] == ["classes", "positions", "positions"]
    np.testing.assert_allclose(found.logit, want.logit, rtol=1e-6)
    assert_near(found.relevance["x"], want.relevance["b"][0], 1e-6)


KERNEL, FILTERS, SCALE = eighths(RNG, 3, 1, 3, 3), eighths(RNG, 2, 6, 3, 1, 1), eighths(RNG, 4, 20)


def boxes() -> onnx.ModelProto:
    """A detector before its boxes are suppressed: two scales, boxes beside class probabilities, [n, 4 + 2, 20]."""
    nodes = [
        *(node("Conv", "x k", "a"), node("Relu", "a", "r"), node("MaxPool", "r", "q", kernel_shape=[2, 2], strides=[2, 2])),
        *(
            node("Conv", "r v", "h1"),
            node("Conv", "q u", "h2"),
            node("Reshape", "h1 row", "r1"),
            node("Reshape", "h2 row", "r2"),
        ),
        *(node("Concat", "r1 r2", "all", axis=2), node("Split", "all sizes", "box cls", axis=1), node("Mul", "box scale", "b")),
        *(node("Sigmoid", "cls", "p"), node("Concat", "b p", "y", axis=1)),
    ]
    weights = {"k": KERNEL, "v": FILTERS[0], "u": FILTERS[1], "row": np.array([0, 6, -1]), "sizes": np.array([4, 2])}
    return model(nodes, {"x": ["n", 1, 6, 6]}, ["y"], weights | {"scale": SCALE})


@pytest.mark.parametrize(
    ("entry", "head", "cell"), [((1, 3), "h1", (1, 0, 3)), ((5, 18), "h2", (5, 1, 0))], ids=["side", "class"]
)
def test_an_entry_of_a_box(entry: tuple[int, int], head: str, cell: tuple[int, int, int]) -> None:
    """It is what one filter sees at one place, scaled, or squashed."""
    explained = onnxdtd.Explainer(onnxdtd.compile(boxes(), "gradient", target=entry))
    found, below = (
        explained(PICTURES),
        onnxdtd.Explainer(onnxdtd.compile(boxes(), "gradient", output=head, target=cell))(PICTURES),
    )
    y = found.outputs["y"][:, *entry]
    slope = SCALE[1, 3] if head == "h1" else y * (1 - y)
    assert_near(found.relevance["x"], below.relevance["x"] * np.reshape(slope, (-1, 1, 1, 1)), 1e-6)
    np.testing.assert_allclose(found.logit, y, rtol=1e-6)
    assert explained.metadata["axes"] == ["samples", "entries", "entries"]
    assert explained.labels[0] == f"entry {entry[0]},{entry[1]}"
