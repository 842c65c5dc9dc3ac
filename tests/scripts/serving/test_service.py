"""What a service does with a request: the file's own numbers, a sentence for what cannot be served, none pays for others."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import load
import numpy as np
import onnx
import pytest
import service
from commands import linear, model, rgb
from onnx import numpy_helper
from PIL import Image
from service import JSON, NPY, NPZ, Limits, Refused, Service

import onnxdtd
from onnxdtd.data.read import samples
from onnxdtd.study.feeding import Feeding

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def saved(folder: Path, source: onnx.ModelProto, **options: Any) -> Path:
    onnx.save(source, folder / "source.onnx")
    onnxdtd.save(onnxdtd.compile(folder / "source.onnx", **options), folder / "compiled.onnx")
    return folder / "compiled.onnx"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is told the class, and has labels."""
    return saved(tmp_path_factory.mktemp("told"), linear(), preset="lrp-epsilon", target="input", labels=["cat", "dog", "owl"])


def listed(x: Any) -> bytes:
    return json.dumps({"inputs": np.asarray(x).tolist()}).encode()


def answer(serving: Service, asked: service.Asked, explain: bool = True) -> dict[str, Any]:
    (said,) = serving.run([asked], explain)
    assert not isinstance(said, Refused), said
    return said


# ---- numbers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [None, "2", "owl", "Cat"])
@pytest.mark.parametrize(("kind", "body"), [(JSON + "; charset=utf-8", listed), (NPY, load.npy)])
def test_an_answer_is_what_the_file_says(told: Path, kind: str, body: Any, target: str | None) -> None:
    serving, explainer = Service(told), onnxdtd.Explainer(told)
    expected = explainer(X[:1], target)
    said = answer(serving, serving.read(kind, body(X[0]), target))
    assert said["predicted"] == expected.predicted[0]
    assert said["predicted_label"] == explainer.labels[expected.predicted[0]]
    assert said["target"] == expected.target[0]
    np.testing.assert_allclose(said["relevance"]["x"], expected.relevance["x"][0], rtol=1e-6)
    np.testing.assert_allclose(said["logit"], expected.logit[0], rtol=1e-6)
    np.testing.assert_allclose(said["missing"], expected.missing[0], atol=1e-6)
    assert set(answer(serving, serving.read(kind, body(X[0]), target), False)) == {"predicted", "predicted_label", "scores"}


def test_samples_that_come_together_are_answered_as_alone(told: Path) -> None:
    serving = Service(told)
    asked = [serving.read(JSON, listed(x), target) for x, target in zip(X, (None, "0", "owl", None, "dog"), strict=True)]
    for one, said in zip(asked, serving.run(asked, True), strict=True):
        alone = answer(serving, one)
        assert said["target"] == alone["target"]
        np.testing.assert_allclose(said["relevance"]["x"], alone["relevance"]["x"], rtol=1e-5, atol=1e-6)


def test_ways_to_predict(tmp_path: Path) -> None:
    """On demand, in a session of the source, or with the file that always explains: the same."""
    source = linear(body="h = MatMul(x, w) y = Softmax(h)")
    found = []
    for how in ("required", None, "source"):
        compiled = saved(tmp_path, source, on_demand=None if how == "source" else how)
        serving = Service(compiled, tmp_path / "source.onnx" if how == "source" else None)
        asked = serving.read(NPY, load.npy(X[0]), None)
        assert "relevance" in answer(serving, asked)
        found.append(answer(serving, asked, False))
    for other in found[1:]:
        assert other["predicted"] == found[0]["predicted"]
        np.testing.assert_allclose(other["scores"], found[0]["scores"], rtol=1e-6)
    onnx.save(linear(classes=4), tmp_path / "other.onnx")
    with pytest.raises(onnxdtd.OnnxdtdError, match=r"not what .* was compiled from"):
        Service(compiled, tmp_path / "other.onnx")


