"""`verify` passes what the compiler wrote, and finds every way of tampering with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from onnx import numpy_helper
from typer.testing import CliRunner
from verifying import (
    RNG,
    constant,
    entry,
    failed,
    found,
    net,
    of,
    residual,
    rule_in_the_graph,
    swapped,
    tampered,
    weight,
)

import onnxdtd
from onnxdtd.cli.commands import app
from onnxdtd.compiler import addition as addition_module
from onnxdtd.compiler import rectified as rectified_module
from onnxdtd.compiler import score as target_module
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.study import verify as verify_module
from onnxdtd.study.trial import Trial
from onnxdtd.study.verify import verify

MODELS = Path(__file__).resolve().parents[2] / "models"

OWN_RULES = """
[rule.mine]
terms = ["x+ w+", "x- w-"]
[preset.mine]
layers = [{ rule = "mine" }]
"""


def test_what_was_compiled_passes(source: Path, compiled: Path) -> None:
    for given in (source, None):
        report = verify(compiled, given)
        assert report.passed, report.checks
        assert found(report, "compiled anew") == "gives the same bytes"
        assert found(report, "logit") == "100 % = relevance 100.00%"
    names = [step["step"] for step in report.steps]
    assert names == ["logits", "logits_node", "p_node", "a_node"]
    assert [step["rule"] for step in report.steps] == ["logit", "z+", "route", "zB"]
    np.testing.assert_allclose([step["in"] for step in report.steps], 1, rtol=1e-6)


OPTIONS: list[dict[str, Any]] = [
    {"preset": "lrp-epsilon", "low": [-1.0], "high": [2.0], "settings": ["a_node=gamma(gamma=0.1)"]},
    {"preset": "lrp-alpha2beta1", "target": 2, "keep": ["f", "a"]},
    {"preset": "epsilon-plus", "contrast": True},
    {"preset": "gradient-x-input", "target": "argmax"},
    {"preset": "attnlrp", "target": "input"},
    {"preset": "dtd", "ledger": True, "output": "y"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options["preset"])
def test_every_option_is_compiled_anew(source: Path, options: dict[str, Any]) -> None:
    path = source.with_name("out.onnx")
    onnxdtd.save(onnxdtd.compile(source, **options), path, source)
    for given in (source, None):
        report = verify(path, given)
        assert report.passed, [check for check in report.checks if check.passed is False]
        assert bool(report.steps) == (options["preset"] != "gradient-x-input")


def order(proto: onnx.ModelProto) -> None:
    last, previous = proto.graph.node[-1], proto.graph.node[-2]
    kept = onnx.NodeProto()
    kept.CopyFrom(last)
    last.CopyFrom(previous)
    previous.CopyFrom(kept)


def removed(proto: onnx.ModelProto) -> None:
    """The softmax, and the logits declared as y."""
    nodes = proto.graph.node
    nodes[4].output[0] = "y"
    for n in nodes[6:]:
        n.input[:] = ["y" if name == "logits" else name for name in n.input]
    del nodes[5]


def undeclared(proto: onnx.ModelProto) -> None:
    proto.metadata_props.add(key="onnxdtd.approved", value='"yes"')


def doc(proto: onnx.ModelProto) -> None:
    proto.doc_string = "approved"


CHANGES: list[tuple[Callable[[onnx.ModelProto], None], set[str]]] = [
    (weight, {"digest", "predictor", "compiled anew"}),
    (constant, {"relevance pass"}),
    (rule_in_the_graph, {"relevance pass", "balance"}),
    (swapped, {"digest", "predictor"}),
    (order, {"relevance pass"}),
    (removed, {"predictor", "relevance pass"}),
    (entry("rules", {"a_node": "z+", "logits_node": "z+"}), {"metadata"}),
    (entry("preset", "lrp-epsilon"), {"metadata", "relevance pass"}),
    (entry("settings", ["a_node=w2"]), {"metadata", "relevance pass"}),
    (entry("bounds", {"low": 0.0, "high": 2.0}), {"relevance pass"}),
    (entry("bounds", None), {"relevance pass"}),
    (entry("target", 1), {"relevance pass"}),
    (entry("contrast", True), {"relevance pass"}),
    (entry("classes", 4), {"metadata"}),
    (entry("logits", "f"), {"metadata"}),
    (entry("stepped_back", []), {"metadata"}),
    (
        entry("predictor", {"node": 6, "initializer": 5, "input": 1, "output": 1, "value_info": 0, "sha256": "0"}),
        {"digest", "metadata"},
    ),
    (entry("predictor", {"node": "many"}), {"metadata"}),
    (entry("predictor", 7), {"metadata"}),
    (entry("relevance", {"f": "relevance"}), {"relevance pass"}),
    (undeclared, {"metadata"}),
    (doc, {"compiled anew"}),
]


@pytest.mark.parametrize(("change", "names"), CHANGES, ids=[f"{i}" for i in range(len(CHANGES))])
def test_tampering_is_found_with_the_source(
    source: Path, compiled: Path, change: Callable[[onnx.ModelProto], None], names: set[str]
) -> None:
    report = verify(tampered(compiled, change), source)
    assert not report.passed
    assert failed(report) & names


@pytest.mark.parametrize("change", [c for c, _ in CHANGES if c is not doc])
def test_tampering_is_found_without_the_source(compiled: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """All but what only the source can tell: fields outside of the graph."""
    assert not verify(tampered(compiled, change)).passed


def test_findings_name_what_differs(source: Path, compiled: Path) -> None:
    report = verify(tampered(compiled, weight), source)
    assert found(report, "predictor") == "differs in initializer 'w'"
    assert "recorded" in found(report, "digest")


def test_metadata_that_is_no_json(source: Path, compiled: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        next(e for e in proto.metadata_props if e.key == "onnxdtd.bounds").value = "{"

    assert failed(verify(tampered(compiled, change), source)) == {"metadata"}


def test_another_source(source: Path, compiled: Path) -> None:
    proto = onnx.load(source)
    weight(proto)
    other = source.with_name("other.onnx")
    onnx.save(proto, other)
    report = verify(compiled, other)
    (check,) = report.checks
    assert (check.name, check.passed) == ("source", False)
    assert check.finding.startswith("this file was compiled from another model: SHA-256 ")
    assert str(other) in check.finding
    assert CliRunner().invoke(app, ["verify", str(compiled), "--source", str(other)]).exit_code == 1
    assert failed(verify(compiled, compiled)) == {"source"}


def test_a_source_that_protobuf_would_write_otherwise(source: Path, tmp_path: Path) -> None:
    """With a field that is none of ONNX's in front."""
    (tmp_path / "odd.onnx").write_bytes(b"\xc2\x3e\x00" + source.read_bytes())
    onnxdtd.save(onnxdtd.compile(tmp_path / "odd.onnx"), tmp_path / "compiled.onnx")
    assert not [check for check in verify(tmp_path / "compiled.onnx", tmp_path / "odd.onnx").checks if check.passed is False]


