"""What verify must notice: a compiler that is wrong, a file that is wrong, another version."""

from __future__ import annotations

from collections.abc import Callable
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
    last,
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
from onnxdtd.compiler import residual as residual_module
from onnxdtd.compiler import steps as steps_module
from onnxdtd.compiler import walk as walk_module
from onnxdtd.method import propagate as rules_module
from onnxdtd.study.verify import verify

DATA = Path(__file__).parent


# ---- a compiler that is wrong, the same way each time ----------------------------------------------------------------


def test_shortcuts_give_what_the_rules_give(tmp_path: Path) -> None:
    path, source = of(residual(), tmp_path, preset="dtd")
    report = verify(path, source)
    assert report.passed, report.checks
    assert "what the rules give without shortcuts" in found(report, "relevance")
    assert [step["in"] for step in report.steps][-1] > 0.5, "much of the logit arrives"
    assert [n.op_type for n in onnx.load(path).graph.node if "a" in n.input] == ["Add"], "the shortcut has been taken"


SHARED_OUT, WALK = residual_module.shared_out, walk_module.walk


def half_of_the_skip(*args: Any) -> Any:
    (skip, mine), other = SHARED_OUT(*args)
    return [(skip, args[3]("Mul", mine, 0.5)), other]


def from_skip_to_branch(*args: Any) -> Any:
    e, ((skip, mine), (branch, other)) = args[3], SHARED_OUT(*args)
    moved = e("Mul", mine, 0.25)  # what comes in goes out, only elsewhere
    return [(skip, e("Sub", mine, moved)), (branch, e("Add", other, moved))]


def twice(e: Any, *args: Any) -> Any:
    return {name: e.add(r, r) for name, r in WALK(e, *args).items()}


def flattened(e: Any, *args: Any) -> Any:
    return {name: e("Reshape", r, [1, -1, 1]) for name, r in WALK(e, *args).items()}


def mean_of_the_batch(e: Any, *args: Any) -> Any:
    return {name: e("Expand", e("ReduceMean", r, axes=[0]), e("Shape", r)) for name, r in WALK(e, *args).items()}


def more_at_one_layer(e: Any, layer: Any, rule: Any, *args: Any) -> Any:
    found = rules_module.propagate(e, layer, rule, *args)
    return [e("Mul", share, 1.5) for share in found] if layer.y.name == "z" else found


WRONG: list[tuple[Any, str, Any, set[str]]] = [
    (residual_module, "shared_out", half_of_the_skip, {"relevance", "sum"}),
    (residual_module, "shared_out", from_skip_to_branch, {"relevance"}),
    (addition_module, "walk", twice, {"sum"}),
    (addition_module, "walk", flattened, {"shapes"}),
    (addition_module, "walk", mean_of_the_batch, {"samples"}),
    (addition_module, "is_float", lambda dtype: False, {"shapes"}),
    (steps_module, "propagate", more_at_one_layer, {"balance"}),
]


@pytest.mark.parametrize(("module", "name", "wrong", "names"), WRONG, ids=[f"{i}" for i in range(len(WRONG))])
def test_a_wrong_compiler_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, wrong: Any, names: set[str]
) -> None:
    """Compiled anew it makes the same mistake, so that no byte differs; what comes out tells."""
    monkeypatch.setattr(module, name, wrong)
    path, source = of(residual(np.float16 if name == "is_float" else np.float32), tmp_path, preset="dtd")
    for given in (source, None):
        report = verify(path, given)
        assert found(report, "compiled anew") == "gives the same bytes"
        assert failed(report) == names, report.checks
        assert name != "propagate" or "most off in z_node" in found(report, "balance")


# ---- a file that is wrong --------------------------------------------------------------------------------------------


def two_inputs(tmp_path: Path) -> tuple[Path, Path]:
    nodes = [node("Sub", "a b", "c"), node("MatMul", "c w", "y")]
    proto = model(nodes, {"a": ["n", 4], "b": ["n", 4]}, ["y"], {"w": eighths(RNG, 4, 3)})
    return of(proto, tmp_path, preset="lrp-0")


def doubled(proto: onnx.ModelProto) -> None:
    result = last(proto, "relevance/a")
    result.op_type = "Add"
    result.input.append(result.input[0])


def exchanged(proto: onnx.ModelProto) -> None:
    a, b = (last(proto, f"relevance/{name}") for name in "ab")
    a.output[0], b.output[0] = b.output[0], a.output[0]


def dropped(proto: onnx.ModelProto) -> None:
    result = last(proto, "relevance/b")
    result.op_type = "Sub"
    result.input.append(result.input[0])


