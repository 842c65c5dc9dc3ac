"""The same compiled files in Node.js, in a browser and in further runtimes: relevance as in ONNX Runtime, on demand or always,
of the class that is asked for.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import engines as E  # noqa: N812
import numpy as np
import pytest
import runtimes as R  # noqa: N812
from nets import model, node
from onnx import ModelProto

import onnxdtd

GUIDE = Path(onnxdtd.__file__).parent / "GUIDE.md"
NEAR = 1e-5  # of the largest relevance of a sample


def attending(width: int = 8) -> ModelProto:
    """A vision transformer in small: patches of pixels, a block with one head, the mean of the tokens."""
    rng = np.random.default_rng(0)
    shapes = {"filters": (width, 3, 4, 4), "places": (1, 4, width), "head": (width, 3)}
    shapes |= dict.fromkeys(("wq", "wk", "wv", "wo", "up", "down"), (width, width))
    weights = {name: rng.normal(size=shape).astype(np.float32) / np.float32(2) for name, shape in shapes.items()}
    numbers = {"root": width**-0.5, "two": 2**-0.5, "one": 1, "half": 0.5}
    weights |= {"gain": np.ones(width, np.float32), "flat": np.int64([0, width, -1])}
    weights |= {name: np.float32(number) for name, number in numbers.items()}
    nodes = [
        node("Conv", "x filters", "c", strides=[4, 4]),
        node("Reshape", "c flat", "r"),
        node("Transpose", "r", "patches", perm=[0, 2, 1]),
        node("Add", "patches places", "e"),
        node("LayerNormalization", "e gain", "n"),
        *(node("MatMul", f"n w{name}", name) for name in "qkv"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "s"),
        node("Mul", "s root", "z"),
        node("Softmax", "z", "p", axis=-1),
        node("MatMul", "p v", "pv"),
        node("MatMul", "pv wo", "o"),
        node("Add", "o e", "e2"),
        node("LayerNormalization", "e2 gain", "n2"),
        node("MatMul", "n2 up", "u"),
        node("Mul", "u two", "u2"),
        node("Erf", "u2", "erf"),
        node("Add", "erf one", "erf1"),
        node("Mul", "u half", "uh"),
        node("Mul", "uh erf1", "a"),
        node("MatMul", "a down", "d"),
        node("Add", "d e2", "e3"),
        node("ReduceMean", "e3", "m", axes=[1], keepdims=0),
        node("MatMul", "m head", "y"),
    ]
    return model(nodes, {"x": ["n", 3, 8, 8]}, ["y"], weights)


@pytest.fixture(scope="module")
def jobs() -> list[E.Job]:
    """Compiled files of a convolutional network, a transformer of pictures, one of texts, and a table, with inputs: flat, on
    demand, and of a class that is asked for.
    """
    known = {case.name: case for case in R.cases() if case.name in ("digits_cnn", "tumours", "definitions")}
    pictures = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    known["vit"] = R.Case("vit", attending(), "x", pictures, None, None, False, 0)
    made = []
    for name, case in known.items():
        preset = case.files[0][0]
        for form in R.FORMS if name == "digits_cnn" else ("target", "on demand"):
            compiled = onnxdtd.compile(case.model, preset, low=case.low, high=case.high, **R.FORMS[form])
            made.append(E.Job(compiled, case.feeds(case.samples, form), "relevance"))
    return made


@pytest.fixture(scope="module")
def expected(jobs: list[E.Job]) -> list[E.Done]:
    """By ONNX Runtime on the CPU."""
    found = E.alone(E.runtimes(0)["ORT all"])(jobs)
    assert all(done.outputs and np.abs(done.outputs[0]).max() > 0 for done in found)
    return found


def check(engine: E.Engine, jobs: list[E.Job], expected: list[E.Done]) -> None:
    """Each run of each file, sample by sample; what was not asked for is not there."""
    found = engine(jobs)
    assert [done.error for done in found] == [""] * len(jobs)
    for job, done, right in zip(jobs, found, expected, strict=True):
        for feeds, one, other in zip(job.feeds, done.outputs, right.outputs, strict=True):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            assert (len(one) == 0) == (not feeds.get("explain", True))
            assert max(R.difference(one, other), default=0) <= NEAR


@pytest.mark.parametrize(("package", "threads"), [("onnxruntime-node", 1), ("onnxruntime-web", 1), ("onnxruntime-web", 2)])
def test_in_node(node_modules, package, threads, jobs, expected):
    check(E.outside("node.mjs", package, str(threads)), jobs, expected)


def test_in_a_browser(node_modules, chromium, jobs, expected):
    """Two threads, which take a page that is isolated."""
    check(E.outside("browser.mjs", chromium, "wasm 2"), jobs, expected)


def test_on_webgpu(node_modules, chromium):
    """On an adapter made of software, for which a few operators are enough to do; pooling where the file is portable."""
    known = {case.name: case for case in R.cases()}
    jobs = [
        E.Job(onnxdtd.compile(case.model, "dtd", low=0, high=1, **options), case.feeds(case.samples), "relevance")
        for case, options in ((known["digits_mlp"], {}), (known["digits_cnn"], {"portable": True}))
    ]
    check(E.outside("browser.mjs", chromium, "webgpu"), jobs, E.alone(E.runtimes(0)["ORT all"])(jobs))


@pytest.mark.parametrize("name", ["ORT .ort", "reference", "OpenVINO"])
def test_in_python(name, jobs, expected):
    if name == "OpenVINO" and not importlib.util.find_spec("openvino"):
        pytest.skip("openvino is not installed: pip install -e '.[runtimes]'")
    some = [i for i, job in enumerate(jobs) if name != "OpenVINO" or not any(made.domain for made in job.model.graph.node)]
    check(E.alone(E.runtimes(0)[name]), [jobs[i] for i in some], [expected[i] for i in some])


@pytest.mark.parametrize("package", ["onnxruntime-node", "onnxruntime-web"])
def test_the_code_of_the_guide(node_modules, tmp_path, package):
    """It prints Python's numbers, of the class that it asks for."""
    (code,) = re.findall(r"^```javascript\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "explain.mjs").write_text(code.replace("onnxruntime-node", package), encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(node_modules)
    compiled = onnxdtd.compile(R.MODELS / "digits_cnn.onnx", low=0, high=1, target="input", on_demand="required")
    onnxdtd.save(compiled, tmp_path / "everywhere.onnx")
    asked = ["node", "--liftoff-only", "explain.mjs"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(done.stdout)
    image = np.full((1, 1, 8, 8), 0.5, np.float32)
    right = onnxdtd.Explainer(compiled)(image, target=7)
    assert said["dims"] == [1, 1, 8, 8]
    np.testing.assert_allclose(said["scores"], right.outputs["logits"][0], rtol=1e-5, atol=1e-5)
    relevance = np.reshape(said["relevance"], image.shape)
    assert max(R.difference(relevance, right.relevance["image"].astype(np.float64))) <= NEAR
