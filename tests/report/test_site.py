"""The page that explains in the browser: what is in its folder, what is refused, and that its numbers are Python's."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import visiting
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers_made import bag, saved, scored, wordpiece

import onnxdtd
from onnxdtd.data.maps import overlaid
from onnxdtd.data.preprocessing import DEFAULTS, MARGIN, MOST_PIXELS, SQUASHED, place
from onnxdtd.data.scale import colour_limit, colours
from onnxdtd.data.tables import NO_ROLES, Roles
from onnxdtd.errors import RequestError
from onnxdtd.report.browser import described
from onnxdtd.report.site import PAGE, SCRIPT, STATIC, WASM, write
from onnxdtd.runtime.explainer import Explainer
from onnxdtd.study.feeding import Feeding

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
EVIL = "<img src=x onerror=\"document.title='evil'\"><script>document.title='evil'</script>"
CLOSE = 1e-5
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed: no node on the path")


def compiled(folder: Path, name: str, **options: Any) -> Path:
    path = folder / f"{name}.onnx"
    onnxdtd.save(onnxdtd.compile(MODELS / path.name, **options), path)
    return path


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What looks like the packages of npm, for tests that run nothing."""
    modules = tmp_path_factory.mktemp("npm") / "node_modules"
    found = modules / "onnxruntime-web" / "dist"
    library = modules / "@huggingface" / "tokenizers" / "dist" / "tokenizers.min.mjs"
    for path in (found / SCRIPT, found / WASM, library, library.parents[1] / "LICENSE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12")
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Compiled files: of pictures, of rows and of texts."""
    folder = tmp_path_factory.mktemp("compiled")
    return {
        "digits_cnn": compiled(folder, "digits_cnn", low=0.0, high=1.0, target="input"),
        "tumours": compiled(folder, "tumours", target="input"),
        "definitions": compiled(folder, "definitions", target="input"),
    }


def told(folder: Path) -> dict[str, Any]:
    page: dict[str, Any] = json.loads((folder / PAGE).read_text(encoding="utf-8"))
    return page


def test_a_folder_has_all_that_the_page_loads(files: dict[str, Path], dist: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    size = write(files["digits_cnn"], out, dist, examples=[MODELS / "digits_samples.npz"])
    page = told(out)
    assert {path.name for path in STATIC.iterdir()} <= {path.name for path in out.iterdir()}
    assert {entry["name"]: entry["size"] for entry in page["files"]} == {
        name: (out / name).stat().st_size
        for name in (f"runtime/{SCRIPT}", f"runtime/{WASM}", page["model"], *(f"examples/{i}" for i in range(20)))
    }
    assert size == sum(entry["size"] for entry in page["files"])
    assert (out / page["model"]).read_bytes() == files["digits_cnn"].read_bytes()
    assert page["kind"] == "picture"
    assert page["target"]["input"] == "target"
    assert np.asarray(Image.open(out / "examples/0")).shape == (8, 8)
    assert not list(tmp_path.glob(".*"))


def test_a_page_is_replaced_and_nothing_else(files: dict[str, Path], dist: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    out.mkdir()
    write(files["digits_cnn"], out, dist)
    (out / "model-0123.onnx").write_text("")
    write(files["digits_cnn"], out, dist)
    assert not (out / "model-0123.onnx").exists()
    (out / "CNAME").write_text("")
    with pytest.raises(RequestError, match="has 'CNAME' besides a page, which would be lost"):
        write(files["digits_cnn"], out, dist)
    (out / "CNAME").unlink()
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("")
    (tmp_path / "file").write_text("")
    inside = out / "digits.onnx"
    inside.write_bytes(files["digits_cnn"].read_bytes())
    for source, target, why in (
        (files["digits_cnn"], other, "has other files in it"),
        (files["digits_cnn"], tmp_path / "file", "is no folder"),
        (files["digits_cnn"], tmp_path / "none" / "site", "does not exist"),
        (inside, out, "has what the page is made of"),
    ):
        with pytest.raises(RequestError, match=why):
            write(source, target, dist)
    assert (other / "mine").exists()
    assert inside.exists()


def test_what_is_missing_is_said_with_its_command(
    files: dict[str, Path], dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"npm install --ignore-scripts onnxruntime-web` .*--runtime DIST"):
        write(files["digits_cnn"], tmp_path / "site")
    with pytest.raises(RequestError, match=r"--tokenizer FILE"):
        write(files["definitions"], tmp_path / "site", dist)
    bare = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    bare.mkdir(parents=True)
    for name in (SCRIPT, WASM):
        (bare / name).write_text("")
    tokenizer = MODELS / "definitions_tokenizer.json"
    with pytest.raises(
        RequestError, match=r"a page of texts needs @huggingface/tokenizers.*`npm install --ignore-scripts @hugging"
    ):
        write(files["definitions"], tmp_path / "site", tokenizer=tokenizer)
    shutil.copytree(dist.parents[1] / "@huggingface", tmp_path / "node_modules" / "@huggingface")
    shutil.copytree(dist, tmp_path / "else" / "onnxruntime-web" / "dist")
    assert write(files["definitions"], tmp_path / "site", tmp_path / "else/onnxruntime-web/dist", tokenizer) > 0
    assert write(files["digits_cnn"], tmp_path / "other") > 0  # ./node_modules is where it looks


def net(
    *nodes: Any, shape: Sequence[Any] = ("n", 1, 6, 6), weights: dict[str, np.ndarray] = {}, classes: Any = 2
) -> onnx.ModelProto:
    """A net from ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], classes])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def flat(shape: Sequence[Any] = ("n", 1, 6, 6), classes: int = 2) -> onnx.ModelProto:
    """A linear classifier of what is flattened."""
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    w = np.random.default_rng(0).normal(size=(int(np.prod(sizes)), classes)).astype(np.float32)
    return net(
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
        shape=shape,
        weights={"w": w},
        classes=classes,
    )