def test_a_model_that_does_not_run(source: Path, compiled: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.node[-1].op_type = "NoSuchOperator"

    assert {"relevance pass", "runs"} <= failed(verify(tampered(compiled, change), source))


def test_deep(tmp_path: Path) -> None:
    """Deeper than Python's stack."""
    deep = [node("Relu", f"t{i}", f"t{i + 1}") for i in range(1100)]
    nodes = [node("MatMul", "x w", "t0"), *deep, node("MatMul", "t1100 v", "y")]
    path, source = of(model(nodes, {"x": ["n", 4]}, ["y"], {"w": eighths(RNG, 4, 4), "v": eighths(RNG, 4, 3)}), tmp_path)
    report = verify(path, source)
    assert report.passed, report.checks
    assert [step["step"] for step in report.steps] == ["y", "y_node", "t0_node"]


def test_own_preset(source: Path, tmp_path: Path) -> None:
    rules, path = tmp_path / "mine.toml", tmp_path / "out.onnx"
    rules.write_text(OWN_RULES)
    onnxdtd.save(onnxdtd.compile(source, rules), path, source)
    assert verify(path, source).passed
    moved = rules.rename(tmp_path / "moved.toml")
    assert failed(verify(path, source)) == {"metadata"}
    assert verify(path, source, preset=moved).passed
    moved.write_text(OWN_RULES.replace('"x- w-"', '"x- w+"'))
    assert "relevance pass" in failed(verify(path, source, preset=moved))


@pytest.mark.parametrize("name", ["digits_cnn", "digits_resnet", "digits_mlp"])
def test_bundled_models_on_their_samples(name: str, tmp_path: Path) -> None:
    source, out = MODELS / f"{name}.onnx", tmp_path / "out.onnx"
    onnxdtd.save(onnxdtd.compile(source, low=0.0, high=1.0), out, source)
    report = verify(out, source, MODELS / "digits_samples.npz")
    assert report.passed, report.checks
    assert "on 20 inputs" in found(report, "prediction")


def test_declared_shapes_are_compared(tmp_path: Path) -> None:
    source, path = MODELS / "digits_cnn.onnx", tmp_path / "out.onnx"
    proto = onnxdtd.compile(source, low=0, high=1)
    ours = next(v for v in proto.graph.value_info if v.name.startswith("dtd/"))
    onnxdtd.save(proto, path)
    assert verify(path, source).passed
    ours.type.tensor_type.shape.dim[0].dim_param = "height"
    onnxdtd.save(proto, path)
    for report in (verify(path, source), verify(path)):
        assert failed(report) == {"relevance pass", "compiled anew"}
        assert ours.name in found(report, "relevance pass")


def test_a_file_that_does_not_say_how_many_shapes_are_declared(source: Path, compiled: Path) -> None:
    def forget(proto: onnx.ModelProto) -> None:
        (sizes,) = (e for e in proto.metadata_props if e.key == "onnxdtd.predictor")
        sizes.value = json.dumps({k: v for k, v in json.loads(sizes.value).items() if k != "value_info"})

    path = tampered(compiled, forget)
    for report in (verify(path, source), verify(path)):
        assert {"digest", "metadata"} <= failed(report)


@pytest.mark.parametrize("weights", ["reference", "copy"])
@pytest.mark.parametrize("folder", ["", "in"])
def test_external_weights_wherever_they_lie(folder: str, weights: str, tmp_path: Path) -> None:
    """Where the files are is no part of what was compiled, what is in them is: the prediction tells."""
    source = tmp_path / "in/net.onnx"
    source.parent.mkdir()
    onnx.save(net(), source, save_as_external_data=True, location="net.data", size_threshold=64)
    path = tmp_path / folder / "out.onnx"
    onnxdtd.save(onnxdtd.compile(source), path, source, weights)
    assert not failed(verify(path, source))
    assert not failed(verify(path))
    if weights == "copy":
        (copy,) = {"": [tmp_path / "net.data"], "in": [tmp_path / "in/out.onnx.net.data"]}[folder]
        copy.write_bytes(copy.read_bytes()[::-1])
        assert "prediction" in failed(verify(path, source))


def test_not_compiled(source: Path) -> None:
    with pytest.raises(ModelError, match="was not compiled by onnxdtd; run `onnxdtd compile`"):
        verify(source)


def test_inputs_that_do_not_fit(source: Path, compiled: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 1, 7, 8), np.float32))
    with pytest.raises(RequestError, match=r"the array is \[2, 1, 7, 8\]"):
        verify(compiled, source, tmp_path / "x.npz")


