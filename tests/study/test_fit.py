"""`onnxdtd fit`: from a model and samples to a file of relevance models, and from there into a compiled file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import model, node
from typer.testing import CliRunner

import onnxdtd
from onnxdtd import bounded
from onnxdtd.cli.commands import app
from onnxdtd.compiler.compile import prepare
from onnxdtd.compiler.fitted import read, write
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study.audit.audit import audit
from onnxdtd.study.fit import fit
from onnxdtd.study.subject import asked

RNG = np.random.default_rng(4)
BOUNDS = {"low": 0.0, "high": 1.0}
BODY = [
    node("Conv", "x k b", "z", pads=[1, 1, 1, 1]),
    node("Relu", "z", "h"),
    node("MaxPool", "h", "p", kernel_shape=[2, 2], strides=[2, 2]),
    node("Conv", "p k2", "q", pads=[0, 0, 1, 1]),
    node("Relu", "q", "r"),
    node("Flatten", "r", "f"),
    node("MatMul", "f top", "y"),
]
TWO = """
[preset.two]
layers = [
  { name = "z_node", rule = "zB", fit = "min-max" },
  { name = "q_node", rule = "z+", fit = "min-max scaled" },
  { rule = "z+" },
]
"""


def net() -> onnx.ModelProto:
    normal = lambda *shape: RNG.normal(0, 0.5, shape).astype(np.float32)
    weights = {"k": normal(3, 1, 3, 3), "b": -np.abs(normal(3)), "k2": normal(4, 3, 2, 2), "top": np.abs(normal(16, 2))}
    return model(BODY, {"x": ["n", 1, 4, 4]}, ["y"], weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, another one, samples, and relevance models that were fitted to them."""
    where = tmp_path_factory.mktemp("fit")
    onnx.save(net(), where / "net.onnx")
    onnx.save(net(), where / "other.onnx")
    np.savez(where / "data.npz", x=RNG.random((120, 1, 4, 4), np.float32))
    (where / "two.toml").write_text(TWO)
    fit(where / "net.onnx", where / "data.npz", Request(**BOUNDS), out=where / "fit.npz")
    return where


def balance(compiled: onnx.ModelProto, folder: Path) -> float:
    """Σ (R̂ − R) / Σ R at the first layer, of the samples that were held out."""
    held_out = np.random.default_rng(0).permutation(120) % 5 == 0
    ledger = onnxdtd.Explainer(compiled)(np.load(folder / "data.npz")["x"][held_out]).ledger
    assert ledger is not None
    place = ledger.steps.index("z_node")
    return float(-ledger["misfit"][:, place].sum() / ledger["in"][:, place].sum())


def test_it_tells_relevance_and_says_how_well(folder: Path) -> None:
    fitted = read(folder / "fit.npz")
    layer = fitted.said["layers"]["z_node"]
    assert layer["training"]["r2"] > 0.95
    assert layer["held_out"]["r2"] > 0.9
    assert layer["held_out"]["error"] < 0.1
    assert fitted.models["z_node"].v.shape == (12, 1, 4, 4)


def test_the_compiled_file_tells_the_same(folder: Path) -> None:
    """Σ (R̂ − R) as it was measured in numpy; and the file says what it was."""
    compiled = onnxdtd.compile(folder / "net.onnx", "dtd-minmax", fitted=folder / "fit.npz", ledger=True, **BOUNDS)
    run = onnxdtd.Explainer(compiled)
    told, fitted = run.metadata["models"], read(folder / "fit.npz")
    assert told["layers"] == fitted.said["layers"]
    assert told["sha256"] == fitted.sha256
    assert balance(compiled, folder) == pytest.approx(told["layers"]["z_node"]["held_out"]["balance"], abs=1e-5)


