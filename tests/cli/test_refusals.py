"""Every bad request ends in one plain message and status 2."""

from __future__ import annotations

import os
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import CNN, MODELS, SAMPLES, dense, digits, linear, model, picture, rgb, snapshot
from onnx import TensorProto, helper, numpy_helper
from terminal import Ran

import onnxdtd
from onnxdtd.cli import commands as cli


def lstm() -> onnx.ModelProto:
    made = model(
        "s, h, c = LSTM <hidden_size = 2, clip = 3.0> (x, w, r) g = Squeeze(h, axes) y = MatMul(g, v)",
        "(float[5,batch,4] x) => (float[batch,3] y)",
        weights="<int64[1] axes = {0}>",
    )
    arrays = {"w": np.ones((1, 8, 4)), "r": np.ones((1, 8, 2)), "v": np.ones((2, 3))}
    made.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items())
    return made


def trees() -> onnx.ModelProto:
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "y"],
        domain="ai.onnx.ml",
        name="forest",
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0, 0],
        class_nodeids=[1, 2],
        class_ids=[0, 1],
        class_weights=[1.0, 1.0],
        classlabels_int64s=[0, 1],
    )
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "forest",
        [info("x", TensorProto.FLOAT, ["batch", 4])],
        [info("label", TensorProto.INT64, ["batch"]), info("y", TensorProto.FLOAT, ["batch", 2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def unranked() -> onnx.ModelProto:
    """Only another input tells how many axes some tensors have."""
    made = model(
        "h = Reshape(x, sizes) i = Concat<axis = 1>(h, h) j = Reshape(i, flat) y = MatMul(j, w)",
        "(float[batch,4] x, int64[rank] sizes) => (float[batch,3] y)",
    )
    made.graph.initializer.extend([dense(8, 3), helper.make_tensor("flat", TensorProto.INT64, [2], [-1, 8])])
    return made


UNSUPPORTED = {
    "unknown rank": (unranked(), "Concat x1 (i): the rank of "),
    "custom domain": (linear(body="h = my.ops.Foo(x) y = MatMul(h, w)", opset='"" : 17, "my.ops" : 1'), "my.ops.Foo x1"),
    "lstm": (lstm(), "LSTM x1"),
    "trees": (trees(), "ai.onnx.ml.TreeEnsembleClassifier x1 (forest)"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_operators_without_a_rule(name: str, run: Callable[..., Ran], tmp_path: Path) -> None:
    proto, phrase = UNSUPPORTED[name]
    source = tmp_path / "net.onnx"
    onnx.save(proto, source)
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    before = snapshot(tmp_path)
    shown, asked, explaining = run("inspect", source), run("compile", source), run("explain", source, tmp_path / "x.npy")
    assert (shown.code, asked.code, explaining.code) == (1, 2, 2)
    assert shown.err == asked.err == explaining.err
    assert shown.err.startswith("onnxdtd: ")
    assert " no propagation rule:\n" in shown.err
    assert phrase in shown.err
    assert snapshot(tmp_path) == before


def two_outputs() -> onnx.ModelProto:
    made = model("y = MatMul(x, w) z = MatMul(x, v)", "(float[batch,4] x) => (float[batch,3] y, float[batch,2] z)")
    made.graph.initializer.extend([dense(4, 3), dense(4, 2, 1, "v")])
    return made


def broken_npz(good: bytes) -> bytes:
    """A zip archive whose table of contents is sound but whose compressed data are not."""
    return good[:60] + bytes(b ^ 0x55 for b in good[60:90]) + good[90:]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder full of things that no command can serve. No test may leave a trace in it."""
    yard = tmp_path_factory.mktemp("yard")
    good = CNN.read_bytes()
    (yard / "empty.onnx").touch()
    (yard / "text.onnx").write_text("Dear compiler,\nI am not a model.\n")
    (yard / "tensor.onnx").write_bytes(dense(4, 3).SerializeToString())
    (yard / "graph.onnx").write_bytes(linear().graph.SerializeToString())
    (yard / "random.onnx").write_bytes(random.Random(7).randbytes(64))
    (yard / "tiny.onnx").write_bytes(b"\x08\x08")
    (yard / "zip.onnx").write_bytes(SAMPLES.read_bytes())
    for tenth in range(1, 10):
        (yard / f"cut{tenth}.onnx").write_bytes(good[: len(good) * tenth // 10])
    (yard / "folder.onnx").mkdir()

    truths = model("y = Cast <to = 1> (x)", "(bool[batch,4] x) => (float[batch,4] y)")
    constant = model("z = Relu(x) y = Identity(w)", "(float[batch,4] x) => (float[4,3] y)")
    constant.graph.initializer.append(dense(4, 3))
    nodes = linear()
    del nodes.graph.node[:]
    unknown = linear(body="h = Frobnicate(x) y = MatMul(h, w)")
    cycle = linear(body="a = Add(x, b) b = Add(x, a) y = MatMul(a, w)")
    dangling = linear(body="y = MatMul(nowhere, w)")
    taken = linear(body="relevance = Relu(x) y = MatMul(relevance, w)")
    nothing = linear()
    del nothing.opset_import[:]
    only_ml = linear(opset='"ai.onnx.ml" : 3')
    segmentation = model("y = Relu(x)", "(float[batch,3,8,8] x) => (float[batch,3,8,8] y)")
    several = linear(body="h = Add(x, x2) y = MatMul(h, w)")
    several.graph.input.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, ["batch", 4]))
    any_classes = model("h = MatMul(x, w) y = Reshape(h, s)", "(float[batch,4] x, int64[2] s) => (float[batch,classes] y)")
    any_classes.graph.initializer.append(dense(4, 6))
    models = {
        "any_classes": any_classes,
        "truths": truths,
        "constant": constant,
        "nodes": nodes,
        "unknown": unknown,
        "cycle": cycle,
        "dangling": dangling,
        "taken": taken,
        "no_opset": nothing,
        "only_ml": only_ml,
        "segmentation": segmentation,
        "several_inputs": several,
        "two_outputs": two_outputs(),
        "one_class": linear(classes=1),
        "opset6": linear(opset='"" : 6'),
        "opset99": linear(opset='"" : 99'),
        "rgb": rgb(),
        "linear": linear(),
    }
    for name, proto in models.items():
        (yard / f"{name}.onnx").write_bytes(proto.SerializeToString())
    onnx.save(linear(), yard / "external.onnx", save_as_external_data=True, location="external.data", size_threshold=0)
    onnx.save(linear(), yard / "lost.onnx", save_as_external_data=True, location="lost.data", size_threshold=0)
    (yard / "lost.data").unlink()
    shutil.copy(CNN, yard / "good.onnx")
    (yard / "link.onnx").symlink_to("good.onnx")
    (yard / "sub").mkdir()
    (yard / "taken.onnx.d").mkdir()
    for name, source, target in (("done", CNN, None), ("done_rgb", rgb(), None), ("fixed", CNN, 3)):
        onnxdtd.save(onnxdtd.compile(source, low=0, high=1, target=target), yard / f"{name}.onnx")

    tomls = {
        "syntax": "[preset.x\n",
        "unknown_rule": '[preset.x]\nlayers = [{ rule = "zZ" }]\n',
        "unknown_key": "[presets.x]\n",
        "no_preset": "",
        "two_presets": '[preset.a]\nlayers = [{ rule = "z" }]\n[preset.b]\nlayers = [{ rule = "z" }]\n',
        "no_layers": "[preset.x]\ntitle = 'no layers'\n",
        "mixed": '[preset.x]\nlayers = [{ name = "nobody", rule = "gradient" }, { rule = "z" }]\n',
        "incomplete": '[preset.x]\nlayers = [{ family = "dense", rule = "z" }]\n',
        "bad_params": '[preset.x]\nlayers = [{ rule = "alpha-beta(alpha=2, beta=2)" }]\n',
        "redefines": '[rule.z]\nterms = ["x w"]\n[preset.x]\nlayers = [{ rule = "z" }]\n',
    }
    for name, text in tomls.items():
        (yard / f"{name}.toml").write_text(text)
    (yard / "binary.toml").write_bytes(b"\xff\xfe\x00")

    x = digits()[:2]
    np.save(yard / "x.npy", x)
    np.save(yard / "four.npy", np.ones((2, 4), np.float32))
    np.save(yard / "shape.npy", np.zeros((2, 1, 9, 9), np.float32))
    np.save(yard / "nan.npy", np.where(x == 0, np.nan, x))
    np.save(yard / "inf.npy", np.where(x == 0, np.inf, x))
    np.save(yard / "huge.npy", np.full((1, 1, 8, 8), 1e300))
    np.save(yard / "complex.npy", x.astype(np.complex64))
    np.save(yard / "text.npy", np.array(["a", "b"]))
    np.save(yard / "scalar.npy", np.float32(3))
    np.save(yard / "none.npy", x[:0])
    np.save(yard / "object.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(yard / "several.npz", a=x, b=x)
    np.savez(yard / "nothing.npz")
    np.savez(yard / "object.npz", image=np.array([{"a": 1}], object), allow_pickle=True)
    (yard / "fake.npy").write_text("Dear numpy,")
    (yard / "fake.npz").write_bytes(b"PK\x03\x04 this is no archive")
    (yard / "cut.npy").write_bytes((yard / "x.npy").read_bytes()[:200])
    (yard / "cut.npz").write_bytes(SAMPLES.read_bytes()[:700])
    (yard / "broken.npz").write_bytes(broken_npz(SAMPLES.read_bytes()))
    with zipfile.ZipFile(yard / "no_arrays.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays here")
    (yard / "text.png").write_text("Dear artist,")
    (yard / "empty.png").touch()
    picture(yard / "shot.png", np.zeros((8, 8), np.uint8))
    noise = picture(yard / "noise.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    (yard / "cut.png").write_bytes(noise.read_bytes()[:3000])
    (yard / "notes.txt").write_text("These are notes.")
    (yard / "void").mkdir()
    (yard / "labels.json").write_text("{not json")
    (yard / "labels.bin").write_bytes(b"\xff\xfe\xfd")
    (yard / "labels_number.json").write_text("7")
    (yard / "labels_words.json").write_text('{"cat": "dog"}')
    (yard / "labels_few.txt").write_text("cat\ndog\n")
    return yard


class Bad:
    """A command line, with {y} for the yard, and what the message must say."""

    def __init__(self, line: str, *phrases: str):
        self.line = line
        self.phrases = phrases

    def args(self, yard: Path) -> list[str]:
        return [part.replace("{y}", str(yard)).replace("~", " ") for part in self.line.split(" ")]

    def __repr__(self) -> str:
        return self.line.replace("{y}/", "").replace("n" * 300, "n...")


BAD_MODELS = {
    "missing.onnx": "no such file",
    "missing/net.onnx": "no such file",
    "good.onnx/net.onnx": "good.onnx",
    "empty.onnx": "is empty",
    "text.onnx": "not an ONNX model",
    "folder.onnx": "is a folder",
    "tensor.onnx": "not an ONNX model",
    "graph.onnx": "not an ONNX model",
    "random.onnx": "not an ONNX model",
    "tiny.onnx": "not an ONNX model",
    "zip.onnx": "not an ONNX model",
    **{f"cut{i}.onnx": "truncated" for i in range(1, 10)},
    "nodes.onnx": "no ONNX graph with nodes",
    "truths.onnx": "no input of numbers or ids",
    "constant.onnx": "no output is the score of a classifier",
    "segmentation.onnx": "nothing tells which axis of 'y' [batch, 3, 8, 8] has classes: give --target 1,4,4",
    "unknown.onnx": "Frobnicate",
    "cycle.onnx": "not a valid ONNX graph",
    "dangling.onnx": "nowhere",
    "no_opset.onnx": "operator set",
    "only_ml.onnx": "operator set",
    "opset6.onnx": "operator set 6 is older than 7",
    "opset99.onnx": "99",
    "two_outputs.onnx": "choose one with --output: y [batch, 3]; z [batch, 2]",
}

GOOD = "{y}/good.onnx"

BAD = [
    *(
        Bad(f"{command} {{y}}/{name}", phrase)
        for command in ("compile", "inspect")
        for name, phrase in BAD_MODELS.items()
        if (command, name) != ("inspect", "segmentation.onnx")
    ),  # of which it says what can be explained
    *(Bad(f"explain {{y}}/{name} {{y}}/x.npy -o {{y}}/sub/out", phrase) for name, phrase in BAD_MODELS.items()),
    Bad("compile {y}/taken.onnx", "relevance", "rename"),
    Bad("compile {y}/done.onnx", "compiled", "already"),
    Bad("inspect {y}/done.onnx", "compiled", "already"),
    # presets and rules
    Bad(f"compile {GOOD} --preset nonsense", "no preset 'nonsense'", "lrp-epsilon"),
    Bad(f"compile {GOOD} --preset {{y}}/missing.toml", "missing.toml", "cannot be read"),
    Bad(f"compile {GOOD} --preset {{y}}/folder.onnx", "no preset"),
    Bad(f"compile {GOOD} --preset {{y}}/syntax.toml", "syntax.toml", "not a TOML file"),
    Bad(f"compile {GOOD} --preset {{y}}/binary.toml", "binary.toml", "not a TOML file"),
    Bad(f"compile {GOOD} --preset {{y}}/unknown_rule.toml", "[preset.x], entry 1", "no rule 'zZ'"),
    Bad(f"compile {GOOD} --preset {{y}}/unknown_key.toml", "unknown key 'presets'"),
    Bad(f"compile {GOOD} --preset {{y}}/no_preset.toml", "has no preset"),
    Bad(f"compile {GOOD} --preset {{y}}/two_presets.toml", "2 presets (a, b)", "two_presets.toml:NAME"),
    Bad(f"compile {GOOD} --preset {{y}}/two_presets.toml:c", "no preset 'c'", "a, b"),
    Bad(f"compile {GOOD} --preset {{y}}/no_layers.toml", "[preset.x]", "needs layers"),
    Bad(f"compile {GOOD} --preset {{y}}/mixed.toml", "[preset.x], entry 1", "the rule gradient does not divide"),
    Bad(f"compile {GOOD} --set nobody=z", "--set nobody=z", "matches no layer", "node_conv2d"),
    Bad(f"compile {GOOD} --set node_conv=z", "matches no layer of this model; did you mean 'node_conv2d'"),
    Bad(f"compile {GOOD} --preset {{y}}/incomplete.toml", "no entry matches the layer 'node_conv2d'"),
    Bad(f"compile {GOOD} --preset {{y}}/bad_params.toml", "[preset.x], entry 1", "must be 1, not 0"),
    Bad(f"compile {GOOD} --preset {{y}}/redefines.toml", "[rule.z]", "already"),
    Bad("rules --file {y}/syntax.toml", "not a TOML file"),
    Bad("rules --file {y}/missing.toml", "cannot be read"),
    Bad("rules --file {y}/void", "void", "cannot be read"),
    Bad(f"compile {GOOD} --set nonsense", "NODE-GLOB=RULE"),
    Bad(f"compile {GOOD} --set =z", "NODE-GLOB=RULE"),
    Bad(f"compile {GOOD} --set *=", "NODE-GLOB=RULE"),
    Bad(f"compile {GOOD} --set *=zZ", "--set *=zZ", "no rule 'zZ'"),
    Bad(f"compile {GOOD} --set *=gamma(gamma=x)", "name=number"),
    Bad(f"compile {GOOD} --set *=gamma(delta=1)", "no parameter 'delta'"),
    Bad(f"compile {GOOD} --set *=gamma(gamma=nan)", "finite"),
    Bad(f"compile {GOOD} --set *=gamma(gamma=-1)", "not negative"),
    Bad(f"compile {GOOD} --set nobody=z", "--set nobody=z", "matches no layer"),
    Bad(f"compile {GOOD} --set *=zB", "needs the bounds"),
    Bad(f"compile {GOOD} --set node_linear=zB --low 0 --high 1", "only the first layer"),
    # bounds
    Bad(f"compile {GOOD} --low 0", "both --low and --high"),
    Bad(f"compile {GOOD} --high 1", "both --low and --high"),
    Bad(f"compile {GOOD} --low zero --high 1", "--low 'zero'", "number"),
    Bad(f"compile {GOOD} --low 0 --high 1,", "--high '1,'", "number"),
    Bad(f"compile {GOOD} --low 0,0,0 --high 1,1,1", "3 values", "'image'"),
    Bad("compile {y}/rgb.onnx --low 0,0 --high 1,1", "2 values", "'x'"),
    Bad(f"compile {GOOD} --low 1 --high 1", "must be below"),
    Bad(f"compile {GOOD} --low 2 --high 1", "must be below"),
    Bad("compile {y}/rgb.onnx --low 0,0,1 --high 1,1,1", "must be below"),
    Bad(f"compile {GOOD} --low nan --high 1", "finite"),
    Bad(f"compile {GOOD} --low 0 --high inf", "finite"),
    Bad(f"compile {GOOD} --low 0 --high 1e300", "--high|high"),
    Bad(f"compile {GOOD} --low 1e-60 --high 2e-60", "below"),
    Bad(f"compile {GOOD} --low 0 --high 1 --mean 0.5", "either"),
    Bad(f"compile {GOOD} --low 0 --high 1 --range 0 1", "either"),
    Bad(f"compile {GOOD} --std 0", "std must be positive"),
    Bad(f"compile {GOOD} --std -1", "std must be positive"),
    Bad(f"compile {GOOD} --std nan", "std nan"),
    Bad(f"compile {GOOD} --mean a", "--mean 'a'"),
    Bad(f"compile {GOOD} --range 1 0", "give two numbers"),
    Bad("compile {y}/rgb.onnx --mean 1,2,3 --std 1,2", "mean and std"),
    Bad("compile {y}/rgb.onnx --mean 1,2", "values"),
    # target, output, keep, allow
    Bad(f"compile {GOOD} --target 10", "target 10", "0 to 9"),
    Bad(f"compile {GOOD} --target -1", "target -1", "0 to 9"),
    Bad(f"compile {GOOD} --target 99999999999999999999", "0 to 9"),
    Bad(f"compile {GOOD} --target foo", "'foo'", "'argmax'"),
    Bad(f"compile {GOOD} --target 1.5", "'1.5'", "index"),
    Bad(f"compile {GOOD} --target=--5", "'--5'"),
    Bad(f"compile {GOOD} --target ²", "'²'"),
    Bad(f"compile {GOOD} --target=", "''"),
    Bad("compile {y}/one_class.onnx --contrast", "at least two classes"),
    Bad(f"compile {GOOD} --output logit", "no tensor 'logit'", "did you mean", "'logits'"),
    Bad(f"compile {GOOD} --output qqqqqqqq", "no tensor 'qqqqqqqq'"),
    Bad(f"compile {GOOD} --output relu", "relu"),
    Bad(f"compile {GOOD} --keep relu_12", "--keep 'relu_12'", "did you mean", "'relu_1'"),
    Bad("compile {y}/two_outputs.onnx --output y --keep z", "--keep 'z'"),
    Bad("compile {y}/any_classes.onnx --target -3", "target -3"),
    Bad("compile {y}/any_classes.onnx --target 99999999999999999999", "target 99999999999999999999 is no class of this model"),
    Bad(f"compile {GOOD} --allow Foo=bar", "--allow Foo=bar", "OP=pass"),
    Bad(f"compile {GOOD} --allow Foo", "OP=pass"),
    Bad(f"compile {GOOD} --allow =pass", "OP=pass"),
    # where to write
    Bad(f"compile {GOOD} -o {{y}}/nowhere/out.onnx", "nowhere", "does not exist"),
    Bad(f"compile {GOOD} -o {{y}}/good.onnx", "is the source model"),
    Bad(f"compile {GOOD} -o {{y}}/sub/../good.onnx", "is the source model"),
    Bad(f"compile {GOOD} -o {{y}}/link.onnx", "is the source model"),
    Bad("compile {y}/link.onnx -o {y}/good.onnx", "is the source model"),
    Bad(f"compile {GOOD} -o {{y}}/sub", "is a folder"),
    Bad(f"compile {GOOD} -o /proc/out.onnx", "/proc/out.onnx", "cannot be written"),
    Bad(f"compile {GOOD} -o {{y}}/text.png/out.onnx", "text.png"),
    Bad(f"compile {GOOD} -o {{y}}/sub/{'n' * 300}.onnx", "cannot be written"),
    Bad("compile {y}/external.onnx -o {y}/external.data", "external.data", "weights"),
    Bad("compile {y}/lost.onnx -o {y}/sub/out.onnx", "lost.data"),
    # what to explain
    Bad(f"explain {GOOD} {{y}}/missing.png -o {{y}}/sub/out", "missing.png", "no such file"),
    Bad(f"explain {GOOD} {{y}}/void -o {{y}}/sub/out", "void", "no images"),
    Bad(f"explain {GOOD} {{y}}/shot.png -o {{y}}/sub/out", "shot.png", "--range", "--low"),
    Bad(f"explain {GOOD} {{y}}/text.png --low 0 --high 1 -o {{y}}/sub/out", "text.png", "not a readable picture"),
    Bad(f"explain {GOOD} {{y}}/empty.png --low 0 --high 1 -o {{y}}/sub/out", "empty.png", "not a readable picture"),
    Bad(f"explain {GOOD} {{y}}/cut.png --low 0 --high 1 -o {{y}}/sub/out", "cut.png", "not a readable picture"),
    Bad(f"explain {GOOD} {{y}}/notes.txt --low 0 --high 1 -o {{y}}/sub/out", "takes no ids of tokens", "image (float"),
    Bad("explain {y}/linear.onnx {y}/shot.png --low 0 --high 1 -o {y}/sub/out", "shot.png", "picture", "[4]"),
    Bad(f"explain {GOOD} {{y}}/shape.npy -o {{y}}/sub/out", "shape.npy", "[2, 1, 9, 9]", "[1, 8, 8]"),
    *(
        Bad(f"explain {GOOD} {{y}}/{name} -o {{y}}/sub/out", name.partition(".")[0], phrase)
        for name, phrase in {
            "nan.npy": "NaN",
            "inf.npy": "infinite",
            "huge.npy": "infinite",
            "complex.npy": "complex64",
            "text.npy": "no numbers",
            "scalar.npy": "the array is []",
            "none.npy": "no numbers",
            "object.npy": "not a readable numpy file",
            "object.npz": "not a readable numpy file",
            "several.npz": "which array? It has a, b; name one 'image'",
            "nothing.npz": "no array",
            "no_arrays.npz": "no array|no numbers|not a readable",
            "fake.npy": "not a readable numpy file",
            "fake.npz": "not a readable numpy file",
            "cut.npy": "not a readable numpy file",
            "cut.npz": "not a readable numpy file",
            "broken.npz": "not a readable numpy file",
        }.items()
    ),
    Bad("compile {y}/net.onnx --preset dtd --preset lrp-0", "--preset is given twice", "`onnxdtd compile` takes one"),
    Bad("bench {y}/net.onnx --target=1 --target 2", "--target is given twice", "`onnxdtd bench` takes one"),
    Bad("explain {y}/several_inputs.onnx {y}/four.npy -o {y}/sub/out", "several inputs", "x, x2"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/missing.txt -o {{y}}/sub/out", "missing.txt", "labels"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/void -o {{y}}/sub/out", "void", "labels"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels.bin -o {{y}}/sub/out", "labels.bin", "labels"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels.json -o {{y}}/sub/out", "labels.json", "labels"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels_number.json -o {{y}}/sub/out", "labels_number.json"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels_words.json -o {{y}}/sub/out", "labels_words.json"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels_few.txt -o {{y}}/sub/out", "2 labels for 10 classes"),
    Bad("explain {y}/done.onnx {y}/x.npy --labels {y}/labels_few.txt -o {y}/sub/out", "2 labels for 10 classes"),
    Bad(f"explain {GOOD} {{y}}/x.npy --provider Abacus -o {{y}}/sub/out", "'Abacus'", "CPUExecutionProvider"),
    Bad(f"explain {GOOD} {{y}}/x.npy -o {{y}}/notes.txt", "notes.txt", "cannot write"),
    Bad(f"explain {GOOD} {{y}}/x.npy -o {{y}}/notes.txt/out", "notes.txt", "cannot write"),
    Bad(f"explain {GOOD} {{y}}/x.npy -o /proc/out", "/proc/out", "cannot write"),
    Bad(f"explain {GOOD} {{y}}/x.npy --target 10 -o {{y}}/sub/out", "target 10", "0 to 9"),
    # a compiled model is what it is
    Bad("explain {y}/done.onnx {y}/x.npy --save memory://x.npz -o {y}/sub/out", "gone with this process", "another URL"),
    Bad("explain {y}/done.onnx {y}/x.npy --target 10 -o {y}/sub/out", "target 10", "0 to 9"),
    Bad("explain {y}/done.onnx {y}/x.npy --target foo -o {y}/sub/out", "'foo'"),
    Bad("explain {y}/fixed.onnx {y}/x.npy --target 4 -o {y}/sub/out", "explains class 3, whatever"),
    Bad("explain {y}/fixed.onnx {y}/x.npy --target argmax -o {y}/sub/out", "explains class 3, whatever"),
    Bad("explain {y}/done.onnx {y}/shot.png --low 1 --high 0 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/shot.png --low 1 --high 1 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/shot.png --low nan --high 1 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/shot.png --low 0,0 --high 1,1 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done_rgb.onnx {y}/shot.png --low 0,0 --high 1,1 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --preset lrp-0 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --contrast -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --set *=z -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --output relu -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --keep relu -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --allow Hardmax=pass -o {y}/sub/out", "compiled already"),
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_bad_requests_end_in_one_plain_message(bad: Bad, yard: Path, run: Callable[..., Ran]) -> None:
    before = snapshot(yard)
    done = run(*bad.args(yard))
    after = snapshot(yard)
    out = yard / "sub/out"
    if out.is_dir():  # it was made to see whether it can be written to, but nothing is in it
        shutil.rmtree(out)
    assert (done.code, done.out) == (2, ""), done.err or done.out
    assert done.err.startswith("onnxdtd: ")
    assert done.err.count("onnxdtd: ") == 1
    if "no propagation rule" not in done.err:
        assert done.err.count("\n") == 1, "one line"
    for word in ("Traceback", "internal error", "Warning", 'File "', "0 to -1"):
        assert word not in done.err
    for phrase in bad.phrases:
        assert any(choice in done.err for choice in phrase.split("|")), done.err
    assert {name: mark for name, mark in after.items() if name != "sub/out"} == before


@pytest.mark.parametrize(
    "line",
    [
        "compile",
        "explain {y}/good.onnx",
        "nonsense",
        "compile {y}/good.onnx --nonsense",
        "compile {y}/good.onnx --range 0 one",
        "compile {y}/good.onnx {y}/good.onnx",
        "compile {y}/good.onnx --low",
    ],
)
def test_bad_usage_shows_how_to_use_it(line: str, yard: Path, run: Callable[..., Ran]) -> None:
    before = snapshot(yard)
    done = run(*Bad(line).args(yard))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("onnxdtd: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    assert snapshot(yard) == before


@pytest.mark.parametrize(
    ("line", "close"),
    [
        ("compile {y}/good.onnx --preset lrp-epsilo", "'lrp-epsilon'"),
        ("compile {y}/good.onnx --preset DTD", "'dtd'"),
        ("compile {y}/good.onnx --set *=epsilo", "'epsilon'"),
        ("compile {y}/good.onnx --prset dtd", "'--preset'"),
        ("explian {y}/good.onnx", "'explain'"),
        ("compile {y}/good.onnx --output logit", "'logits'"),
    ],
)
def test_a_name_nearly_right_is_suggested(line: str, close: str, yard: Path, run: Callable[..., Ran]) -> None:
    done = run(*Bad(line).args(yard))
    assert (done.code, done.out) == (2, "")
    assert re.search(rf"did you mean [^?]*{re.escape(close)}", done.err), done.err
    assert done.err.count("\n") == 1


def test_a_file_in_the_way_of_a_result(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A folder where results.json, or a heatmap, should go."""
    np.save(tmp_path / "x.npy", digits()[:1])
    for name in ("results.json", "x.png"):
        (tmp_path / name / name).mkdir(parents=True)
        done = run("explain", CNN, tmp_path / "x.npy", "-o", tmp_path / name)
        assert done.code == 2
        assert "internal error" not in done.err
        assert name in done.err
        assert not [path for path in (tmp_path / name).glob("*") if path.name not in (name, "x.png")]


def test_a_damaged_model_is_refused_or_compiled_but_never_crashes(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Random bytes of a model overwritten: many still parse."""
    good = (MODELS / "digits_mlp.onnx").read_bytes()
    structure = [i for i in range(len(good)) if i < 300 or i > len(good) - 700]
    chance = random.Random(20)
    source, out = tmp_path / "net.onnx", tmp_path / "out.onnx"
    for _ in range(60):
        data = bytearray(good)
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.choice(structure)] = chance.randrange(256)
        source.write_bytes(data)
        done = run("compile", source, "-o", out)
        assert done.code in (0, 2)
        assert "internal error" not in done.err, done.err
        assert "Traceback" not in done.err


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["onnxdtd", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{onnxdtd.__version__}\n")


def test_a_device_is_no_file_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing it by a file would destroy it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr("sys.argv", ["onnxdtd", "compile", str(MODELS / "digits_mlp.onnx"), "-o", str(fifo)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, fifo.is_fifo()) == (2, True)
    assert "is not a regular file" in capsys.readouterr().err


FOLLOWED = [  # a request, the advice in its refusal, and the request again with the advice taken
    (f"compile {GOOD} --low 0", "give both --low and --high", "--high 1"),
    (f"compile {GOOD} --preset epsilon-gamma-box", "give --low and --high", "--low 0 --high 1"),
    ("compile {y}/two_outputs.onnx", "choose one with --output: y [batch, 3]; z [batch, 2]", "--output z"),
    (
        f"explain {GOOD} {{y}}/shot.png",
        "needs --range (with --mean and --std) or --low and --high",
        "--range 0 1 --mean 0.5 --std 0.5",
    ),
    (f"explain {GOOD} {{y}}/shot.png", "needs --range (with --mean and --std) or --low and --high", "--low 0 --high 1"),
]

INSTEAD = [  # ... with part of it replaced
    (f"compile {GOOD} --output logit", "did you mean 'logits'", "--output logit", "--output logits"),
    (f"compile {GOOD} --keep relu_12", "'relu_1'", "relu_12", "relu_1"),
    (f"compile {GOOD} --set node_conv=z", "did you mean 'node_conv2d'", "node_conv=", "node_conv2d="),
    (f"compile {GOOD} --preset {{y}}/two_presets.toml", "two_presets.toml:NAME", "presets.toml", "presets.toml:b"),
    ("compile {y}/done.onnx", "give the model that it was compiled from", "done.onnx", "good.onnx"),
    ("explain {y}/folder.onnx {y}/x.npy", "give the .onnx file in it", "folder.onnx", "good.onnx"),
    (f"compile {GOOD} --set *=gamma(0.5)", "write parameters as name=number", "(0.5)", "(gamma=0.5)"),
    (f"compile {GOOD} --set z", "write NODE-GLOB=RULE", "--set z", "--set node_conv2d=z"),
]


@pytest.mark.parametrize(
    ("request_", "advice", "taken"),
    [(bad, advice, f"{bad} {more}") for bad, advice, more in FOLLOWED]
    + [(bad, advice, bad.replace(old, new)) for bad, advice, old, new in INSTEAD],
)
def test_a_request_that_follows_the_advice_is_served(
    request_: str, advice: str, taken: str, yard: Path, run: Callable[..., Ran], tmp_path: Path
) -> None:
    refused = run(*Bad(f"{request_} -o {tmp_path}/out").args(yard))
    assert refused.code == 2
    assert advice in refused.err
    done = run(*Bad(f"{taken} -o {tmp_path}/out").args(yard))
    assert done.code == 0, done.err