def test_strings(tmp_path: Path) -> None:
    kind = onnx.helper.make_tensor_value_info("s", onnx.TensorProto.STRING, ["n", 1])
    nodes = [node("MatMul", "x w", "z"), node("Identity", "s", "t")]
    proto = model(nodes, {"x": ["n", 2], "s": ["n", 1]}, ["z", "t"], {"w": eighths(RNG, 2, 3)})
    proto.graph.input[1].CopyFrom(kind)
    proto.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.STRING
    path, source = of(proto, tmp_path)
    assert verify(path, source).passed
    np.savez(tmp_path / "xs.npz", x=np.ones((2, 2), np.float32), s=np.asarray([["a"], ["b"]]))
    assert verify(path, source, tmp_path / "xs.npz").passed


def test_several_inputs(tmp_path: Path) -> None:
    nodes = [node("Concat", "a b", "c", axis=1), node("MatMul", "c w", "y")]
    proto = model(nodes, {"a": ["n", 2], "b": ["n", 3]}, ["y"], {"w": eighths(RNG, 5, 3)})
    path = tmp_path / "two.onnx"
    onnxdtd.save(onnxdtd.compile(proto), path)
    assert verify(path).passed
    np.savez(tmp_path / "ab.npz", a=np.ones((4, 2), np.float32), b=np.ones((4, 3), np.float32))
    assert verify(path, inputs=tmp_path / "ab.npz").passed
    np.savez(tmp_path / "a.npz", a=np.ones((4, 2), np.float32))
    with pytest.raises(RequestError, match="has no array 'b'; the model takes a, b"):
        verify(path, inputs=tmp_path / "a.npz")


