"""What a compiled file has settled cannot be said otherwise; what it leaves open can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import model, node

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.data.preprocessing import DEFAULTS
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study.settled import settled


def facts(**options: Any) -> dict[str, Any]:
    """The metadata of a compiled file."""
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [node("Conv", "x k", "c"), node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "y")]
    proto = onnxdtd.compile(model(nodes, {"x": ["n", 3, 8, 8]}, ["y"], {"k": kernel}), **options)
    return read_metadata(proto)


PHOTO = {"range": [0, 1], "mean": [0.5, 0.4, 0.3], "std": 0.25, "colours": "bgr", "resize": 9}
LOW = [-2.0, -1.6, -1.2]


@pytest.mark.parametrize(
    "request_",
    [
        Request(),
        Request(preprocessing=PHOTO),
        Request(preprocessing={"resize": 9}),
        Request(low=LOW, high=[2.0, 2.4, 2.8]),
        Request(preprocessing={"mean": [0.5, 0.4, 0.3], "std": 0.25}),
        Request(preset="lrp-epsilon", settings=("c*=z+",), output="y", explain=("x",)),
    ],
    ids=str,
)
def test_what_the_file_says_may_be_said_again(request_: Request) -> None:
    have = facts(preset="lrp-epsilon", settings=["c*=z+"], preprocessing=PHOTO)
    assert settled(have, request_, "x") == have


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(preset="lrp-0"), "--preset cannot be changed"),
        (Request(settings=("*=z",)), "--set cannot"),
        (Request(contrast=True), "--contrast cannot"),
        (Request(output="c"), "--output cannot"),
        (Request(keep=("c",)), "--keep cannot"),
        (Request(allow={"Foo": "pass"}), "--allow cannot"),
        (Request(ledger=True), "--ledger cannot"),
        (Request(explain=("z",)), "--explain cannot"),
        (Request(low=0.0, high=1.0), r"its bounds of 'x' are \[-2.0, .*not 0.0 and 1.0"),
        (Request(low=LOW, high=[2.0, 2.4, 2.9]), "its bounds of 'x'"),
        (Request(preprocessing={"range": [0, 255]}), "its bounds of 'x'"),
        (Request(preprocessing={"resize": 10}), "its preprocessing has resize 9, not 10"),
        (Request(preprocessing={"crop": "none"}), "its preprocessing has crop by default, not none"),
    ],
    ids=str,
)
def test_contradictions(request_: Request, words: str) -> None:
    with pytest.raises(RequestError, match=f"is compiled already: {words}.*compile the source model again"):
        settled(facts(preprocessing=PHOTO), request_, "x")


def test_colours_contradict_too() -> None:
    plain = {key: value for key, value in PHOTO.items() if key != "colours"}
    with pytest.raises(RequestError, match="its preprocessing has colours rgb, not bgr"):
        settled(facts(preprocessing=plain), Request(preprocessing={"colours": "bgr"}), "x")


def test_what_the_file_leaves_open() -> None:
    """Bounds where it has none, and how pictures are read where it says nothing of that."""
    found = settled(facts(), Request(low=0.0, high=[1.0, 2.0, 3.0], preprocessing={"colours": "bgr"}), "x")
    assert found["bounds"] == {"x": {"low": 0.0, "high": [1.0, 2.0, 3.0]}}
    assert found["preprocessing"] == {**DEFAULTS, "colours": "bgr"}
    found = settled(facts(low=-1, high=1), Request(preprocessing={"range": (-1, 1), "crop": "none"}), "x")
    assert found["bounds"] == {"low": -1.0, "high": 1.0}
    assert found["preprocessing"] == {**DEFAULTS, "range": [-1.0, 1.0], "crop": "none"}


def test_files_of_an_older_version_are_read() -> None:
    """They have neither channels nor preprocessing nor a list of explained inputs."""
    old = facts(low=LOW, high=3.0)
    for key in ("channels", "preprocessing", "explain"):
        del old[key]
    assert settled(old, Request(low=LOW, high=3.0, explain=("x",)), "x") == old
    with pytest.raises(RequestError, match="its bounds"):
        settled(old, Request(low=0.0, high=1.0), "x")
