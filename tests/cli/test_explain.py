"""``onnxdtd explain`` as a user meets it: its numbers, its table, its pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commands import BOUNDS, CNN, MODELS, compiled, digits, linear, metadata, model, picture, predict, rgb, snapshot
from PIL import Image
from terminal import Ran

from onnxdtd import Explainer

unseen = pytest.mark.usefixtures("unseen")  # what is asked for is not what pictures look like


def explained(run: Callable[..., Ran], tmp_path: Path, *args: object) -> list[dict[str, Any]]:
    """The contents of results.json, which is also what --json prints."""
    folder = tmp_path / "explained"
    done = run("explain", *args, "-o", folder, "--json")
    assert (done.code, done.err) == (0, "")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert done.json == results
    for result in results["samples"]:
        with Image.open(folder / result["picture"]) as picture:
            picture.load()
            assert picture.format == "PNG"
    return results["samples"]


def close(have: Sequence[dict[str, Any]], want: Sequence[dict[str, Any]], but: Sequence[str] = ()) -> None:
    """Equal words, and numbers that agree to rounding."""
    for a, b in zip(have, want, strict=True):
        for key in set(a) - set(but):
            assert a[key] == (pytest.approx(b[key], rel=1e-5, abs=1e-6) if isinstance(b[key], float) else b[key]), key


@unseen
def test_explain_gives_the_numbers_of_the_explainer(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = compiled(run, tmp_path, *BOUNDS, "--keep", "logits")
    x = digits()[::4]
    np.savez(tmp_path / "some.npz", image=x)
    results = explained(run, tmp_path, CNN, tmp_path / "some.npz", *BOUNDS)
    direct = Explainer(path)(x)
    logits, relevance = direct.outputs["logits"], direct.relevance["image"].reshape(len(x), -1)
    assert len(results) == len(x)
    for i, result in enumerate(results):
        assert result["name"] == f"some_{i:03d}"
        assert result["predicted"] == result["target"] == logits[i].argmax()
        assert result["predicted_label"] == result["target_label"] == f"class {logits[i].argmax()}"
        assert result["score"] == pytest.approx(logits[i].max(), rel=1e-5)
        assert result["logit"] == pytest.approx(logits[i].max(), rel=1e-5)
        assert result["relevance_sum"] == pytest.approx(relevance[i].sum(), rel=1e-4)
        assert result["relevance_min"] == pytest.approx(relevance[i].min(), abs=1e-5)
        assert result["relevance_max"] == pytest.approx(relevance[i].max(), rel=1e-4)
        assert result["preset"] == "dtd"


@unseen
@pytest.mark.parametrize("options", [(), ("--target", 7), ("--contrast", "--preset", "lrp-epsilon")], ids=str)
def test_explain_gives_the_same_from_source_and_from_a_compiled_model(
    options: tuple[object, ...], run: Callable[..., Ran], tmp_path: Path
) -> None:
    few = tmp_path / "few.npy"
    np.save(few, digits()[::10])
    path = compiled(run, tmp_path, *BOUNDS, *options)
    close(explained(run, tmp_path, path, few), explained(run, tmp_path, CNN, few, *BOUNDS, *options), but=["logit"])


@unseen
def test_explain_takes_a_target_for_a_compiled_model(run: Callable[..., Ran], tmp_path: Path) -> None:
    few = tmp_path / "few.npy"
    np.save(few, digits()[::10])
    path = compiled(run, tmp_path, *BOUNDS, "--target", "input")
    chosen = explained(run, tmp_path, path, few, "--target", 4)
    assert {r["target"] for r in chosen} == {4}
    assert {r["predicted"] for r in chosen} != {4}
    close(chosen, explained(run, tmp_path, CNN, few, *BOUNDS, "--target", 4))


@unseen
def test_the_prediction_does_not_depend_on_what_is_explained(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Not where the model is explained by its integer label, nor by an inner tensor."""
    np.save(tmp_path / "few.npy", digits()[::10].reshape(-1, 64))
    source = MODELS / "digits_sklearn.onnx"
    label, _ = predict(source, digits()[::10].reshape(-1, 64))
    for options in ((), ("--output", "label"), ("--output", "label", "--target", 3), ("--output", "label", "--contrast")):
        results = explained(run, tmp_path, source, tmp_path / "few.npy", *BOUNDS, *options)
        assert [r["predicted"] for r in results] == label.tolist()


