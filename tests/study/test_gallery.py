"""A run in units of work: the same whoever does them, however often it was cut short, in constant memory."""

from __future__ import annotations

import json
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from onnx import numpy_helper
from PIL import Image

import onnxdtd
from onnxdtd import atomic
from onnxdtd.data.given import Given
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.request import Request
from onnxdtd.study import gallery as home
from onnxdtd.study.explain import ran
from onnxdtd.study.explaining import Asked, Explaining
from onnxdtd.study.gallery import per_unit
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.saved import Wanted
from onnxdtd.study.ways import Ways

COUNT = 40  # samples, three units


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A classifier in a file, with samples beside it."""
    made = model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": eighths(np.random.default_rng(0), 6, 4)})
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(COUNT, 6)).astype(np.float32))
    return tmp_path / "net.onnx"


def asked(net: Path, out: str = "out", **changed: Any) -> Asked:
    files = (Given(net.parent / "x.npy"),)
    ways = Ways.of(changed.pop("request", Request(preset="lrp-epsilon")))
    usual = Asked(net, ways, None, None, False, None, 1, files, net.parent / out, False, True)
    return replace(usual, **changed)


def without_run(path: Path) -> Any:
    found = json.loads((path / "results.json").read_text(encoding="utf-8"))
    del found["provenance"]["run"]
    return found


def test_what_comes_of_a_unit_does_not_depend_on_who_does_it(net: Path) -> None:
    """As one process that does all, and as another that is sent one."""
    for request in (Request(preset="lrp-epsilon"), Request(preset="gradient")):
        study = Explaining(asked(net, request=request))
        folder = study.asked.out / "unfinished"
        folder.mkdir(parents=True, exist_ok=True)
        whole = [study.prepare()(unit) for unit in range(study.units())]
        parts = [(folder / f"part-{unit:06d}.npz").read_bytes() for unit in range(3)]
        assert len(whole) == 3
        for unit in (2, 1):
            sent = pickle.loads(pickle.dumps(study))
            assert sent.prepare()(unit) == whole[unit]
            assert (folder / f"part-{unit:06d}.npz").read_bytes() == parts[unit]


def test_a_run_that_was_cut_short_goes_on(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = ran(Explaining(asked(net)), Wanted.to(net.parent / "want.npz"))
    counted: list[str] = []
    explain = Presenter.explain

    def noted(self: Presenter, sample: Any, target: Any = None) -> Any:
        counted.append(sample.name)
        return explain(self, sample, target)

    monkeypatch.setattr(Presenter, "explain", noted)

    def stop(done: int, whole: int) -> None:
        assert whole == COUNT
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(Explaining(asked(net, "cut")), Wanted.to(net.parent / "r.npz"), tick=stop)
    assert sorted(path.name for path in (net.parent / "cut/unfinished").iterdir()) == ["journal", "part-000000.npz"]
    assert not (net.parent / "cut/results.json").exists()
    assert not (net.parent / "r.npz").exists()
    counted.clear()
    found = ran(Explaining(asked(net, "cut")), Wanted.to(net.parent / "r.npz"))
    once_more = [f"x_{i:03d}" for i in range(16)]  # what heatmaps are compared with
    assert counted == [f"x_{i:03d}" for i in range(16, 32)] + once_more + [f"x_{i:03d}" for i in range(32, 40)]
    assert found.results == want.results
    assert without_run(net.parent / "cut") == without_run(net.parent / "out")
    assert (net.parent / "r.npz").read_bytes() == (net.parent / "want.npz").read_bytes()
    assert [path.name for path in (net.parent / "cut").iterdir()] == ["results.json"]


def test_pictures_stay_in_their_folder_whatever_samples_are_called(net: Path) -> None:
    """A column has names with slashes, for instance; all keep their names in the results, and each has a picture."""
    names = ["../../out", "a/b", "a_b", "/x", ".", "..", "summary", "x" * 300, "é" * 150, "a\\b", "a?b", "plain"]
    lines = [",".join(["id", *"abcdef"]), *(f'"{name}",' + ",".join("123456") for name in names)]
    (net.parent / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    before = {path.name for path in net.parent.iterdir()}
    found = onnxdtd.explain(net, [net.parent / "t.csv"], Request(preset="lrp-0"), net.parent / "in/out", sample_id="id")
    assert [result.name for result in found.results] == names
    there = {path.name for path in (net.parent / "in/out").iterdir()}
    assert {result.picture for result in found.results} | {"results.json", "features.csv", "summary.png"} == there
    assert len(there) == len(names) + 3
    assert found.results[-1].picture == "plain.png"
    assert {path.name for path in net.parent.iterdir()} == before | {"in"}
    assert not [name for name in there if name.startswith(".")]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_file_whose_name_is_no_text(net: Path) -> None:
    file = os.fsencode(net.parent) + b"/\xff.npy"
    Path(os.fsdecode(file)).write_bytes((net.parent / "x.npy").read_bytes())
    onnxdtd.explain(net, [os.fsdecode(file)], Request(preset="lrp-0"), net.parent / "out", save=net.parent / "r.csv")
    assert without_run(net.parent / "out")["samples"][0]["name"] == "?_000"


def test_a_second_run_in_a_folder_leaves_the_first_alone(net: Path) -> None:
    """It is refused; the first has its journal and its arrays still."""
    refused: list[str] = []

    def again(done: int, whole: int) -> None:
        if done == 20:
            with pytest.raises(RequestError) as error:
                ran(Explaining(asked(net)))
            refused.append(str(error.value))

    done = ran(Explaining(asked(net)), Wanted.to(net.parent / "r.npz"), tick=again)
    assert refused == [f"{net.parent / 'out'}: another run is writing there; wait for it, or give another -o"]
    assert done.count == COUNT


def test_what_is_done_stays_where_a_run_cannot_be_written(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk, for instance: the message says where it is."""
    wanted = Wanted.to(net.parent / "r.npz")

    def full(path: Path, *rest: Any) -> None:
        with atomic.streamed(path):
            raise OSError(28, "No space left on device")

    with pytest.raises(RequestError, match="No space left") as ended:
        ran(Explaining(asked(net)), replace(wanted, saved=replace(wanted.saved, write=full)))
    assert ended.value.__notes__ == [f"what is done is in {net.parent / 'out/unfinished/journal'}"]
    assert (net.parent / "out/unfinished/journal").exists()
    monkeypatch.setattr(Presenter, "explain", None)
    assert ran(Explaining(asked(net)), wanted).count == COUNT