def test_command_line(source: Path, compiled: Path) -> None:
    run = CliRunner().invoke
    passed = run(app, ["verify", str(compiled), "--source", str(source)])
    assert passed.exit_code == 0
    assert passed.stdout.endswith("is what it says it is\n")
    alone = run(app, ["verify", str(compiled)])
    assert "is what it says it is, as far as the file alone can tell" in " ".join(alone.stdout.split())
    tampered(compiled, rule_in_the_graph)
    broken = run(app, ["verify", str(compiled), "--source", str(source), "--json"])
    assert broken.exit_code == 1
    report = json.loads(broken.stdout)
    assert report["passed"] is False
    assert report["verdict"].startswith("FAILED: ")
    assert {"name": "digest", "passed": True, "finding": "nodes and weights of the predictor are those recorded"} in report[
        "checks"
    ]


STRANGE = [
    ("predictor", '{"node": 1e999, "initializer": 5, "input": 1, "output": 1, "value_info": 0}'),
    ("version", "[" * 100000),
    ("contrast", "0"),
    ("ledger", '{"steps": [], "columns": ["in"]}'),
    ("ledger", '{"steps": ["a", "b", "c", "d", "e"], "columns": ["in"]}'),
]


@pytest.mark.parametrize(("key", "value"), STRANGE, ids=[f"{i}" for i in range(len(STRANGE))])
def test_strange_metadata_is_a_failed_check(source: Path, tmp_path: Path, key: str, value: str) -> None:
    def change(proto: onnx.ModelProto) -> None:
        next(e for e in proto.metadata_props if e.key == f"onnxdtd.{key}").value = value

    path = tmp_path / "out.onnx"
    onnxdtd.save(onnxdtd.compile(source, ledger=True), path, source)
    tampered(path, change)
    for given in (source, None):
        assert "metadata" in failed(verify(path, given))


def two_outputs(tmp_path: Path) -> tuple[Path, Path]:
    """A model with external weights and a copy of them beside the compiled model; its first output has an infinite value."""
    nodes = [node("MatMul", "x w", "y"), node("MatMul", "x v", "z"), node("Add", "z far", "u")]
    weights = {"w": eighths(RNG, 8, 16), "v": eighths(RNG, 8, 16), "far": np.asarray([np.inf] + [0.0] * 15, np.float32)}
    (tmp_path / "in").mkdir()
    source, path = tmp_path / "in/net.onnx", tmp_path / "out.onnx"
    proto = model(nodes, {"x": ["n", 8]}, ["u", "y"], weights)
    onnx.save(proto, source, save_as_external_data=True, location="net.data", size_threshold=64)
    onnxdtd.save(onnxdtd.compile(source, output="y"), path, source, "copy")
    assert verify(path, source).passed
    return source, path