@unseen
def test_explain_by_contrast_reports_the_lead(run: Callable[..., Ran], tmp_path: Path) -> None:
    few = tmp_path / "few.npy"
    np.save(few, digits()[::10])
    (logits,) = predict(CNN, digits()[::10])
    ranked = np.sort(logits)
    leads = [r["logit"] for r in explained(run, tmp_path, CNN, few, *BOUNDS, "--contrast")]
    np.testing.assert_allclose(leads, ranked[:, -1] - ranked[:, -2], rtol=1e-5)


def test_explain_prints_a_table_and_where_the_files_are(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("few.npy", digits()[:3])
    done = run("explain", CNN, "few.npy", *BOUNDS)
    assert (done.code, done.err) == (0, "")
    for word in ("predicted", "explained: the class that is predicted", "logit", "Σ relevance", "few_002", "class 1"):
        assert word in done.out
    assert done.out.splitlines()[-1] == "3 heatmaps (preset dtd) and results.json are in explanations"
    names = sorted(path.name for path in Path("explanations").iterdir())
    assert names == ["few_000.png", "few_001.png", "few_002.png", "results.json"]


@unseen
def test_explain_shows_the_first_20_rows(run: Callable[..., Ran], tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.tile(digits(), (3, 1, 1, 1)))
    done = run("explain", CNN, tmp_path / "many.npy", *BOUNDS, "-o", tmp_path / "out")
    assert "(the first 20 of 60 shown)" in done.out
    assert "many_019" in done.out
    assert "many_020" not in done.out
    assert len(json.loads((tmp_path / "out/results.json").read_text())["samples"]) == 60


@unseen
def test_the_table_has_the_first_synonym_and_the_file_the_whole_label(run: Callable[..., Ran], tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"n{i:08d} digit{i}, number {i}" for i in range(9)) + "\ndigit0, twice")
    np.save(tmp_path / "x.npy", digits()[:12])
    done = run("explain", CNN, tmp_path / "x.npy", *BOUNDS, "--labels", labels, "-o", tmp_path / "out", "--target", "3")
    found = json.loads((tmp_path / "out/results.json").read_text())["samples"]
    assert {result["target_label"] for result in found} == {"n00000003 digit3, number 3"}
    assert "│ digit3 " in done.out
    assert "\nexplained: digit3\n" in done.out, "one for all is no column"
    assert "┃ explained" not in done.out
    assert "number 3" not in done.out
    assert "│ n00000000 digit0, number 0 " in done.out, "of two classes of one name the whole label"