def test_the_same_seed_gives_the_same_file(folder: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(folder / "net.onnx", folder / "data.npz", Request(**BOUNDS), out=folder / f"{name}.npz", epochs=2, seed=seed)
    a, b, c = ((folder / f"{name}.npz").read_bytes() for name in "abc")
    assert a == b != c


def test_verify_takes_it(folder: Path) -> None:
    """Also where the file of relevance models has moved."""
    compiled = onnxdtd.compile(folder / "net.onnx", "dtd-minmax", fitted=folder / "fit.npz", **BOUNDS)
    onnx.save(compiled, folder / "compiled.onnx")
    assert onnxdtd.verify(folder / "compiled.onnx", folder / "net.onnx").passed
    moved = folder / "moved.npz"
    moved.write_bytes((folder / "fit.npz").read_bytes())
    onnx.save(onnxdtd.compile(folder / "net.onnx", "dtd-minmax", fitted=moved, **BOUNDS), folder / "compiled.onnx")
    moved.unlink()
    assert not onnxdtd.verify(folder / "compiled.onnx").passed
    assert onnxdtd.verify(folder / "compiled.onnx", fitted=folder / "fit.npz").passed


def test_the_upper_ones_are_fitted_first(folder: Path) -> None:
    """What the lower one tells is what the upper one hands down."""
    request = Request(preset=str(folder / "two.toml"), **BOUNDS)
    said = fit(folder / "net.onnx", folder / "data.npz", request, out=folder / "two.npz", units=2)
    assert list(said["layers"]) == ["q_node", "z_node"]
    assert all(layer["held_out"]["r2"] > 0.7 for layer in said["layers"].values())
    compiled = onnxdtd.compile(folder / "net.onnx", request.preset, fitted=folder / "two.npz", ledger=True, **BOUNDS)
    assert balance(compiled, folder) == pytest.approx(said["layers"]["z_node"]["held_out"]["balance"], abs=1e-5)


def refused(folder: Path, name: str = "net.onnx", preset: Any = "dtd-minmax", **options: Any) -> str:
    with pytest.raises(RequestError) as raised:
        onnxdtd.compile(folder / name, preset, **{**BOUNDS, "fitted": folder / "fit.npz", **options})
    return str(raised.value)


def test_no_samples_are_not_all(folder: Path) -> None:
    with pytest.raises(RequestError, match="--samples 0: give at least 1"):
        fit(folder / "net.onnx", folder / "data.npz", Request(**BOUNDS), out=folder / "none.npz", samples=0)


def test_a_file_that_is_made_to_fill_the_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(folder / "fit.npz") as file:
        np.savez_compressed(folder / "bomb.npz", **file, zeros=np.zeros(2**20))
    assert read(folder / "bomb.npz").models
    monkeypatch.setattr(bounded, "LARGE", 2**20)
    with pytest.raises(RequestError, match="is no file that"):
        read(folder / "bomb.npz")
    assert read(folder / "fit.npz").models


def test_what_does_not_fit_is_refused_with_the_command(folder: Path) -> None:
    command = "`onnxdtd fit MODEL --preset dtd-minmax --data DATA -o FILE.npz`"
    found = refused(folder, fitted=None)
    assert found == (
        f"the preset dtd-minmax asks for a relevance model of 'z_node': run {command}, then give the file as --fitted FILE.npz"
    )
    anew = f"; fit anew with {command} and the options given here"
    assert refused(folder, "other.onnx").endswith(f"its relevance models were fitted to another model{anew}")
    found = refused(folder, settings=["q_node=w2"])
    assert found.endswith(f"was fitted where the rule of 'q_node' was z+, and not w2{anew}")
    assert refused(folder, contrast="rest").endswith(f"was fitted where the contrast was None, and not 'rest'{anew}")
    assert "the rule of 'q_node' was z+, and not z+, min-max scaled" in refused(folder, preset=folder / "two.toml")
    assert refused(folder, fitted=folder / "data.npz").endswith("data.npz: is no file that `onnxdtd fit` has written")
    assert "none.npz: cannot be read" in refused(folder, fitted=folder / "none.npz")
    fitted = read(folder / "fit.npz")
    made = fitted.models["z_node"]
    for wrong in (replace(made, units=3), replace(made, v=made.v * np.float32(np.nan)), replace(made, above=())):
        said = {
            **fitted.said,
            "layers": {"z_node": {**fitted.said["layers"]["z_node"], "above": len(wrong.above), "units": wrong.units}},
        }
        write(folder / "wrong.npz", replace(fitted, models={"z_node": wrong}, said=said))
        assert "its relevance model of 'z_node' does not fit this layer" in refused(folder, fitted=folder / "wrong.npz")


def test_what_is_not_needed_is_said(folder: Path) -> None:
    job = prepare(folder / "net.onnx", Request(preset="dtd", fitted=folder / "fit.npz", **BOUNDS))
    assert any("asks for no relevance models" in note for note in job.plan.notes)
    job = prepare(folder / "net.onnx", Request(preset="dtd-minmax", fitted=folder / "fit.npz", target=1, **BOUNDS))
    assert any("fitted with --target argmax: for others they may be off" in note for note in job.plan.notes)


def test_what_cannot_be_fitted_is_refused(folder: Path) -> None:
    for options, message in (
        ({"request": Request(preset="dtd")}, "the preset dtd asks for no relevance models; dtd-minmax does"),
        ({"request": Request(target="input")}, "--target input: relevance models are fitted to the arg-max, or to one class"),
        ({"samples": 4}, "has 4 samples of one size; relevance models are fitted to 10 at least"),
        ({"units": 0}, "--units 0: give at least 1"),
    ):
        with pytest.raises(RequestError, match=message):
            fit(folder / "net.onnx", folder / "data.npz", **{"out": folder / "not.npz", **options})
    assert not (folder / "not.npz").exists()


def test_an_audit_leaves_out_what_was_fitted_to_the_weights(folder: Path) -> None:
    """Randomised, the relevance models would be those of another network."""
    request = Request(fitted=folder / "fit.npz", **BOUNDS)
    (entry,) = audit(folder / "net.onnx", folder / "data.npz", request, presets=["dtd-minmax"], samples=2, neurons=2)["presets"]
    assert entry["left_out"]["randomised"].startswith("its relevance models were fitted to the weights as they are")
    assert entry["left_out"]["convergence"].startswith("its relevance models give relevance of their own")
    assert entry["cascading"] == entry["independent"] == entry["convergence"] == []
    assert {row["layer"] for row in entry["roots"]} <= {"q_node", "y_node"}


def test_what_is_measured_depends_on_what_is_in_the_file(folder: Path) -> None:
    assert read(folder / "fit.npz").sha256 in asked(Request(fitted=folder / "fit.npz"), ["dtd-minmax"])


def test_the_command(folder: Path) -> None:
    words = ["fit", str(folder / "net.onnx"), "--data", str(folder / "data.npz"), "--low", "0", "--high", "1", "--epochs", "2"]
    found = CliRunner().invoke(app, [*words, "-o", str(folder / "cli.npz")])
    assert found.exit_code == 0, found.output
    assert "z_node" in found.output
    assert "held out" in found.output
    found = CliRunner().invoke(app, [*words, "-o", str(folder / "cli.npz"), "--json"])
    assert json.loads(found.stdout)["layers"]["z_node"]["epochs"] == 2