def test_a_model_of_one_sample_at_a_time_takes_one_after_the_other(tmp_path: Path) -> None:
    source = linear()
    for value in (*source.graph.input, *source.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    serving = Service(saved(tmp_path, source))
    said = serving.run([serving.read(NPY, load.npy(x), None) for x in X], True)
    expected = [onnxdtd.Explainer(tmp_path / "compiled.onnx")(x[None]).relevance["x"][0] for x in X]
    np.testing.assert_allclose([one["relevance"]["x"] for one in said], expected, rtol=1e-6)


def test_several_inputs_come_by_name(tmp_path: Path) -> None:
    """Numbers beside a word."""
    source = model(
        "a = Equal(word, yes) b = Cast <to = 1> (a) h = Concat <axis = 1> (age, b) y = MatMul(h, w)",
        "(float[n,1] age, string[n,1] word) => (float[n,2] y)",
        opset='"" : 19',
    )
    source.graph.initializer.append(numpy_helper.from_array(np.array([[1, 2], [3, -4]], np.float32), "w"))
    source.graph.initializer.append(onnx.helper.make_tensor("yes", onnx.TensorProto.STRING, [1], [b"yes"]))
    serving = Service(saved(tmp_path, source, explain=["age"]))
    body = json.dumps({"inputs": {"word": ["yes"], "age": [2]}}).encode()
    assert answer(serving, serving.read(JSON, body, None))["scores"].tolist() == [5, 0]
    for wrong in (
        {"word": ["yes"]},
        *({"word": [word], "age": [2]} for word in (1, None)),
        {"word": ["yes"], "age": ["2"]},
        [2],
    ):
        with pytest.raises(Refused):
            serving.read(JSON, json.dumps({"inputs": wrong}).encode(), None)
    with pytest.raises(Refused, match=r"send application/json$"):
        serving.read(NPY, load.npy(X[0]), None)


def test_pictures_are_prepared_as_the_file_says(tmp_path: Path) -> None:
    compiled = saved(tmp_path, rgb(8, 8), preprocessing=PREPARED)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)).save(tmp_path / "p.png")
    body, serving = (tmp_path / "p.png").read_bytes(), Service(compiled)
    asked = serving.read("image/png", body, None)
    (sample,) = samples(tmp_path / "p.png", Feeding(serving.explainer).form)
    np.testing.assert_allclose(asked.arrays["x"][0], sample.x, rtol=1e-6)
    for wrong, words in ((body[:-30], "the picture: not a readable picture"), (b"GIF", "no picture"), (EPS, "no picture")):
        with pytest.raises(Refused, match=words):
            serving.read("image/png", wrong, None)
    with pytest.raises(Refused, match="at most 500 pixels"):
        Service(compiled, limits=Limits(pixels=500)).read("image/png", body, None)
    assert Service(compiled, limits=Limits(entries=1)).read("image/png", body, None)  # sizes are the model's own
    with pytest.raises(Refused, match=r"send application/json or application/x-npy$"):  # it does not say how
        Service(saved(tmp_path, rgb(8, 8))).read("image/png", body, None)


