"""What is asked for: one field is one option, whoever asks."""

from __future__ import annotations

import inspect
import json
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer.main
from nets import eighths, model, node

import onnxdtd
from onnxdtd.cli import commands
from onnxdtd.cli.options import PARAMETERS
from onnxdtd.compiler.record import told_request
from onnxdtd.contract import read_metadata
from onnxdtd.data.preprocessing import DEFAULTS
from onnxdtd.errors import RequestError
from onnxdtd.labels import Index
from onnxdtd.request import PICTURES, Option, Request

NAMES = [entry.name for entry in fields(Request)]
FULL = Request(
    preset="dtd",
    settings=["h_node=z+", "*=epsilon"],
    low={"x": np.asarray([0.0, -1.0], np.float32)},
    high={"x": (1, np.float64(2.5))},
    preprocessing={"range": (-1, 1), "std": np.asarray([1.0, 2.0])},
    target=Index(3),
    position=(1, 2),
    contrast="rest",
    reference=0.5,
    output="y",
    keep=("h",),
    mask=("h",),
    baseline={"x": "mean"},
    allow={"Foo": "pass"},
    ledger=True,
    most_steps=64,
    apart=True,
    on_demand="optional",
    portable=True,
    explain=["x"],
    from_=["h"],
    fitted="models.npz",
    labels=["é", "b"],
)


def source() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")]
    rng = np.random.default_rng(3)
    return model(nodes, {"x": ["n", 4]}, ["y"], {"w": eighths(rng, 4, 5), "v": eighths(rng, 5, 3)})


# ------------------------------------------------------------------------------------------------------------- as plain data


@pytest.mark.parametrize("request_", [Request(), FULL], ids=["plain", "full"])
def test_there_and_back_through_json(request_: Request) -> None:
    found = Request.from_data(json.loads(json.dumps(request_.as_data())))
    assert found == request_
    assert type(found.target) is type(request_.target)  # an index is no label
    assert list(request_.as_data()) == NAMES


def test_the_full_request_differs_from_the_default_in_every_field() -> None:
    """Or the test above would not see a field that gets lost."""
    assert not [name for name in NAMES if FULL.as_data()[name] == Request().as_data()[name]]


def test_what_is_given_becomes_plain_data() -> None:
    assert FULL.low == {"x": [0.0, -1.0]}
    assert FULL.high == {"x": [1, 2.5]}
    assert FULL.preprocessing == {"range": [-1, 1], "std": [1.0, 2.0]}
    assert FULL.settings == ("h_node=z+", "*=epsilon")
    given: dict[str, Any] = {"preset": Path("a/b.toml"), "keep": "one", "contrast": True, "target": np.int64(4), "allow": {}}
    found = Request(**given)
    assert (found.preset, found.keep, found.contrast, found.allow) == (str(Path("a/b.toml")), ("one",), "runner-up", None)
    assert type(found.target) is int
    assert replace(FULL, ledger=False).as_data() == FULL.as_data() | {"ledger": False}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": True}, "target True: give 'argmax'"),
        ({"target": 1.5}, "target 1.5: give 'argmax'"),
        ({"contrast": "best"}, "contrast 'best': give one of runner-up, rest"),
        ({"allow": {"Foo": "stop"}}, "--allow Foo=stop: write OP=pass"),
        ({"allow": {"": "pass"}}, "--allow =pass: write OP=pass"),
    ],
)
def test_what_no_model_could_be_asked_for(given: dict[str, Any], message: str) -> None:
    for ask in (lambda: Request(**given), lambda: onnxdtd.compile(source(), **given)):
        with pytest.raises(RequestError, match=message):
            ask()


def test_fields_have_names() -> None:
    with pytest.raises(TypeError):
        Request("dtd")  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        Request().ledger = True  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------------------- from Python


def test_compile_takes_the_fields() -> None:
    signature = inspect.signature(onnxdtd.compile)
    assert sorted(signature.parameters) == sorted(["model", *NAMES])
    for entry in fields(Request):
        parameter = signature.parameters[entry.name]
        assert parameter.default == entry.default
        assert parameter.kind == (parameter.POSITIONAL_OR_KEYWORD if entry.name == "preset" else parameter.KEYWORD_ONLY)
        assert f"\n        {entry.name}: " in (onnxdtd.compile.__doc__ or "")
        assert entry.metadata["said"]
    assert "options:" not in (onnxdtd.compile.__doc__ or "")


def test_an_unknown_option_names_those_like_it() -> None:
    with pytest.raises(TypeError, match="there is no option 'contrasts'; did you mean 'contrast'"):
        onnxdtd.compile(source(), contrasts=True)


# ------------------------------------------------------------------------------------------------------ from the command line


def test_the_command_line_takes_the_fields() -> None:
    """A preprocessing by its keys."""
    assert sorted(PARAMETERS) == sorted(key for name in NAMES for key in (PICTURES if name == "preprocessing" else [name]))
    assert list(PICTURES) == list(DEFAULTS)
    shown = {option.name: option for option in typer.main.get_command(commands.app).commands["compile"].params}
    for entry in fields(Request):
        spelled = entry.metadata["option"]
        for name, option in spelled.items() if entry.name == "preprocessing" else [(entry.name, spelled)]:
            assert isinstance(option, Option)
            assert (shown[name].opts, shown[name].help) == ([option.flag], option.help)


# ------------------------------------------------------------------------------------------------------------- from a file


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": "dtd", "low": 0.0, "high": [1.0, 2.0, 3.0, 4.0], "keep": ["r", "h"], "ledger": True},
        {"settings": ["h_node=flat"], "target": Index(2), "contrast": "rest", "labels": ["a", "b", "c"], "explain": "x"},
        {"target": "input", "output": "y", "low": {"x": 0.0}, "high": {"x": 1.0}},
    ],
    ids=["plain", "kept", "fixed", "told"],
)
def test_a_file_tells_what_was_asked(options: dict[str, Any]) -> None:
    """All but what is as by default, which the file says as it turned out."""
    compiled = onnxdtd.compile(source(), **options)
    found = Request.from_data(told_request(read_metadata(compiled), {"x"}))
    turned_out = {"preset": found.preset, "output": "y", "target": found.target, "allow": None}
    assert found == Request.from_data(turned_out | options)
    again = onnxdtd.compile(source(), **{name: getattr(found, name) for name in NAMES})
    assert again.SerializeToString(deterministic=True) == compiled.SerializeToString(deterministic=True)