@pytest.mark.parametrize(("value", "seen"), [(1e-9, False), (9.0, True), (float("nan"), True)])
@pytest.mark.parametrize("name", ["w", "v"])
def test_external_weights_are_compared(tmp_path: Path, name: str, value: float, seen: bool) -> None:
    """Byte by byte, since the prediction tells only what shows on the inputs; what shows is not hidden by infinite values."""
    source, path = two_outputs(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    entry = {e.key: e.value for t in proto.graph.initializer if t.name == name for e in t.external_data}
    data = tmp_path / "net.data"
    values = np.frombuffer(data.read_bytes(), np.float32).copy()
    values[int(entry.get("offset", 0)) // 4 + 7] += np.float32(value)
    values[int(entry.get("offset", 0)) // 4 + 8] = np.nextafter(values[int(entry.get("offset", 0)) // 4 + 8], np.float32(9))
    data.write_bytes(values.tobytes())
    assert failed(verify(path, source)) >= {"external weights"} | ({"prediction"} if seen else set())


@pytest.mark.parametrize("given", [True, False])
def test_weights_that_source_and_file_share_are_those_of_the_compile(given: bool, tmp_path: Path) -> None:
    """Both follow what is changed later: nothing but the digest that was taken tells."""
    source, path = tmp_path / "net.onnx", tmp_path / "out.onnx"
    onnx.save(net(), source, save_as_external_data=True, location="net.data", size_threshold=64)
    onnxdtd.save(onnxdtd.compile(source), path, source)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.data", "net.onnx", "out.onnx"]
    assert not failed(verify(path, source if given else None))
    values = np.frombuffer((tmp_path / "net.data").read_bytes(), np.float32).copy()
    values[3] += 0.5
    (tmp_path / "net.data").write_bytes(values.tobytes())
    report = verify(path, source if given else None)
    assert failed(report) == {"external weights"}
    (check,) = [check for check in report.checks if check.name == "external weights"]
    assert f"not those of when it was compiled: {tmp_path / 'net.data'}; recorded is SHA-256" in check.finding


def test_a_file_without_digests_of_its_weights_is_compared_with_the_source(tmp_path: Path) -> None:
    """As older versions wrote them."""
    source, path = two_outputs(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    kept = [entry for entry in proto.metadata_props if entry.key != "onnxdtd.weights"]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    assert not failed(verify(path, source))
    data = tmp_path / "net.data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert "external weights" in failed(verify(path, source))


def sparse(proto: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(proto.graph.sparse_initializer[0].values) * 2
    proto.graph.sparse_initializer[0].values.CopyFrom(numpy_helper.from_array(values, "w"))


def newer(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version += 1


@pytest.mark.parametrize("change", [sparse, newer])
def test_the_digest_knows_sparse_weights_and_operator_sets(tmp_path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    proto, path = net(), tmp_path / "out.onnx"
    dense = next(t for t in proto.graph.initializer if t.name == "w")
    values = numpy_helper.to_array(dense)
    places = np.flatnonzero(values)
    entry = proto.graph.sparse_initializer.add(dims=values.shape)
    entry.values.CopyFrom(numpy_helper.from_array(values.ravel()[places], "w"))
    entry.indices.CopyFrom(numpy_helper.from_array(places, "places"))
    proto.graph.initializer.remove(dense)
    onnxdtd.save(onnxdtd.compile(proto), path)
    assert verify(path).passed
    assert "digest" in failed(verify(tampered(path, change)))


def test_where_all_relevance_is_zero(tmp_path: Path) -> None:
    """There was nothing to compare, and nobody shall believe that there was."""
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "r"), node("MatMul", "r v", "z")]
    weights = {"w": -np.ones((3, 4), np.float32), "v": np.ones((4, 2), np.float32)}
    path, source = of(model(nodes, {"x": ["n", 3]}, ["z"], weights), tmp_path, low=0, high=1)
    report = verify(path, source)
    assert report.passed
    assert found(report, "relevance") == "zero everywhere, so that there was nothing to compare; give other --inputs"
    assert found(report, "logit") == "0 on all inputs"


# ---- the score -------------------------------------------------------------------------------------------------------


def scorer(classes: int = 3, head: str = "Softmax") -> onnx.ModelProto:
    rng = np.random.default_rng(6)
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "z"), node(head, "z", "p")]
    return model(nodes, {"x": ["n", 4]}, ["p"], {"w": eighths(rng, 4, 8), "v": eighths(rng, 8, classes)})


SCORES: list[dict[str, Any]] = [
    *({"target": target} for target in ("argmax", "input", "optional", 2)),
    *({"contrast": contrast, "target": target} for contrast in ("runner-up", "rest") for target in ("input", 1)),
    {"preset": "gradient", "target": "input", "contrast": "rest"},
]


@pytest.mark.parametrize("head", ["Softmax", "Sigmoid"])
@pytest.mark.parametrize("options", SCORES, ids=str)
def test_scores_are_what_the_logits_say(tmp_path: Path, head: str, options: dict[str, Any]) -> None:
    fixed = {**options, "target": 1} if options.get("target") == 2 and head == "Sigmoid" else options
    path, source = of(scorer(3 if head == "Softmax" else 1, head), tmp_path, **fixed)
    report = verify(path, source)
    assert report.passed, report.checks
    assert found(report, "score").startswith("what the logits say, ")


def always_the_first(e: Any, made: Any, request: Any) -> Any:
    return target_module.score(e, made, replace(request, target=0))


def from_the_best_of_all(e: Any, made: Any, request: Any) -> Any:
    scored = target_module.score(e, made, request)
    return replace(scored, total=e("ReduceMax", made.logits, axes=[1], keepdims=0))


@pytest.mark.parametrize(
    ("wrong", "options"),
    [
        (always_the_first, {}),
        (always_the_first, {"target": 1}),
        (from_the_best_of_all, {"target": "input"}),
        (from_the_best_of_all, {"target": 2}),
        (from_the_best_of_all, {"contrast": "rest", "preset": "gradient"}),
    ],
)
def test_a_wrong_score_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Any, options: dict[str, Any]) -> None:
    monkeypatch.setattr(addition_module, "score", wrong)
    path, source = of(scorer(), tmp_path, **options)
    assert failed(verify(path, source)) == {"score"}


def test_a_target_that_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arg-max is explained whatever one asks for, as some runtimes do where the input is optional."""
    deaf = lambda e, made, best, *rest: (best, chosen(e, made, best, *rest)[1])
    chosen = target_module._chosen
    monkeypatch.setattr(target_module, "_chosen", deaf)
    path, source = of(scorer(), tmp_path, target="input")
    assert failed(verify(path, source)) == {"score"}


@pytest.mark.parametrize("shape", [["n", 6], [5, "n"], ["m", 5], None])
def test_a_wrong_declaration_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: list[Any] | None) -> None:
    """Even where the runtime does not mind, or is not told anything."""

    def declared(tensor: Any) -> onnx.ValueInfoProto:
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        given = shape if tensor.name == "relevance" else list(tensor.shape)
        return onnx.helper.make_tensor_value_info(tensor.name, kind, given)

    monkeypatch.setattr(addition_module, "declared", declared)
    path, source = of(residual(), tmp_path)
    report = verify(path, source)
    assert failed(report) >= {"shapes"}
    assert "that of 'x' is declared" in found(report, "shapes")


def test_zeros_that_get_relevance_behind_a_relu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under flat they do: dividing by what the Relu gives is no shortcut there."""
    monkeypatch.setattr(rectified_module, "_keeps_zeros", lambda *_: True)
    path, source = of(residual(), tmp_path, preset="lrp-epsilon", settings=["t_node=flat"])
    assert failed(verify(path, source)) >= {"relevance"}


# ---- predictions -----------------------------------------------------------------------------------------------------


def quantised(tmp_path: Path) -> tuple[Path, Path]:
    """ONNX Runtime makes one product of integers out of both nodes, unless somebody else reads the weights."""
    nodes = [node("DequantizeLinear", "q s z", "w"), node("MatMul", "x w", "logits"), node("Softmax", "logits", "p", axis=1)]
    whole = np.random.default_rng(0).integers(0, 256, (256, 10)).astype(np.uint8)
    weights = {"q": whole, "s": np.float32(0.004), "z": np.uint8(128)}
    return of(model(nodes, {"x": ["n", 256]}, ["p"], weights), tmp_path)


def test_where_the_runtime_fuses_in_one_model_only(tmp_path: Path) -> None:
    path, source = quantised(tmp_path)
    np.save(tmp_path / "x.npy", np.random.default_rng(1).random((5, 256), np.float32) * 12)
    report = verify(path, source, tmp_path / "x.npy")
    assert report.passed, report.checks
    if any(check.name == "optimisations" for check in report.checks):  # it depends on the machine
        assert found(report, "optimisations").startswith("compared without those of ONNX Runtime")
        assert found(report, "prediction") == "that of the predictor alone on 5 inputs, exactly"


def test_of_many_nodes_none_are_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "MANY", 20)
    path, source = quantised(tmp_path)
    report = verify(path, source)
    assert report.passed, report.checks
    assert found(report, "optimisations").startswith("compared without those of ONNX Runtime, which take minutes for")
    assert found(report, "prediction") == "that of the predictor alone on 4 inputs, exactly"


class Slightly(Trial):
    """A predictor whose scores come from kernels that round otherwise."""

    by = 1e-6

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.plain = self

    def get_outputs(self) -> Any:
        return self.file.session.get_outputs()[:1]

    def run(self, names: Any, feeds: Any, options: Any = None) -> Any:
        (scores,) = self.file.session.run(names or ["p"], feeds)
        return [scores * np.float32(1 + self.by)]


@pytest.mark.parametrize(("by", "passes"), [(1e-2, True), (1e4, False)])
def test_a_confident_no_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: float, passes: bool) -> None:
    """A probability of 1e-6 to within 1e-8 is right; what counts is the logit, or the rounding of numbers up to 1."""
    nodes = [node("Gemm", "x w b", "z"), node("Sigmoid", "z", "p")]
    weights = {"w": eighths(RNG, 4, 1), "b": np.full(1, -14, np.float32)}
    path, source = of(model(nodes, {"x": ["n", 4]}, ["p"], weights), tmp_path, low=0, high=1)
    monkeypatch.setattr(verify_module, "Trial", Slightly)
    monkeypatch.setattr(Slightly, "by", by)
    assert ("prediction" not in failed(verify(path, source))) == passes


def test_scores_for_which_nothing_speaks(tmp_path: Path) -> None:
    """Without positive biases there is no second rule, and what z+ has no denominator for is lost, as the ledger says."""
    weights = {"w": eighths(np.random.default_rng(0), 4, 6), "v": -np.ones((6, 2), np.float32)}
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")]
    path, source = of(model(nodes, {"x": ["n", 4]}, ["y"], weights), tmp_path, preset="dtd-complete", ledger=True)
    report = verify(path, source)
    assert failed(report) == set()
    assert "dead" in found(report, "logit")


def test_a_node_of_another_name_is_told_with_the_one_that_it_had(source: Path, compiled: Path) -> None:
    def renamed(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].name = "other"

    report = verify(tampered(compiled, renamed), source)
    assert found(report, "predictor") == "differs in node 'other' in place of 'a_node'"