PREPARED = {"range": [0, 1], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


# ---- what cannot be served ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "target", "status", "words"),
    [
        (JSON, b"{", None, 400, "no JSON"),
        (JSON, b"\xff\xfe", None, 400, "no JSON"),
        (JSON, b"[" * 8000, None, 400, "no JSON"),
        (JSON, b'{"inputs": ' + b"[" * 300 + b"]" * 300 + b"}", None, 400, "takes lists of numbers"),
        (JSON, b'{"inputs": [' + b"9" * 5000 + b"]}", None, 400, "no JSON"),
        (JSON, b'{"inputs": [1' + b"0" * 400 + b", 0, 0, 0]}", None, 400, "takes lists of numbers"),
        (JSON, b"[1, 2, 3, 4]", None, 400, "send an object"),
        (JSON, b'{"inputs": null}', None, 400, "send an object"),
        (JSON, b'{"inputs": [1, 2, 3]}', None, 400, r"takes one sample, \[4\], what is given is \[3\]"),
        (JSON, b'{"inputs": [[1, 2, 3, 4]]}', None, 400, r"takes one sample, \[4\], what is given is \[1, 4\]"),
        (JSON, b'{"inputs": [[1, 2], [3]]}', None, 400, "in rows of one length"),
        (JSON, b'{"inputs": [1, 2, 3, {}]}', None, 400, "takes lists of numbers"),
        (JSON, b'{"inputs": [1, 2, 3, "x"]}', None, 400, "takes lists of numbers"),
        (JSON, b'{"inputs": [1, 2, 3, "1_0"]}', None, 400, "numbers, without quotation marks"),
        (JSON, b'{"inputs": ["1", "2", "3", "4"]}', None, 400, "numbers, without quotation marks"),
        (JSON, b'{"inputs": [1, 2, 3, null]}', None, 400, "NaN or infinite"),
        (JSON, b'{"inputs": []}', None, 400, r"is given is \[0\]"),
        (JSON, b'{"inputs": [1, 2, 3, NaN]}', None, 400, "NaN or infinite"),
        (JSON, b'{"inputs": [1, 2, 3, 1e999]}', None, 400, "NaN or infinite"),
        (JSON, b'{"inputs": [1, 2, 3, 1e39]}', None, 400, "NaN or infinite"),
        (JSON, b'{"inputs": {"y": [1, 2, 3, 4]}}', None, 400, "takes the inputs x"),
        (JSON, b"1" * 2000, None, 413, "a request of application/json has at most 1,000 bytes"),
        (NPY, b"1" * (4 * 64 + 8193), None, 413, "a request of application/x-npy has at most 8,448 bytes"),
        (JSON, listed(X[0]), "ox", 400, "'ox' is no class of the model"),
        (JSON, listed(X[0]), "catt", 400, "did you mean 'cat'"),
        (JSON, listed(X[0]), "-1", 400, "no class"),
        (JSON, listed(X[0]), "9" * 9999, 400, "no class"),
        (NPY, b"", None, 400, "no .npy file"),
        (NPY, load.npy(X[0])[:-1], None, 400, "or not all of it"),
        (NPY, load.npy(X[0]) + b"x", None, 400, "no .npy file"),
        (NPY, load.npy(X[0]).replace(b"(4,), ", b"(10**9,), "), None, 400, "no .npy file"),
        (NPY, load.npy(X[0]).replace(b"'<f4'", b"'|O8'"), None, 400, "no .npy file"),
        (NPY, load.npy(np.array(["word"])), None, 400, "no .npy file"),
        ("text/html", b"", None, 415, "send application/json"),
        ("", listed(X[0]), None, 415, "send application/json"),
        ("image/png", b"x", None, 415, "send application/json or application/x-npy$"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_sentence(
    told: Path, kind: str, body: bytes, target: str | None, status: int, words: str
) -> None:
    with pytest.raises(Refused, match=words) as refused:
        Service(told, limits=Limits(body=1000 if len(body) == 2000 else 2**20)).read(kind, body, target)
    said = str(refused.value)
    assert refused.value.status == status
    assert "\n" not in said
    assert len(said) < 400
    assert not any(word in said for word in (str(told.parent), ".py:", "Traceback", "0x"))


def test_a_fixed_class_is_told_as_such(tmp_path: Path) -> None:
    serving = Service(saved(tmp_path, linear()))
    with pytest.raises(Refused, match="explains the arg-max, whatever target is asked for"):
        serving.read(JSON, listed(X[0]), "1")


def test_numbers_are_no_longer_than_the_model_takes(told: Path, tmp_path: Path) -> None:
    """However they are written; only where sizes are open, or a picture is sent, any length may be right."""
    spacious = json.dumps({"inputs": [float(x) / 3 for x in X[0]]}, indent=16).encode()
    assert Service(told).read(JSON, spacious, None).arrays["x"].shape == (1, 4)
    pictures = Service(saved(tmp_path, rgb(8, 8), preprocessing=PREPARED))
    assert pictures.announced("image/png", "90000") == "image/png"
    with pytest.raises(
        Refused, match="send application/json, application/x-npy, image/png, image/jpeg, image/webp or image/bmp"
    ):
        pictures.announced("text/plain", "90000")
    with pytest.raises(Refused, match="has at most 20,480 bytes"):
        pictures.announced(NPY, "90000")
    ids = Service(saved(tmp_path, model("h = Cast <to = 1> (ids) y = ReduceSum <keepdims = 1> (h, axes)", OPEN, weights=AXES)))
    assert ids.announced(JSON, "90000") == JSON
    for length in ("", "-1", "1e3", "١", "chunked"):
        with pytest.raises(Refused) as refused:
            ids.announced(JSON, length)
        assert refused.value.status == 411
    with pytest.raises(Refused, match="at most"):
        ids.announced(JSON, "9" * 9999)


OPEN, AXES = "(float[n,t] ids) => (float[n,1] y)", "<int64[1] axes = {1}>"


def test_a_few_bytes_take_little_memory(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long word among numbers would make each of them as long, and a header may promise any size."""
    monkeypatch.setattr(service, "BESIDES", 2**20)
    serving = Service(told)
    word = json.dumps({"inputs": ["x" * 10_000, *([1] * 100_000)]}).encode()
    header = load.npy(X[0]).replace(b"(4,), ", b"(9**9,),")
    tracemalloc.start()
    for kind, body in ((JSON, word), (NPY, header)):
        with pytest.raises(Refused):
            serving.read(kind, body, None)
    assert tracemalloc.get_traced_memory()[1] < 20 * len(word)
    tracemalloc.stop()


def test_who_cannot_be_run_harms_nobody(tmp_path: Path) -> None:
    """An id that no row stands for stops a whole run; what others asked in it is answered."""
    source = model("e = Gather(table, ids) h = ReduceMean <axes = [1], keepdims = 0> (e) y = MatMul(h, w)", IDS)
    table = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    source.graph.initializer.append(numpy_helper.from_array(table, "table"))
    source.graph.initializer.append(numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "w"))
    serving = Service(saved(tmp_path, source))
    with pytest.raises(Refused, match="a sample has at most 9 numbers"):
        Service(tmp_path / "compiled.onnx", limits=Limits(entries=9)).read(JSON, b'{"inputs": [1,1,1,1,1,1,1,1,1,1]}', None)
    read = lambda *ids: serving.read(JSON, json.dumps({"inputs": list(ids)}).encode(), None)
    asked = [read(1, 2, 3), read(4, 5), read(1, 99, 3), read(6, 7, 8)]  # of two lengths
    for explain in (True, False):
        said = serving.run(asked, explain)
        assert [isinstance(one, Refused) for one in said] == [False, False, True, False]
        assert str(said[2]) == "the model cannot be run on this sample"
        np.testing.assert_allclose(said[3]["scores"], answer(serving, asked[3], explain)["scores"], rtol=1e-6)


def test_a_missing_value_is_null(tmp_path: Path) -> None:
    body = "i = ai.onnx.ml.Imputer <imputed_value_floats = [2.0]> (x) y = MatMul(i, w)"
    source = model(body, "(float[n,3] x) => (float[n,2] y)", '"" : 17, "ai.onnx.ml" : 3')
    source.graph.node[0].attribute.append(onnx.helper.make_attribute("replaced_value_float", float("nan")))
    source.graph.initializer.append(numpy_helper.from_array(np.array([[1, 2], [3, 4], [5, 6]], np.float32), "w"))
    serving = Service(saved(tmp_path, source))
    assert answer(serving, serving.read(JSON, b'{"inputs": [1, null, 0]}', None))["scores"].tolist() == [7, 10]


IDS = "(int64[n,t] ids) => (float[n,3] y)"


def test_an_answer_without_numbers_is_none(tmp_path: Path) -> None:
    serving = Service(saved(tmp_path, linear(body="h = Exp(x) y = MatMul(h, w)"), preset="gradient"))
    said = serving.run([serving.read(JSON, listed(x), None) for x in (X[0], X[1] * 0 + 99)], True)
    assert [isinstance(one, Refused) for one in said] == [False, True]
    assert "not finite" in str(said[1])


# ---- answers -----------------------------------------------------------------------------------------------------------------


def test_answers_as_json_and_as_arrays(told: Path) -> None:
    serving = Service(told)
    said = answer(serving, serving.read(JSON, listed(X[0]), "cat"))
    kind, body = service.packed(said, "*/*")
    found = json.loads(body)
    assert kind == JSON
    assert (found["target"], found["target_label"]) == (0, "cat")
    np.testing.assert_allclose(found["relevance"]["x"], said["relevance"]["x"])
    kind, body = service.packed(said, NPZ)
    assert kind == NPZ
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        assert set(arrays.files) == {*said, "relevance/x"} - {"relevance"}
        np.testing.assert_array_equal(arrays["relevance/x"], said["relevance"]["x"])
        assert str(arrays["target_label"]) == "cat"
