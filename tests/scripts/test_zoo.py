"""Whole families of models: what compiles, what is refused and in which words, and that compiling scales."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import zoo
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from terminal import Ran

import onnxdtd

ROOT = Path(__file__).resolve().parents[2]
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))
OFF, ALL = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
FLOAT = TensorProto.FLOAT


def run(model: bytes, x: np.ndarray, level: ort.GraphOptimizationLevel = ALL) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: x}), strict=True))


# -------------------------------------------------------------------------- the graphs that come with the onnx package


def test_there_are_nine_light_graphs() -> None:
    assert len(LIGHT) == 9


def photo() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (1, 3, 224, 224)).astype(np.float32)


BRANCHED = [path for path in LIGHT if any(word in path.stem for word in ("dense", "v1", "res", "shuffle", "squeeze"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "preset"), list(zip(BRANCHED, cycle(["dtd", "gradient"]), strict=False)), ids=lambda p: getattr(p, "stem", p)
)
def test_light_graphs(path: Path, preset: str) -> None:
    """Those with branches. Caffe2 exports of operator set 9, IR 3; all weights are 0.02: values to 1e28, ties everywhere."""
    compiled = onnxdtd.compile(path, preset)
    onnx.checker.check_model(compiled, full_check=True)
    explained = run(compiled.SerializeToString(), photo(), OFF)
    assert np.isfinite(explained["relevance"]).all()
    assert explained["relevance"].shape == photo().shape
    for name, value in run(path.read_bytes(), photo(), OFF).items():
        np.testing.assert_array_equal(explained[name], value)


# ---------------------------------------------------------------------------------------------- what cannot be served


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def network(
    nodes: Sequence[NodeProto],
    x: Sequence[int | str],
    output: tuple[str, Sequence[int | str]],
    opset: int = 17,
    domains: Sequence[str] = (),
    **constants: np.ndarray,
) -> ModelProto:
    """A model with the input ``x`` and one output."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", FLOAT, x)],
        [helper.make_tensor_value_info(output[0], FLOAT, output[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def node(op: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> NodeProto:
    """Names of tensors separated by blanks; an underscore is an input left out."""
    given = [part if part != "_" else "" for part in inputs.split()]
    return helper.make_node(op, given, outputs.split(), name, **attributes)


def info(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def head(hidden: str, name: str = "head") -> NodeProto:
    return node("Gemm", f"{hidden} v", "logits", name)


def lstm() -> ModelProto:
    layer = node("LSTM", "x w r", "all last", "memory", hidden_size=4, clip=3.0)
    nodes = [layer, node("Squeeze", "last axes", "h"), head("h")]
    more = {"w": weights(1, 16, 3), "r": weights(1, 16, 4), "v": weights(4, 2), "axes": np.array([0])}
    return network(nodes, [5, 1, 3], ("logits", [1, 2]), **more)


def scan() -> ModelProto:
    """A running sum."""
    nodes = [node("Add", "a b", "c"), node("Identity", "c", "d")]
    body = helper.make_graph(nodes, "body", [info(n, FLOAT, 4) for n in "ab"], [info(n, FLOAT, 4) for n in "cd"])
    outer = [
        node("Scan", "z x", "last all", "sweep", body=body, num_scan_inputs=1),
        node("Unsqueeze", "last axes", "h"),
        head("h"),
    ]
    return network(outer, [5, 4], ("logits", [1, 2]), z=np.zeros(4, np.float32), axes=np.array([0]), v=weights(4, 2))


def largest() -> ModelProto:
    """A binary network."""
    nodes = [node("Gemm", "x u", "a", "dense1"), node("Hardmax", "a", "b", "binary1")]
    nodes += [node("Gemm", "b u", "c", "dense2"), node("Hardmax", "c", "d", "binary2"), head("d")]
    return network(nodes, ["N", 4], ("logits", ["N", 2]), u=weights(4, 4), v=weights(4, 2))


def trees() -> ModelProto:
    """One stump."""
    where = {"nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3, "nodes_values": [0.5, 0.0, 0.0]}
    split = {"nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0]}
    votes = {"class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 1], "class_weights": [1.0, 1.0]}
    forest = node(
        "TreeEnsembleClassifier", "x", "label scores", "forest", domain="ai.onnx.ml",
        classlabels_int64s=[0, 1], post_transform="NONE", **where, **split, **votes,
    )  # fmt: skip
    return network([forest], ["N", 4], ("scores", ["N", 2]), domains=["ai.onnx.ml"])


def custom() -> ModelProto:
    nodes = [node("Snake", "x", "a", "act7", domain="com.acme"), head("a")]
    return network(nodes, [1, 4], ("logits", [1, 2]), domains=["com.acme"], v=weights(4, 2))


def several() -> ModelProto:
    """What is wrong comes in between what is right."""
    nodes = [node("Hardmax", "x", "a", "binary1"), node("Snake", "a", "b", "act7", domain="com.acme")]
    nodes += [node("Gemm", "b u", "c"), node("Relu", "c", "d"), node("RandomUniformLike", "d", "e", "noise")]
    nodes += [node("Hardmax", "e", "f", "binary2"), node("RandomNormalLike", "f", "g", "wave"), head("g")]
    return network(nodes, [1, 4], ("logits", [1, 2]), domains=["com.acme"], u=weights(4, 4), v=weights(4, 2))


def many() -> ModelProto:
    nodes = [node("Hardmax", f"t{i}" if i else "x", f"t{i + 1}", f"binary{i}") for i in range(40)]
    return network([*nodes, head("t40")], [1, 4], ("logits", [1, 2]), v=weights(4, 2))


Refusal = tuple[Callable[[], ModelProto], dict[str, list[str]]]
UNSUPPORTED: list[Refusal] = [
    (lstm, {"LSTM": ["memory"]}),
    (scan, {"Scan": ["sweep"]}),
    (largest, {"Hardmax": ["binary1", "binary2"]}),
    (trees, {"ai.onnx.ml.TreeEnsembleClassifier": ["forest"]}),
    (custom, {"com.acme.Snake": ["act7"]}),
    (
        several,
        {
            "Hardmax": ["binary1", "binary2"],
            "com.acme.Snake": ["act7"],
            "RandomUniformLike": ["noise"],
            "RandomNormalLike": ["wave"],
        },
    ),
    (many, {"Hardmax": [f"binary{i}" for i in range(40)]}),
]


@pytest.mark.parametrize("preset", ["dtd", "gradient"])
@pytest.mark.parametrize(("make", "expected"), UNSUPPORTED, ids=lambda case: getattr(case, "__name__", ""))
def test_every_node_without_a_rule_is_named(
    make: Callable[[], ModelProto], expected: dict[str, list[str]], preset: str
) -> None:
    """Operator, number of nodes, their names (three, if there are more), the reason and the nearest way out."""
    with pytest.raises(onnxdtd.Unsupported) as caught:
        onnxdtd.compile(make(), preset)
    named: dict[str, list[str]] = {}
    for problem in caught.value.problems:
        named.setdefault(problem.op, []).append(problem.node)
        assert problem.reason
        assert problem.way_out
    assert named == expected
    text = str(caught.value)
    assert text.startswith(f"{sum(map(len, expected.values()))} node")
    lines = text.splitlines()[1:]
    for line, (problem, nodes) in zip(lines, caught.value.groups(), strict=True):
        dots = ", ..." if len(nodes) > 3 else ""
        assert line.startswith(f"  {problem.op} x{len(nodes)} ({', '.join(nodes[:3])}{dots}): ")
        assert problem.final or any(words in line for words in ("no rule", "no derivative", "its turns are not told apart"))
        assert line.endswith(problem.way_out)


def oldest() -> ModelProto:
    return network([node("Relu", "x", "y")], [1, 4], ("y", [1, 4]), opset=1)


def segmentation() -> ModelProto:
    """A class for every pixel."""
    return network([node("Conv", "x w", "y", "classifier")], [1, 3, 8, 8], ("y", [1, 2, 6, 6]), w=weights(2, 3, 3, 3))


def dynamic_segmentation() -> ModelProto:
    shapes: tuple[list[int | str], list[int | str]] = (["N", 3, "H", "W"], ["N", 2, "h", "w"])
    return network([node("Conv", "x w", "y", "classifier")], shapes[0], ("y", shapes[1]), w=weights(2, 3, 3, 3))


def detection() -> ModelProto:
    """Which of five boxes are kept: indices only."""
    nodes = [node("Reshape", "x s", "boxes"), node("NonMaxSuppression", "boxes scores n", "kept", "nms")]
    more = {"s": np.array([1, 5, 4]), "scores": weights(1, 1, 5), "n": np.array([3])}
    model = network(nodes, [1, 20], ("kept", ["K", 3]), **more)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def constant() -> ModelProto:
    nodes = [head("c"), node("Relu", "x", "unused")]
    return network(nodes, [1, 4], ("logits", [1, 2]), c=weights(1, 4), v=weights(4, 2))


def only_the_shape() -> ModelProto:
    """The output depends on how many samples there are."""
    nodes = [node("Shape", "x", "s"), node("Cast", "s", "f", to=FLOAT), node("Unsqueeze", "f axes", "h"), head("h")]
    return network(nodes, ["N", 4], ("logits", [1, 2]), axes=np.array([0]), v=weights(2, 2))


def undeclared() -> ModelProto:
    model = custom()
    del model.opset_import[1]
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (oldest, ("operator set 1 ", "older than 7", "export the model again")),
        (segmentation, ("'y' [1, 2, 6, 6]", "--position 3,3")),
        (dynamic_segmentation, ("'y' [N, 2, h, w]", "--position 1,1")),
        (detection, ("kept [K, 3]", "classifier")),
        (constant, ("logits [1, 2]", "depends on what is to be explained")),
        (only_the_shape, ("logits [1, 2]", "depends on what is to be explained")),
        (undeclared, ("not a valid ONNX graph", "com.acme")),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_models_with_nothing_to_explain(make: Callable[[], ModelProto], words: Sequence[str]) -> None:
    with pytest.raises(onnxdtd.OnnxdtdError) as caught:
        onnxdtd.compile(make())
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


@pytest.mark.parametrize("make", [several, oldest, segmentation, constant], ids=lambda make: make.__name__)
def test_refusals_on_the_command_line(make: Callable[[], ModelProto], run: Callable[..., Ran], tmp_path: Path) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(make(), path)
    done = run("compile", path, "-o", out)
    with pytest.raises(onnxdtd.OnnxdtdError) as caught:
        onnxdtd.compile(path)
    assert done.code == 2
    assert " ".join(str(caught.value).split()) in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert not out.exists()


# ------------------------------------------------------------------------------------------------------- deep networks


def deep(blocks: int, channels: int = 4) -> ModelProto:
    """x + Relu(BN(Conv(x))) over and over: four nodes a block, and three more at the end."""
    nodes, constants = [], {"w": weights(3, channels), "v": weights(channels, 2)}
    at = "x"
    for i in range(blocks):
        constants |= {f"w{i}": weights(channels, channels, 3, 3) / 100, f"b{i}": weights(channels)}
        constants |= {f"{n}{i}": np.ones(channels, np.float32) for n in ("gamma", "variance")}
        nodes += [
            node("Conv", f"{at} w{i}", f"c{i}", f"conv{i}", pads=[1, 1, 1, 1]),
            node("BatchNormalization", f"c{i} gamma{i} b{i} b{i} variance{i}", f"n{i}", f"bn{i}"),
            node("Relu", f"n{i}", f"r{i}", f"relu{i}"),
            node("Add", f"{at} r{i}", f"s{i}", f"add{i}"),
        ]
        at = f"s{i}"
    nodes += [node("GlobalAveragePool", at, "p"), node("Flatten", "p", "f"), head("f")]
    return network(nodes, ["N", channels, 8, 8], ("logits", ["N", 2]), **constants)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["dtd", "lrp-alpha2beta1", "gradient"])
def test_the_number_of_nodes_grows_linearly(preset: str) -> None:
    counts = [len(onnxdtd.compile(deep(blocks), preset).graph.node) for blocks in (10, 20, 40, 80)]
    once, twice, more = np.diff(counts)
    assert (twice, more) == (2 * once, 4 * once)


MEASURE = """
import json, re, sys, time, onnx, onnxdtd
from pathlib import Path

def peak():  # of this process; ru_maxrss would remember the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

small, large = (onnx.load(path) for path in sys.argv[1:])
onnxdtd.compile(small)  # whatever is imported on first use
before, start = peak(), time.perf_counter()
compiled = onnxdtd.compile(large)
seconds = time.perf_counter() - start
print(json.dumps({"nodes": len(compiled.graph.node), "seconds": seconds, "megabytes": (peak() - before) / 1024}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_for_3000_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond the model's own size; the time is printed, since how fast a machine is says nothing about the program."""
    for name, blocks in (("small", 2), ("large", 750)):
        onnx.save(deep(blocks), tmp_path / name)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\n3003 nodes became {found['nodes']} in {found['seconds']:.1f} s and {found['megabytes']:.0f} MB")
    assert found["megabytes"] < 125 + (tmp_path / "large").stat().st_size / 2**20


# ------------------------------------------------------------------------------------------------- scripts/zoo.py


def test_the_table() -> None:
    """Every family through both exporters, every light graph, all nodes covered."""
    text = (ROOT / "scripts" / "results" / "zoo.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    listed = {(row[0], row[1]) for row in rows}
    assert listed >= {(network.name, exporter) for network in zoo.ZOO for exporter in zoo.EXPORTERS}
    assert {name for name, _ in listed} >= {path.stem for path in LIGHT}
    assert {row[3] for row in rows} == {"100 %"}


def test_nodes_on_the_path() -> None:
    """Neither arithmetic with shapes nor what no output depends on, but all the rest."""
    nodes = [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Relu", "x", "a", "on1"), node("Exp", "x", "dead")]
    nodes += [node("Reshape", "a n", "b", "on2"), node("Gemm", "b v", "c", "on3"), node("Softmax", "c", "y", "on4")]
    model = network(nodes, ["N", 4], ("y", ["N", 2]), zero=np.array([0]), v=weights(4, 2))
    assert [n.name for n in zoo.on_path(model.graph, ["y"])] == ["on1", "on2", "on3", "on4"]


def test_what_is_missing_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "several.onnx"
    onnx.save(several(), path)
    nodes, missing = zoo.reached(path)
    assert nodes == 8
    assert missing == [
        "Hardmax binary1",
        "com.acme.Snake act7",
        "RandomUniformLike noise",
        "Hardmax binary2",
        "RandomNormalLike wave",
    ]
    row = zoo.of_file(path, tmp_path / "elsewhere")
    assert row.trouble.startswith("Unsupported: 5 nodes")
    assert row.failures()


def test_gradient_of_a_file(tmp_path: Path) -> None:
    """Central differences agree with a right gradient."""
    path = tmp_path / "deep.onnx"
    onnx.save(deep(3), path)
    row = zoo.of_file(path, tmp_path / "elsewhere")
    assert not row.failures()
    assert row.nodes == 15
    assert row.errors[0] < 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_zoo(tmp_path: Path) -> None:
    """A small family; the script does all of them, each with both exporters."""
    pytest.importorskip("torch")
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("no torchvision")
    (network,) = (network for network in zoo.ZOO if network.name == "mobilenet_v3_small")
    rows = list(zoo.of_network(network, tmp_path, ["old"]))
    assert [(row.exporter, row.failures()) for row in rows] == [("old", [])]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_new_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With branches that are concatenated, as those of a SqueezeNet are."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Fire(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.squeeze, self.one, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
            self.classify = nn.Conv2d(8, 5, 1)

        def forward(self, x: Any) -> Any:
            h = torch.relu(self.squeeze(torch.max_pool2d(x, 3, 2, ceil_mode=True)))
            h = torch.cat([torch.relu(self.one(h)), torch.relu(self.three(h))], 1)
            return nn.functional.adaptive_avg_pool2d(torch.relu(self.classify(h)), 1).flatten(1)

    torch.manual_seed(0)
    monkeypatch.setattr(zoo, "built", lambda network: Fire().eval())
    rows = list(zoo.of_network(zoo.Network("fire", 16), tmp_path, ["new"]))
    assert [(row.exporter, row.failures()) for row in rows] == [("new", [])]
