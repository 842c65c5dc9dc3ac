"""Where numbers come from is told whole, of the bytes that there are, and the same twice but for the moment and the command."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import onnx
import onnxruntime
import pytest
from commands import MODELS, Ran, digits, linear, predict
from onnx.external_data_helper import convert_model_to_external_data
from terminal import run as run

import onnxdtd
from onnxdtd.data.texts import STDIN
from onnxdtd.errors import ModelError
from onnxdtd.study import provenance as module
from onnxdtd.study.provenance import digest, modelled, provenance, taken, typed


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_files_have_one_digest_in_their_order(tmp_path: Path) -> None:
    """That of all bytes one after the other, in constant memory; what cannot be read adds nothing."""
    first, second = tmp_path / "a", tmp_path / "b"
    whole = b"x" * (5 << 20)
    first.write_bytes(whole)
    second.write_bytes(b"y")
    tracemalloc.start()
    found = digest([first, second])
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert found == sha(whole + b"y") != digest([second, first])
    assert digest([first, tmp_path / "missing", tmp_path, second]) == digest([first, second])
    assert digest([STDIN, first]) is None
    assert taken([first, second], 7, "t") == {
        "files": 2,
        "names": [first.name, second.name],
        "sha256": digest([first, second]),
        "samples": 7,
        "tokenizer_sha256": "t",
    }


def test_a_model_has_its_digests(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = linear()
    onnx.save(model, path)
    own = sha(path.read_bytes())
    assert modelled(path) == {"name": "m.onnx", "source_sha256": own, "compiled_sha256": None}
    assert modelled(path, "other") == {"name": "m.onnx", "source_sha256": "other", "compiled_sha256": own}
    convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    onnx.save(model, path)
    assert modelled(path)["weights"] == {"w.bin": sha((tmp_path / "w.bin").read_bytes())}
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"w\.bin: external weights that cannot be read"):
        modelled(path)


def test_a_command_can_be_pasted() -> None:
    """As it was typed, quoted; a call from Python is told by its name."""
    arguments = ["explain", "a model.onnx", "--set", "conv*=gamma(gamma=0.1)", "it's", "--low", "-1"]
    with typed(arguments):
        told = module.run("onnxdtd.explain")
    assert shlex.split(told["command"]) == ["onnxdtd", *arguments]
    assert module.run("onnxdtd.explain")["command"] == "onnxdtd.explain"
    moment = datetime.fromisoformat(told["date"])
    assert moment.utcoffset() is not None
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60


def test_what_a_compiled_model_says_is_told() -> None:
    """As JSON has it, and nothing of it twice."""
    made = onnxdtd.compile(
        MODELS / "digits_cnn.onnx", preset="dtd", low=0.0, high=1.0, target=3, settings=["*linear_1=epsilon"], contrast=True
    )
    metadata = onnxdtd.Explainer(made).metadata
    told = provenance("here", [{"name": "m"}], metadata, "CPUExecutionProvider").as_data()
    assert json.loads(json.dumps(told)) == told
    assert told["version"] == onnxdtd.__version__
    assert (told["presets"], told["rules"]) == (["dtd"], {"dtd": metadata["rules"]})
    assert told["bounds"] == {"low": 0.0, "high": 1.0}
    assert told["settings"] == ["*linear_1=epsilon"]
    assert told["explained"].items() >= {"output": metadata["output"], "target": 3, "contrast": "runner-up"}.items()
    assert told["runtime"] == {"onnxruntime": onnxruntime.__version__, "provider": "CPUExecutionProvider"}
    assert told["data"] is None
    several = provenance("here", [], metadata, "cpu", rules={"dtd": {"a": "z+"}, "gradient": {}})
    assert (several.presets, several.rules) == (["dtd", "gradient"], {"dtd": {"a": "z+"}})


@pytest.mark.parametrize("command", ["evaluate", "audit"])
def test_pictures_come_with_the_explained_logit(
    command: str, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the predicted class, which the page needs to explain signs."""
    monkeypatch.chdir(tmp_path)
    model, line = linear(64, 10, "f = Flatten(x) y = MatMul(f, w)"), ["--preset", "gradient", "--samples", 3, "--workers", 1]
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8]))
    onnx.save(model, "m.onnx")
    found = run(command, "m.onnx", "--data", MODELS / "digits_samples.npz", *line, "--json").json
    logits = [shown["logits"] for shown in found["pictures"]["samples"]]
    (scores,) = predict(model, digits()[:3])
    assert [list(one) for one in logits] == [["m.onnx"]] * 3
    assert [one["m.onnx"] for one in logits] == pytest.approx(scores.max(axis=1).tolist(), rel=1e-5)


@pytest.mark.parametrize("command", ["evaluate", "audit"])
def test_results_tell_where_they_come_from(command: str, run: Callable[..., Ran]) -> None:
    """The whole record; what is not in ``run`` is the same twice, and the command is the one that ran."""
    model, data = MODELS / "digits_mlp.onnx", MODELS / "digits_samples.npz"
    line = [command, model, "--data", data, "--preset", "gradient", "--samples", 2, "--workers", 1, "--low", 0, "--high", 1]
    line += ["--json"]
    first, second = (run(*line).json for _ in range(2))
    moment = first["provenance"].pop("run")
    second["provenance"].pop("run")
    assert first == second
    assert moment["command"] == shlex.join(["onnxdtd", *map(str, line)])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", moment["date"])
    told = first["provenance"]
    assert told["models"] == [{"name": "digits_mlp.onnx", "source_sha256": sha(model.read_bytes()), "compiled_sha256": None}]
    assert told["data"] == {"files": 1, "names": [data.name], "sha256": sha(data.read_bytes()), "samples": 2}
    assert told["presets"] == ["gradient"]
    assert told["bounds"] == {"low": 0.0, "high": 1.0}