def transposed(proto: onnx.ModelProto) -> None:
    """As if every sample were a feature: only a batch shows it."""
    last(proto, "relevance/a").op_type = "Transpose"


def of_another_type(proto: onnx.ModelProto) -> None:
    result = last(proto, "relevance/a")
    result.op_type = "Cast"
    result.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.DOUBLE))
    declared = next(v for v in proto.graph.output if v.name == "relevance/a")
    declared.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def scaled_logit(proto: onnx.ModelProto) -> None:
    result = last(proto, "logit")
    result.op_type = "Add"
    result.input.append(result.input[0])


def logit_as_column(proto: onnx.ModelProto) -> None:
    result = last(proto, "logit")
    result.op_type = "Unsqueeze"
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray([1]), "dtd/one"))
    result.input.append("dtd/one")
    del next(v for v in proto.graph.output if v.name == "logit").type.tensor_type.shape.dim[:]
    next(v for v in proto.graph.output if v.name == "logit").type.tensor_type.ClearField("shape")


ATTACKS = [
    (scaled_logit, {"score"}),
    (logit_as_column, {"score"}),
    (doubled, {"relevance", "sum"}),
    (exchanged, {"relevance"}),
    (dropped, {"relevance", "sum"}),
    (transposed, {"shapes"}),
    (of_another_type, {"shapes"}),
]


@pytest.mark.parametrize(("change", "seen"), ATTACKS, ids=[change.__name__ for change, _ in ATTACKS])
def test_what_a_file_gives_is_looked_at_too(tmp_path: Path, change: Callable[[onnx.ModelProto], None], seen: set[str]) -> None:
    """Not only the nodes are compared: what relevance they give gives them away as well."""
    path, source = two_inputs(tmp_path)
    assert verify(path, source).passed
    tampered(path, change)
    for given in (source, None):
        assert failed(verify(path, given)) == {"relevance pass", "compiled anew"} | seen


# ---- another version -------------------------------------------------------------------------------------------------


def test_another_version_with_the_same_relevance_pass(source: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxdtd, "__version__", "99.1")
    for given in (source, None):
        report = verify(compiled, given)
        assert report.passed, report.checks
        assert found(report, "version").endswith("this is 99.1, which compiles the same relevance pass")


@pytest.mark.parametrize("change", [constant, rule_in_the_graph, entry("rules", {"a_node": "z+"}), entry("preset", "lrp-0")])
def test_another_version_with_another_relevance_pass(
    source: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[onnx.ModelProto], None]
) -> None:
    """It may have had other rules, so nothing but the version can be said to fail; but verified it is not."""
    tampered(compiled, change)
    monkeypatch.setattr(onnxdtd, "__version__", "99.1")
    for given in (source, None):
        report = verify(compiled, given)
        firm = {"positive", "score"}  # what z+ promises and what the logits say, in any version
        assert {"version"} <= failed(report) <= {"version"} | firm, report.checks
        assert "verify with onnxdtd " in found(report, "version")
        words = "NOT VERIFIED: another version compiled it" if failed(report) == {"version"} else "FAILED: version, "
        assert report.verdict.startswith(words)
    command = ["verify", str(compiled), "--source", str(source)]
    assert CliRunner().invoke(app, command).exit_code == 1


@pytest.mark.parametrize("change", [weight, swapped, entry("predictor", {"node": "many"}), entry("settings", ["no=rule"])])
def test_another_version_with_another_predictor(
    source: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[onnx.ModelProto], None]
) -> None:
    tampered(compiled, change)
    monkeypatch.setattr(onnxdtd, "__version__", "99.1")
    for given in (source, None):
        assert not verify(compiled, given).passed


@pytest.mark.parametrize("name", ["net.dtd.0.1.0.onnx"])
def test_files_of_older_versions(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be checked of them is right; more is said only where this version compiles the same."""
    monkeypatch.setattr(onnxdtd, "__version__", "99.1")
    path, source = tmp_path / name, DATA / "net.onnx"
    path.write_bytes((DATA / name).read_bytes())
    for given in (source, None):
        report = verify(path, given)
        assert failed(report) <= {"version"}, report.checks
        assert "compiled by onnxdtd 0.1.0, this is 99.1, which" in found(report, "version")
        for check in ("digest", "prediction", "shapes", "finite", "samples", "balance"):
            assert (check, True) in [(c.name, c.passed) for c in report.checks]
        assert "what the rules give without shortcuts" in found(report, "relevance")
    assert "digest" in failed(verify(tampered(path, weight)))