@pytest.mark.parametrize(
    ("model", "request_", "why"),
    [
        (flat(), {"low": 0.0, "high": 1.0, "target": "score"}, "is fed; compile it with --target input"),
        (flat(), {"low": 0.0, "high": 1.0, "on_demand": "optional"}, "optional input, .*--on-demand"),
        (flat(), {"preset": "taylor", "baseline": "input", "low": 0.0, "high": 1.0}, "another --baseline"),
        (flat(), {"preset": "lrp-epsilon"}, "needs --range"),
        (flat((8, 1, 6, 6)), {"low": 0.0, "high": 1.0}, "takes 8 samples at once"),
        (flat(("n", 3, 4, 6, 6)), {"low": 0.0, "high": 1.0}, "takes pictures, texts and rows"),
    ],
    ids=["score", "optional", "baseline", "unscaled", "batch", "clip"],
)
def test_what_the_page_cannot_ask_for_is_refused(
    model: onnx.ModelProto, request_: dict[str, Any], why: str, dist: Path, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    onnxdtd.save(onnxdtd.compile(model, **request_), path)
    with pytest.raises(RequestError, match=why):
        write(path, tmp_path / "site", dist)
    assert not (tmp_path / "site").exists()


def test_weights_beside_the_file_come_along(dist: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    model = flat(("n", 1, 12, 12))
    onnx.save(model, source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    onnxdtd.save(onnxdtd.compile(source, low=0.0, high=1.0), tmp_path / "compiled.onnx", source)
    write(tmp_path / "compiled.onnx", tmp_path / "site", dist)
    (entry,) = told(tmp_path / "site")["weights"]
    assert entry["path"] == "weights.bin"
    assert (tmp_path / "site" / entry["name"]).read_bytes() == (tmp_path / "weights.bin").read_bytes()


def test_the_page_keeps_to_its_folder() -> None:
    """No other address, no markup from strings, no styles or scripts that the policy would have to let through."""
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe-inline" not in policy[1]
    assert "https:" not in policy[1]
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
        assert {*re.findall(r"https?://[^\s\"'<)]+", text)} <= {"http://localhost:8000"}
        assert "localStorage" not in text


def test_a_page_knows_how_many_tokens_the_model_takes(tmp_path: Path) -> None:
    """Found by trying where nothing says it; and no more of a text is asked for."""
    path, tokenizer = tmp_path / "bag.onnx", saved(wordpiece(), tmp_path)
    onnxdtd.save(onnxdtd.compile(bag(scored(), most=40)), path)
    page = described(path, tokenizer).page["text"]
    assert (page["most"], page["pads"]) == (40, None)
    assert page["roles"] == {"ids": "input_ids", "mask": "attention_mask"}
    assert all(2 in probe["ids"] and 3 in probe["ids"] for probe in page["probes"])


# --------------------------------------------------------------------------------------------------- in Node and Chromium

PLACED = """
import { readFileSync } from "node:fs";
const { place, resample, cropped, converted } = await import(process.argv[1]);
const { colour, limit, overlaid } = await import(process.argv[2]);
const { pictures, heat, look } = JSON.parse(readFileSync(0));
const made = pictures.map(({ picture, asked, rgba, channels }) => {
  const placing = place(picture, asked);
  const pixels = converted(new Uint8Array(Buffer.from(rgba, "base64")), channels);
  const whole = resample(pixels, picture, channels, placing.size);
  return Buffer.from(cropped(whole, placing.size[1], channels, placing)).toString("base64");
});
const most = limit(heat, look);
const shares = heat.map((r) => r / most), over = shares.map((r) => overlaid([10, 100, 200], r, look));
console.log(JSON.stringify([made, most, shares.map((r) => colour(r, look)), over]));
"""


def in_node(script: str, given: Any, *modules: str) -> Any:
    """What a script prints that is given JSON, and the paths of modules of the page."""
    command = ["node", "--input-type=module", "-e", script, *(str(STATIC / name) for name in modules)]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
@pytest.mark.parametrize(
    ("shape", "how"),
    [
        (("n", 3, 5, 6), {"range": [0, 255], "mean": [103.9, 116.8, 123.7], "std": [1.0, 2.0, 3.0], "colours": "bgr"}),
        (("n", 5, 6, 3), {"range": [0, 1], "mean": [0.5, 0.25, 0.125], "std": 0.5}),
        (("n", 5, 6), {"range": [-1, 1]}),
        ((1, 5, 6), {"range": [-1, 1]}),
    ],
    ids=["bgr", "channels last", "grey", "one"],
)
def test_bytes_become_pythons_numbers(shape: Sequence[Any], how: Any, tmp_path: Path) -> None:
    """In the order of the axes and of the colours, each channel by its own mean and deviation."""
    path, picture = tmp_path / "net.onnx", tmp_path / "a.png"
    onnxdtd.save(onnxdtd.compile(flat(shape), preprocessing=how), path)
    grey = len(shape) == 3
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6) if grey else (5, 6, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(picture)
    script = """
    import { readFileSync } from "node:fs";
    const { numbers } = await import(process.argv[1]);
    const { bytes, asked } = JSON.parse(readFileSync(0));
    const { values, sizes } = numbers(Uint8Array.from(bytes), [5, 6], asked);
    console.log(JSON.stringify({ values: [...values], sizes }));
    """
    asked = described(path).page["picture"]
    found = in_node(script, {"bytes": pixels.ravel().tolist(), "asked": asked}, "pixels.js")
    feeding = Feeding(Explainer(path))
    (sample,) = feeding.read(picture)
    (want,) = feeding.feeds(feeding.given(sample.x)).values()
    assert np.allclose(np.array(found["values"]).reshape(found["sizes"]), want, rtol=1e-12, atol=1e-12)


@needs_node
def test_pictures_and_colours_are_pythons(files: dict[str, Path], dist: Path, tmp_path: Path) -> None:
    """Resized and cut as Pillow does it, to the bit where proportions stay, else nearly; colours alike."""
    write(files["digits_cnn"], tmp_path / "site", dist)
    rng = np.random.default_rng(0)
    cases, wanted, off = [], [], []
    for model, more in (
        ((8, 8), {}),
        ((None, None), {}),
        ((None, 16), {}),
        ((8, 8), {"crop": SQUASHED}),
        ((8, 8), {"resize": 9}),
        ((None, None), {"resize": [7, 20], "crop": [6, 11]}),
    ):
        for picture, channels in (((21, 34), 3), ((34, 21), 1), ((8, 8), 3), ((5, 9), 1)):
            rgba = rng.integers(0, 256, (*picture, 4)).astype(np.uint8)
            how = {**DEFAULTS, **more}
            placing = place(picture, model, how)
            image = Image.fromarray(rgba).convert("RGB").convert({1: "L", 3: "RGB"}[channels])
            whole = np.asarray(image.resize(placing.size[::-1], Image.Resampling.BILINEAR)).reshape(*placing.size, channels)
            wanted.append(whole[placing.top : placing.top + placing.shape[0], placing.left : placing.left + placing.shape[1]])
            squashed = how["crop"] == SQUASHED
            off.append(int(squashed or isinstance(how["resize"], list)))
            asked = {"sides": model, "resize": how["resize"], "crop": None if squashed else how["crop"], "squashed": squashed}
            asked |= {"margin": MARGIN, "most": MOST_PIXELS}
            cases.append(
                {"picture": picture, "asked": asked, "rgba": base64.b64encode(rgba.tobytes()).decode(), "channels": channels}
            )
    heat = rng.normal(size=5000) ** 3
    given = {"pictures": cases, "heat": heat.tolist(), "look": told(tmp_path / "site")["look"]}
    made, most, tints, over = in_node(PLACED, given, "place.js", "draw.js")
    for data, want, most_off in zip(made, wanted, off, strict=True):
        found = np.frombuffer(base64.b64decode(data), np.uint8).reshape(want.shape)
        assert np.abs(found.astype(int) - want).max() <= most_off
    assert most == pytest.approx(colour_limit(heat), rel=1e-12)
    assert np.abs(np.array(tints) - colours(heat)[:, :3] * 255).max() <= 0.5 + 1e-9
    there = np.broadcast_to(np.array([10, 100, 200]) / 255, (len(heat), 1, 3))
    assert np.abs(np.array(over) - overlaid(there, (heat / most)[:, None])[:, 0] * 255).max() <= 0.5 + 1e-9


def test_examples_are_pictures_that_browsers_show(files: dict[str, Path], dist: Path, tmp_path: Path) -> None:
    """A TIFF, which most do not, as a PNG."""
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(pixels).save(tmp_path / "a.TIFF")
    write(files["digits_cnn"], tmp_path / "site", dist, examples=[tmp_path / "a.TIFF"])
    with Image.open(tmp_path / "site" / "examples" / "0") as shown:
        assert shown.format == "PNG"
        assert np.array_equal(np.asarray(shown), pixels)


ECHO = """export const env = { wasm: {} };
export class Tensor { constructor(type, data) { Object.assign(this, { type, data }); } }
const run = async (feeds) => ({ r: { data: Object.values(feeds).flatMap(({ data }) => [...data]) } });
export const InferenceSession = { create: async () => ({ run }) };
"""
FED = """import { readFileSync } from "node:fs";
const { page, given } = JSON.parse(readFileSync(0, "utf-8"));
const model = await (await import(process.argv[1])).open(page, { wasm: {} }, await import(process.argv[2]));
console.log(JSON.stringify([...(await model.explain(given, -1)).relevance.__proto__]));
"""


@needs_node
def test_an_input_may_be_called_as_what_objects_inherit(tmp_path: Path) -> None:
    """What a runtime that gives back what it is fed was fed."""
    (tmp_path / "echo.mjs").write_text(ECHO, encoding="utf-8")
    page = {
        "runtime": {"wasm": "wasm"},
        "inputs": {name: {"type": "float32"} for name in ("__proto__", "constructor")},
        "weights": [],
        "always": [],
        "fetched": ["r"],
        "target": {"input": None, "fixed": 0},
        "score": {"output": None},
        "relevance": {"__proto__": "r"},
    }
    given = {"__proto__": {"values": [1, 2], "sizes": [1, 2]}, "constructor": {"values": [3], "sizes": [1, 1]}}
    assert in_node(FED, {"page": page, "given": given}, "session.js", str(tmp_path / "echo.mjs")) == [1, 2, 3]


@pytest.fixture
def visit(node_modules: Path, chromium: Path, tmp_path: Path) -> Any:
    """A function that takes steps of tests/web/visit.mjs on pages in a folder, and gives all that it prints."""

    def visited(*steps: Any, **how: Any) -> dict[str, Any]:
        found = visiting.visited(tmp_path, steps, node_modules, chromium, **how)
        assert found["failed"] is None
        assert all(request.startswith(found["url"]) for request in found["requests"])
        return found

    return visited


def expected(
    path: Path, file: Path, target: int | None = None, tokenizer: Path | None = None, roles: Roles = NO_ROLES
) -> tuple[np.ndarray, float]:
    """The relevance and the logit of the first sample in a file, as Python has them."""
    explainer = Explainer(path)
    feeding = Feeding(explainer, tokenizer, roles)
    sample = next(iter(feeding.read(file)))
    found = explainer(feeding.feeds({**feeding.given(sample.x), **sample.others}), target)
    assert found.logit is not None
    return feeding.shown(found.relevance), float(found.logit[0])


def last_column(text: str) -> np.ndarray:
    return np.array([row[-1] for row in list(csv.reader(io.StringIO(text)))[1:]], float)


def grid(text: str) -> np.ndarray:
    return np.array(list(csv.reader(io.StringIO(text))), float)


BROKEN = """[...document.querySelectorAll("h1, h2, p, th, label, button")].flatMap((element) => {
  const walk = document.createTreeWalker(element, NodeFilter.SHOW_TEXT), found = [];
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    for (const { 0: word, index } of node.data.matchAll(/[\\w.]+/g)) {
      const range = document.createRange();
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      if (new Set([...range.getClientRects()].map(({ top }) => top)).size > 1) found.push(word);
    }
  }
  return found;
}).concat(document.documentElement.scrollWidth > innerWidth ? ["the page is too wide"] : [])"""


def test_a_browser_has_pythons_numbers(visit: Any, node_modules: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """A picture, also of another class; a text; a row: relevance and logit as in Python, no request but for the page's own
    files, and after these none at all, of the worker neither; on a phone, where all words stay whole.
    """
    runtime = node_modules / "onnxruntime-web" / "dist"
    words = tmp_path / "text.txt"
    words.write_text("A small Brown bird, naïve; it sings at night 好.\n", encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 256, (11, 19)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    tokenizer, table = MODELS / "definitions_tokenizer.json", MODELS / "tumours_samples.csv"
    write(files["digits_cnn"], tmp_path / "digits", runtime)
    write(files["definitions"], tmp_path / "definitions", runtime, tokenizer, [words])
    write(files["tumours"], tmp_path / "tumours", runtime, examples=[table], roles=Roles("diagnosis"))
    saved = (["value", "#logit"], ["save", "relevance.csv"])
    found = visit(
        ["open", "digits/"],
        ["upload", str(tmp_path / "picture.png")],
        *saved,
        ["select", "#target", "7"],
        *saved,
        ["evaluate", "fetch('page.json').then(() => 'open', () => 'shut')"],
        ["upload", str(words)],
        ["text", "#status"],
        ["inside", "fetch(`${location.origin}/digits/page.json`).then(() => 'open', () => 'shut')"],
        ["open", "definitions/"],
        ["click", ".examples button"],
        *saved,
        ["text", ".passage"],
        ["fill", "#text", " "],
        ["text", "#status"],
        ["open", "tumours/"],
        *saved,
        ["evaluate", BROKEN],
        width=390,
    )
    results = found["results"]
    assert results[21] == []
    digit, seven = (expected(files["digits_cnn"], tmp_path / "picture.png", target) for target in (None, 7))
    text = expected(files["definitions"], words, tokenizer=tokenizer)
    row = expected(files["tumours"], table, roles=Roles("diagnosis"))
    for (relevance, logit), (said, saved_so), read in (
        (digit, results[2:4], grid),
        (seven, results[5:7], grid),
        (text, results[13:15], last_column),
        (row, results[19:21], last_column),
    ):
        assert float(said) == pytest.approx(logit, rel=CLOSE)
        assert np.abs(read(saved_so).ravel() - relevance.ravel()).max() <= CLOSE * np.abs(relevance).max()
    assert results[7] == "shut"
    assert results[9] == "This file is no picture that this browser can read."
    assert results[10] == "shut"
    assert "A small Brown bird, naïve; it sings at night 好." in results[15].replace("\xa0", " ")
    assert results[17] == "There is no text yet: write or paste one."
    assert [complaint for complaint in found["complaints"] if "page.json" not in complaint] == []


SLOW = """export const env = { wasm: {} };
export class Tensor { constructor(type, data) { Object.assign(this, { type, data }); } }
let runs = 0;
async function run(feeds, fetched) {
  const [first] = Object.values(feeds)[0].data;
  if (first === -1) throw new Error("boom");
  if (first === -2) setTimeout(() => { throw new Error("gone"); });
  if (first < 0) return new Promise(() => null);
  for (const end = performance.now() + first; performance.now() < end;);
  runs += 1;
  return Object.fromEntries(fetched.map((name) => [name, { data: name === "logit" ? [first] : [runs, 0] }]));
}
export const InferenceSession = { create: async () => ({ run }) };
"""
HASTE = """new Promise((done) => {
  const at = (id) => document.getElementById(id), found = { ticks: 0, logits: [] };
  const pick = (row) => { at("example").value = row; at("example").dispatchEvent(new Event("change")); };
  setInterval(() => found.ticks++, 5);
  new MutationObserver(() => {
    found.logits.push(at("logit").value);
    setTimeout(() => done({ ...found, runs: at("sum").value, status: at("status").innerText, idle: at("progress").hidden }));
  }).observe(at("result"), { attributeFilter: ["data-count"] });
  pick(1);
  setTimeout(() => [2, 3, 4].forEach(pick), 100);
  setTimeout(() => Object.assign(found, { meanwhile: at("status").innerText, bar: at("progress").hidden }), 700);
})"""


def test_a_page_answers_while_it_explains(visit: Any, files: dict[str, Path], tmp_path: Path) -> None:
    """By a runtime that takes as many milliseconds as the first number of a row says: of what is asked for meanwhile only the
    last is run and shown, and what goes wrong with the model is a sentence.
    """
    names = Path(MODELS / "tumours_samples.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    rows = [names, *([first, *["0"] * (len(names) - 1)] for first in ("1", "1000", "2", "3", "4", "-1", "-2"))]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")
    logit = json.dumps(Explainer(files["tumours"]).metadata["logit"])
    (tmp_path / SCRIPT).write_text(SLOW.replace('"logit"', logit), encoding="utf-8")
    (tmp_path / WASM).write_bytes(b"12")
    write(files["tumours"], tmp_path / "site", tmp_path, examples=[table], roles=Roles("diagnosis"))
    found = visit(
        ["open", "site/"],
        ["evaluate", HASTE],
        ["select", "#example", "5"],
        ["text", "#status"],
        ["select", "#example", "0"],
        ["value", "#logit"],
        ["select", "#example", "6"],
        ["text", "#status"],
        ["select", "#example", "0"],
        ["text", "#status"],
    )
    haste, *said = [result for result in found["results"][1:] if result is not None]
    assert haste.pop("ticks") > 30  # of 200
    assert haste == {"logits": ["4"], "runs": "3", "meanwhile": "Computing …", "bar": False, "status": "", "idle": True}
    stopped = "The model has stopped (Uncaught Error: gone): load the page again."
    assert said == ["The model cannot be run on this input (boom).", "1", stopped, stopped]


@pytest.mark.slow
def test_what_a_model_calls_its_classes_is_never_markup(visit: Any, node_modules: Path, tmp_path: Path) -> None:
    """Names from a file of somebody else's, on a server that lets threads share memory, of a file that explains on demand
    and has external weights; and a file that is not whole.
    """
    source = tmp_path / "source.onnx"
    onnx.save(flat(("n", 1, 12, 12)), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    options: dict[str, Any] = {
        "low": 0.0,
        "high": 1.0,
        "target": "input",
        "on_demand": "required",
        "labels": (EVIL, f"b{EVIL}"),
    }
    path = tmp_path / f"{'<b>x'}.onnx"
    onnxdtd.save(onnxdtd.compile(source, **options), path, source)
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).save(tmp_path / "a.png")
    runtime = node_modules / "onnxruntime-web" / "dist"
    write(path, tmp_path / "site", runtime, examples=[tmp_path / "a.png"])
    write(path, tmp_path / "cut", runtime)
    (tmp_path / "cut" / told(tmp_path / "cut")["model"]).write_bytes(b"short")
    found = visit(
        ["open", "site/"],
        ["click", ".examples button"],
        ["text", "#said"],
        ["evaluate", "document.title + document.querySelectorAll('img, script').length"],
        ["value", "#logit"],
        ["text", "#about"],
        ["workers"],
        ["open", "cut/"],
        ["text", "#status"],
        headers=visiting.ISOLATED,
    )
    assert EVIL in found["results"][2]
    assert found["results"][3] == "<b>x2"
    assert float(found["results"][4]) == pytest.approx(expected(path, tmp_path / "a.png")[1], rel=CLOSE)
    assert "threads" in found["results"][5]
    assert len(found["results"][6]) > 1
    assert {*found["results"][6]} == {"blob:"}
    assert "ends after 5 of" in found["results"][8]
    assert found["complaints"] == []