def test_a_run_goes_on_only_where_the_same_is_asked(net: Path) -> None:
    one = Explaining(asked(net)).identity()
    assert Explaining(asked(net)).identity() == one
    changes: list[dict[str, Any]] = [
        {"request": Request(preset="lrp-0")},
        {"request": Request(preset="lrp-epsilon", target=1)},
        {"threads": None},
        {"keep": False},
        {"pictures": True},
        {"concepts": ("y", 3)},
    ]
    for changed in changes[:-1]:
        assert Explaining(asked(net, **changed)).identity() != one, changed
    np.save(net.parent / "x.npy", np.load(net.parent / "x.npy") + np.float32(0.125))
    assert Explaining(asked(net)).identity() != one, "other data"


def test_what_cannot_be_asked_for_leaves_nothing(net: Path) -> None:
    x = np.load(net.parent / "x.npy")
    x[30] = np.nan
    np.save(net.parent / "x.npy", x)
    with pytest.raises(RequestError, match="x_030: the array for 'x' has values that are NaN") as ended:
        ran(Explaining(asked(net)), Wanted.to(net.parent / "r.npz"))
    assert not ended.value.__notes__  # that say where something is
    assert list((net.parent / "out").iterdir()) == []
    heard: list[str] = []
    files = (Given(net.parent / "x.npy"), Given(net.parent / "y.npy"))
    np.save(net.parent / "y.npy", x[:2])
    found = ran(Explaining(asked(net, files=files)), skip=heard.append)
    assert (found.count, len(heard)) == (COUNT + 1, 1), "of several files all else is explained"