@unseen
def test_labels(run: Callable[..., Ran], tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", digits()[:1])
    (tmp_path / "names.txt").write_text("null\nEins\n2\n3\n4\n5\n6\n7\nacht\n9\n\n", encoding="utf-8")
    (tmp_path / "names.json").write_text('{"0": "ноль", "9": "девять"}', encoding="utf-8")
    for file, name in (("names.txt", "null"), ("names.json", "ноль")):
        (result,) = explained(run, tmp_path, CNN, tmp_path / "zeros.npy", *BOUNDS, "--labels", tmp_path / file)
        assert result["predicted_label"] == name
    options = ("--labels", tmp_path / "names.txt", "--target", "acht", "-o", tmp_path / "out", "--json")
    done = run("explain", CNN, tmp_path / "zeros.npy", *options)
    assert [(r["target"], r["target_label"]) for r in done.json["samples"]] == [(8, "acht")]
    assert done.err == "note: target acht: taken for a label, 'acht', of the class with the index 8\n"


@unseen
def test_no_contrast_is_advised_where_there_is_none(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A bare logit has no runner-up; of several, the advice is given."""
    np.save(tmp_path / "x.npy", np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32))
    for classes, advised in ((1, False), (2, True)):
        onnx.save(linear(classes=classes), tmp_path / "m.onnx")
        done = run("explain", tmp_path / "m.onnx", tmp_path / "x.npy", "--target", 0, "-o", tmp_path / "out")
        assert f"explained {('outputs', 'logits')[advised]} are below zero" in done.out
        assert ("--contrast" in done.out) == advised


def test_a_quantity_is_no_class(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Nothing is predicted, no logit explained, and its amounts have all digits before the point."""
    onnx.save(linear(classes=1), tmp_path / "m.onnx")
    (tmp_path / "x.csv").write_text("a,b,c,d\n1000,2000,30000,4\n90,2,20000,1\n")
    asked = ("explain", tmp_path / "m.onnx", tmp_path / "x.csv", "--no-pictures", "-o", tmp_path / "out")
    assert "x.csv: its numbers are taken as they are" in run(*asked, "--mean", "0.5").err
    for options, head in (((), "output"), (("--reference", 20000), "less 20000")):
        told = run(*asked, *options).out
        assert f" {head} " in told
        assert ("the output less 20000" in told) == bool(options)
        for word in ("predicted", "logit", "class", "score", "e+0"):
            assert word not in told.partition("lrp-epsilon:")[0], word


@unseen
def test_labels_of_the_model(run: Callable[..., Ran], tmp_path: Path) -> None:
    """They are shown and taken for targets, of source and compiled model alike; it is said how one was understood."""
    source = model(
        "label, s = ai.onnx.ml.LinearClassifier <classlabels_ints = [3, 7, 9], coefficients = [1.0, 2.0, 0.0, 1.0, -1.0, 0.5], "
        'intercepts = [0.1, 0.2, 0.3], post_transform = "SOFTMAX"> (x)',
        "(float[n, 2] x) => (int64[n] label, float[n, 3] s)",
        '"" : 17, "ai.onnx.ml" : 3',
    )
    onnx.save(source, tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.array([[1, 1], [-1, 0.5], [-1, -1]], np.float32))
    assert "labels: 3, 7, 9" in run("inspect", tmp_path / "net.onnx").out
    assert run("inspect", tmp_path / "net.onnx", "--json").json["labels"] == ["3", "7", "9"]
    assert run("compile", tmp_path / "net.onnx", "--target", "input", "-o", tmp_path / "made.onnx").code == 0
    for path, *preset in ((tmp_path / "net.onnx", "--preset", "lrp-epsilon"), (tmp_path / "made.onnx",)):
        shown = [r["predicted_label"] for r in explained(run, tmp_path, path, tmp_path / "x.npy", *preset)]
        assert shown == [str(label) for label in predict(source, np.load(tmp_path / "x.npy"))[0]]
        for target, words in {"7": "a label, '7', of the class with the index 1", "1": "an index, that of '7'"}.items():
            done = run("explain", path, tmp_path / "x.npy", "--target", target, "-o", tmp_path / "out", "--json", *preset)
            assert {(r["target"], r["target_label"]) for r in done.json["samples"]} == {(1, "7")}
            assert done.err == f"note: target {target}: taken for {words}\n"
        (tmp_path / "names.txt").write_text("three\nseven\nnine\n")
        names = ("--labels", tmp_path / "names.txt")
        done = run("explain", path, tmp_path / "x.npy", *names, "-o", tmp_path / "out", "--json", *preset)
        assert {r["predicted_label"] for r in done.json["samples"]} <= {"three", "seven", "nine"}
        assert done.err == "note: the labels given are shown in place of the model's own, 3, 7, 9\n"
    done = run("compile", tmp_path / "net.onnx", "--target", "9", "-o", tmp_path / "nine.onnx")
    assert "note: target 9: taken for a label, '9', of the class with the index 2" in done.err
    assert metadata(tmp_path / "nine.onnx")["target"] == 2


@pytest.mark.parametrize("label", ["[red]", "[/b]", "ca$h", "$\\frac$", "猫", "a_b^{c", "line\u2028break", "100 %", "  "])
def test_labels_are_printed_and_drawn_as_they_are(label: str, run: Callable[..., Ran], tmp_path: Path) -> None:
    """No markup, no formulas, no warnings about fonts."""
    np.save(tmp_path / "zeros.npy", digits()[:1])
    (tmp_path / "names.json").write_text(json.dumps([label] * 10), encoding="utf-8")
    done = run("explain", CNN, tmp_path / "zeros.npy", *BOUNDS, "--labels", tmp_path / "names.json", "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert label.strip() in done.out


def test_names_of_nodes_and_files_are_printed_as_they_are(run: Callable[..., Ran], tmp_path: Path) -> None:
    made = linear()
    made.graph.node[0].name = "[bold]/layer[/bold]"
    source = tmp_path / "[red]net.onnx"
    onnx.save(made, source)
    np.save(tmp_path / "$x$ [i].npy", np.ones((1, 4), np.float32))
    shown = run("inspect", source)
    assert shown.code == 0
    assert "[bold]/layer[/bold]" in shown.out
    assert "[red]net.onnx" in shown.out
    (result,) = explained(run, tmp_path, source, tmp_path / "$x$ [i].npy", "--preset", "lrp-epsilon")
    assert result["picture"] == "$x$ [i].png"
    assert "$x$ [i]" in run("explain", source, tmp_path / "$x$ [i].npy", "-o", tmp_path / "out").out


@unseen
def test_pictures_of_any_size_arrays_and_folders(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A picture, its uint8 array, and the floats they stand for are explained alike."""
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = (digits()[4, 0] * 255).round().astype(np.uint8)
    scaled = (pixels / 255).astype(np.float32)
    picture(folder / "gray.png", pixels)
    picture(folder / "colour.bmp", np.repeat(pixels[..., None], 3, -1))
    picture(folder / "wide.gif", np.pad(pixels, ((0, 0), (5, 5))))
    np.save(folder / "float.npy", scaled)
    np.save(folder / "bytes.npy", pixels)
    np.savez(folder / "named.npz", image=scaled[None, None], other=np.zeros(3))
    (folder / "ignored.txt").write_text("not an input")
    results = explained(run, tmp_path, CNN, folder, *BOUNDS, "--resize", 8)
    names = ["bytes", "colour", "float", "gray", "named", "wide"]
    assert [r["name"] for r in results] == names
    (first, *others) = results
    close(others, [first] * len(others), but=["name", "picture"])
    big = picture(tmp_path / "big.png", np.kron(pixels, np.ones((30, 40), np.uint8)))
    (result,) = explained(run, tmp_path, CNN, big, *BOUNDS)
    assert result["predicted"] == 2


@unseen
def test_pictures_take_their_scaling_from_the_compiled_model_or_from_the_options(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    shot = picture(tmp_path / "shot.png", (digits()[4, 0] * 255).round().astype(np.uint8))
    path = compiled(run, tmp_path, "--range", 0, 2, "--std", 2)
    from_metadata = explained(run, tmp_path, path, shot)
    close(from_metadata, explained(run, tmp_path, path, shot, *BOUNDS))
    close(from_metadata, explained(run, tmp_path, CNN, shot, *BOUNDS), but=["logit"])


@unseen
def test_bgr(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "rgb.onnx"
    onnx.save(rgb(), source)
    pixels = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    straight = picture(tmp_path / "straight.png", pixels)
    turned = picture(tmp_path / "turned.png", np.ascontiguousarray(pixels[..., ::-1]))
    want = explained(run, tmp_path, source, turned, *BOUNDS)
    close(explained(run, tmp_path, source, straight, *BOUNDS, "--bgr"), want, but=["name", "picture"])


@unseen
def test_inputs_of_one_name_get_pictures_of_their_own(run: Callable[..., Ran], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", digits()[:1])
    results = explained(run, tmp_path, CNN, tmp_path / "a", tmp_path / "b", tmp_path / "a/x.npy")
    assert [r["picture"] for r in results] == ["x.png", "x_1.png", "x_2.png"]


@unseen
def test_explain_reads_external_weights_wherever_it_is_called(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    onnx.save(onnx.load(CNN), home / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=256)
    np.save(tmp_path / "few.npy", digits()[:2])
    monkeypatch.chdir(tmp_path)
    before = snapshot(home)
    want = explained(run, tmp_path, CNN, "few.npy", *BOUNDS)
    close(explained(run, tmp_path, home / "net.onnx", "few.npy", *BOUNDS), want)
    assert snapshot(home) == before


def test_sentences_are_about_the_first_samples_and_the_file_about_all(run: Callable[..., Ran], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", digits()[:7])
    done = run("explain", CNN, tmp_path / "x.npy", *BOUNDS, "--concepts", "relu", "--no-pictures", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert done.out.count(": channels ") == 5
    assert "results.json says so of the others as well" in done.out
    assert len([s for s in json.loads((tmp_path / "out/results.json").read_text())["samples"] if s["concepts"]]) == 7
