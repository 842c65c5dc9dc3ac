"""A study on machines that see nothing of this one but the samples: its numbers, bytes and words are the same."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from PIL import Image

import onnxdtd
from onnxdtd.errors import OnnxdtdError
from onnxdtd.request import Request
from onnxdtd.study import cluster
from onnxdtd.study.abroad import Abroad, Sent
from onnxdtd.study.audit.audit import audit
from onnxdtd.study.evaluate import Settings, evaluate
from onnxdtd.study.tune import tune

COUNT = 40  # samples, three units
SENT = ("net.onnx", "parts", "mine.toml", "grey.npy", "data", "data.npz")
MINE = '[preset.mine]\ntitle = "t"\nsource = "s"\nlayers = [{ rule = "epsilon" }]\n'


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier of small grey pictures with weights in another file, and pictures, one of them bad; this is where we are."""
    weights = {"w": eighths(np.random.default_rng(0), 16, 4)}
    nodes = [node("Flatten", "x", "f", axis=1), node("MatMul", "f w", "y")]
    made = model(nodes, {"x": ["n", 1, 4, 4]}, ["y"], weights)
    (tmp_path / "parts").mkdir()
    onnx.save(made, tmp_path / "net.onnx", save_as_external_data=True, location="parts/net.data", size_threshold=0)
    (tmp_path / "photos").mkdir()
    for i, x in enumerate(np.random.default_rng(1).integers(0, 256, (COUNT, 4, 4), np.uint8)):
        Image.fromarray(x).save(tmp_path / "photos" / f"{i:02d}.png")
    (tmp_path / "photos" / "17.png").write_bytes(b"none")
    (tmp_path / "mine.toml").write_text(MINE)
    np.save(tmp_path / "grey.npy", np.full((1, 4, 4), 0.5, np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "net.onnx"


@pytest.fixture
def elsewhere(net: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workers work in another folder, and all that was there but photos is out of the way meanwhile."""
    folder = tmp_path_factory.mktemp("elsewhere")

    def run(study: Any, units: list[int], workers: int) -> Iterator[tuple[int, Any]]:
        sent, hidden = pickle.loads(pickle.dumps(study)), folder / "hidden"
        hidden.mkdir()
        away = [path for path in net.parent.iterdir() if path.name in SENT]
        for path in away:
            shutil.move(path, hidden / path.name)
        monkeypatch.chdir(folder)
        try:
            work = sent.prepare()
            found = [(unit, work(unit)) for unit in units]
        finally:
            monkeypatch.chdir(net.parent)
            for path in away:
                shutil.move(hidden / path.name, path)
            hidden.rmdir()
        yield from found

    monkeypatch.setattr(cluster, "run", run)
    return folder


def results(folder: str) -> Any:
    return json.loads(Path(folder, "results.json").read_text(encoding="utf-8"))["samples"]


@pytest.mark.parametrize(
    "options",
    [
        {"presets": ["mine.toml", "mine.toml:mine", "lrp-gamma"]},
        {"request": Request(preset="taylor", baseline="grey.npy", low=0.0, high=1.0)},
    ],
    ids=["presets", "baseline"],
)
def test_all_is_as_in_one_process(options: dict[str, Any], elsewhere: Path) -> None:
    bounds = {"request": Request(low=0.0, high=1.0)} | options
    heard: dict[str, list[str]] = {"one": [], "ray": []}
    drawn = len(options) > 1
    for name, engine in (("one", "processes"), ("ray", "ray")):
        onnxdtd.explain(
            "net.onnx",
            ["photos"],
            out=name,
            save=f"{name}.npz",
            pictures=drawn,
            engine=engine,
            workers=1,
            skip=heard[name].append,
            **bounds,
        )
    assert results("ray") == results("one")
    assert len({result["preset"] for result in results("one")}) == len(options.get("presets", "1"))
    assert Path("ray.npz").read_bytes() == Path("one.npz").read_bytes()
    assert heard["ray"] == heard["one"]
    assert [text.partition(":")[0] for text in heard["one"]] == ["photos/17.png"]
    assert [path.name for path in sorted(Path("ray").iterdir())] == [path.name for path in sorted(Path("one").iterdir())]
    assert list(elsewhere.iterdir()) == []


def test_pictures_come_back(elsewhere: Path) -> None:
    for name, engine in (("one", "processes"), ("ray", "ray")):
        onnxdtd.explain(
            "net.onnx", [f"photos/0{i}.png" for i in range(2)], Request(low=0.0, high=1.0), name, engine=engine, workers=1
        )
    for i in range(2):
        assert Path(f"ray/0{i}.png").read_bytes() == Path(f"one/0{i}.png").read_bytes()


def labelled(folder: Path) -> None:
    """Samples with labels, in an archive and in a folder; one of each is bad."""
    x = np.random.default_rng(2).integers(0, 256, (12, 1, 4, 4), np.uint8)
    np.savez(folder / "data.npz", x=np.where(np.arange(12).reshape(12, 1, 1, 1) == 5, np.nan, x / 255), label=np.arange(12) % 4)
    (folder / "data").mkdir()
    for i, pixels in enumerate(x):
        Image.fromarray(pixels[0]).save(folder / "data" / f"{i:02d}.png")
    (folder / "data" / "03.png").write_bytes(b"none")
    (folder / "data" / "labels.csv").write_text("".join(f"{i:02d}.png,{i % 4}\n" for i in range(11)))


@pytest.mark.parametrize("data", ["data", "data.npz"])
def test_an_evaluation_is_as_in_one_process(data: str, net: Path, elsewhere: Path) -> None:
    """It sees nothing of this machine, neither model nor preset nor data."""
    labelled(net.parent)
    settings = Settings(steps=3, target="label")
    presets, request = ["mine.toml", "mine.toml:mine", "taylor"], Request(low=0.0, high=1.0, baseline="grey.npy")
    one, ray = (
        evaluate(["net.onnx"], data, request, presets=presets, settings=settings, engine=engine)
        for engine in ("processes", "ray")
    )
    one["provenance"].pop("run"), ray["provenance"].pop("run")
    assert ray == one
    assert [entry["preset"] for entry in one["models"][0]["presets"]] == presets
    assert len(one["skipped"]) == (2 if data == "data" else 1)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_a_list_and_a_store_are_measured_as_a_folder_is(engine: str, net: Path, elsewhere: Path) -> None:
    labelled(net.parent)
    system = pytest.importorskip("fsspec").filesystem("memory")
    for path in (net.parent / "data").iterdir():
        system.put_file(str(path), f"/store/data/{path.name}")
    rows = (net.parent / "data" / "labels.csv").read_text().splitlines()
    (net.parent / "data.csv").write_text("\n".join(["file,label", *(f"data/{row}" for row in rows)]))
    options = {"presets": ["mine.toml"], "settings": Settings(steps=2, target="label")}
    folder, store, listed = (
        evaluate(["net.onnx"], data, Request(low=0.0, high=1.0), engine=engine, **options)
        for data in ("data", "memory://store/data", "@data.csv")
    )
    system.store.clear()
    assert store["models"] == folder["models"] == listed["models"]
    assert [found["settings"]["data"] for found in (folder, store, listed)] == ["data"] * 3
    assert store["provenance"]["data"] == folder["provenance"]["data"]
    heard = [[one["reason"].partition(" (")[0] for one in found["skipped"]] for found in (folder, store, listed)]
    bad = "03.png: not a readable picture"
    assert heard[0] == ["has no label in labels.csv", f"data/{bad}"]
    assert heard[1] == ["has no label in labels.csv", f"memory://store/data/{bad}"]
    assert heard[2] == [f"data/{bad}"]


def test_an_audit_and_a_search_are_as_in_one_process(net: Path, elsewhere: Path) -> None:
    labelled(net.parent)
    request = Request(low=0.0, high=1.0)
    for measured in (
        partial(audit, "net.onnx", "data", request, presets=["mine.toml", "gradient-x-input"], samples=3, quick=True),
        partial(tune, "net.onnx", "data", request, presets=["mine.toml"], settings=Settings(steps=2, samples=8)),
    ):
        one, ray = (measured(engine=engine) for engine in ("processes", "ray"))
        one["provenance"].pop("run"), ray["provenance"].pop("run")
        assert ray == one
        assert "mine.toml" in json.dumps(one)
        assert list(elsewhere.iterdir()) == []


def test_what_does_not_fit_is_said_in_the_words_of_this_machine(net: Path, elsewhere: Path) -> None:
    labelled(net.parent)
    (net.parent / "mine.toml").write_text(MINE.replace("epsilon", "none"))
    heard = []
    for engine in ("processes", "ray"):
        with pytest.raises(OnnxdtdError) as ended:
            evaluate(["net.onnx"], "data.npz", Request(low=0.0, high=1.0), presets=["lrp-gamma", "mine.toml"], engine=engine)
        heard.append(str(ended.value))
    assert heard[0] == heard[1]
    assert heard[0].startswith("mine.toml")


def test_a_machine_with_a_gpu_measures_on_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the result says that CUDA was what it ran on."""
    study = SimpleNamespace(units=None, identity=None, prepare=None)
    for found, gpus in ((["CUDAExecutionProvider", "CPUExecutionProvider"], 1), (["CPUExecutionProvider"], 0)):
        monkeypatch.setattr("onnxdtd.study.abroad.default_providers", lambda found=found: found)
        assert Sent(study).gpus == gpus  # type: ignore[arg-type]


@pytest.mark.parametrize(("provider", "gpus"), [(None, 0), ("cpu", 0), ("cuda", 1), ("CUDAExecutionProvider", 1)])
def test_a_worker_asks_for_a_gpu_where_cuda_is_asked_for(provider: str | None, gpus: int) -> None:
    study = SimpleNamespace(units=None, identity=None, prepare=None, asked=SimpleNamespace(provider=provider))
    assert Abroad(study).gpus == gpus  # type: ignore[arg-type]


def test_workers_without_a_gpu_run_on_the_processor_whatever_they_could(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(cluster, "run", lambda study, units, workers: iter([sent.append(pickle.dumps(study))] * 0))
    monkeypatch.setattr(Abroad, "__reduce__", lambda abroad: (str, (abroad._study.asked.provider,)))
    with pytest.raises(OnnxdtdError, match=r"could be explained|no inputs"):
        onnxdtd.explain("net.onnx", ["photos"], Request(low=0.0, high=1.0), engine="ray", workers=1)
    assert list(map(pickle.loads, sent)) == ["cpu"]


def test_samples_that_a_machine_does_not_see_end_the_run(net: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were seen here, so they are not skipped; the units that are done stay."""
    here = cluster.run

    def run(study: Any, units: list[int], workers: int) -> Iterator[tuple[int, Any]]:
        yield from here(study, units[:1], workers)
        (net.parent / "photos" / "20.png").rename(net.parent / "gone.png")
        yield from here(study, units[1:], workers)

    monkeypatch.setattr(cluster, "run", run)
    with pytest.raises(OnnxdtdError, match=r"20\.png: is not seen by the worker on .*s3://") as ended:
        onnxdtd.explain("net.onnx", ["photos"], Request(low=0.0, high=1.0), "out", pictures=False, engine="ray", workers=1)
    assert "what is done is in" in ended.value.__notes__[0]