def test_a_heatmap_of_a_later_unit_is_compared_with_those_of_the_first(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one of a class says so as well, in its picture too, though that was drawn when nobody knew."""
    drawn: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda path, x, r, caption, *_: drawn.append((path.name, caption.notes)))
    x = np.random.default_rng(4).normal(size=(COUNT, 6)).astype(np.float32)
    x[1:30] = x[0]  # no other input
    np.save(net.parent / "x.npy", x)
    study = Explaining(asked(net, request=Request(preset="gradient", target=1), pictures=True))
    found = ran(study, Wanted.to(net.parent / "r.npz"))
    codes = [[flag.code for flag in result.flags] for result in found.results]
    assert codes == [["same"], *[[]] * 29, *[["same"]] * 10]
    assert found.results[0].flags[0].text.startswith("the same heatmap as that of x_030 (cosine 1.0000)")
    assert [notes for name, notes in drawn if name == "x_000.png"] == [(), (found.results[0].flags[0].text,)]
    assert [flag.text[:36] for flag in found.results[35].flags] == ["the same heatmap as that of x_000 (c"]
    with np.load(net.parent / "r.npz") as saved:
        assert saved["flags"].tolist() == [" ".join(each) for each in codes]


def test_those_alone_in_their_class_do_not_hide_that_all_are_the_same(net: Path) -> None:
    """Of a linear model the gradient is a matter of the class: a class that is met late has nothing to be compared with."""
    weights = numpy_helper.to_array(onnx.load(net).graph.initializer[0])
    x = np.random.default_rng(5).normal(size=(COUNT, 6)).astype(np.float32)
    x[:16] = x[:16] + 9 * weights[:, 0]  # the first unit has one class
    x[20] = 9 * weights[:, 2]
    np.save(net.parent / "x.npy", x)
    found = ran(Explaining(asked(net, request=Request(preset="gradient"))))
    assert found.remarks[-1].startswith("all inputs, or those of a class, have the same heatmap")


def test_pictures_are_read_when_their_turn_comes(tmp_path: Path) -> None:
    """One that is damaged is skipped then; names are those of the files, told apart."""
    made = model(
        [node("Flatten", "x", "f"), node("MatMul", "f w", "y")],
        {"x": ["n", 1, 8, 8]},
        ["y"],
        {"w": np.eye(64, 3, dtype=np.float32)},
    )
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / folder / "p.png")
    (tmp_path / "b/bad.png").write_bytes(b"no picture")
    heard: list[str] = []
    found = onnxdtd.explain(
        tmp_path / "net.onnx",
        [tmp_path / "a", tmp_path / "b"],
        Request(low=0.0, high=1.0, target=0),
        tmp_path / "out",
        pictures=False,
        skip=heard.append,
    )
    assert [(result.name, result.picture) for result in found.results] == [("p", ""), ("p_1", "")]
    assert len(heard) == 1
    assert "bad.png: not a readable picture" in heard[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.json"]


def test_only_the_first_results_are_kept_in_memory(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxdtd.study.stream.MOST_RESULTS", 5)
    found = ran(Explaining(asked(net, keep=False)))
    assert (found.count, len(found.results)) == (COUNT, 5)
    assert len(without_run(net.parent / "out")["samples"]) == COUNT


@pytest.mark.parametrize(
    ("samples", "entries", "size"), [(1, 64, 16), (1000, 64, 16), (1001, 64, 128), (1001, 2**17, 16), (1001, 2**15, 32)]
)
def test_units_are_larger_in_long_runs_of_small_samples(samples: int, entries: int, size: int) -> None:
    assert per_unit(samples, entries) == size
    assert home.SAMPLES == 16


def test_the_head_of_the_results_says_where_they_come_from(net: Path) -> None:
    ran(Explaining(asked(net)))
    found = json.loads((net.parent / "out/results.json").read_text(encoding="utf-8"))
    told = found["provenance"]
    assert list(found) == ["provenance", "samples"]
    assert told["models"][0]["name"] == "net.onnx"
    assert len(told["models"][0]["source_sha256"]) == 64
    assert told["presets"] == ["lrp-epsilon"]
    assert told["rules"] == {"lrp-epsilon": {"y_node": "epsilon(epsilon=1e-06)"}}
    assert told["data"]["samples"] == COUNT
    assert told["run"]["command"] == "onnxdtd.explain"
    sample = found["samples"][3]
    assert sample["missing"] == sample["logit"] - sample["relevance_sum"]
    assert list(sample)[:5] == ["name", "picture", "preset", "predicted", "predicted_label"]


def test_standard_input_is_read_by_one_process(net: Path) -> None:
    with pytest.raises(OnnxdtdError, match="standard input is read by one process; leave out --workers and --engine"):
        onnxdtd.explain(net, ["-"], out=net.parent / "out", workers=2)


@pytest.mark.slow
def test_several_processes_give_the_same_bytes(net: Path) -> None:
    for workers in (1, 2):
        ticks: list[tuple[int, int]] = []
        out, save = net.parent / f"out{workers}", net.parent / f"{workers}.npz"
        tick = lambda *done, ticks=ticks: ticks.append(done)
        onnxdtd.explain(net, [net.parent / "x.npy"], out=out, save=save, pictures=False, workers=workers, tick=tick)
        assert ticks[-1] == (COUNT, COUNT)
    assert (net.parent / "1.npz").read_bytes() == (net.parent / "2.npz").read_bytes()
    assert without_run(net.parent / "out1") == without_run(net.parent / "out2")
