"""The command line: what it prints and what it writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commands import BOUNDS, CNN, MODELS, ROOT, compiled, dense, digits, linear, metadata, predict, rgb
from terminal import Ran, ran

from onnxdtd import Explainer, __version__
from onnxdtd.cli import commands as cli
from onnxdtd.contract import KEPT

BUNDLED = ("digits_mlp", "digits_cnn", "digits_resnet", "digits_sklearn", "two_digits")


# ---- compile ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUNDLED)
def test_compile_writes_a_model_that_predicts_the_same(name: str, run: Callable[..., Ran], tmp_path: Path) -> None:
    out = tmp_path / "explained.onnx"
    done = run("compile", MODELS / f"{name}.onnx", *BOUNDS, "-o", out)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith(f"{out}: preset dtd, ")
    assert " layers, explains '" in done.err
    assert list(tmp_path.iterdir()) == [out]
    onnx.checker.check_model(onnx.load(out), full_check=True)

    with np.load(MODELS / ("two_digits_samples.npz" if name == "two_digits" else "digits_samples.npz")) as samples:
        x = samples["image"].reshape(-1, 64) if name == "digits_sklearn" else samples["image"]
    expected = predict(MODELS / f"{name}.onnx", x)
    actual = predict(out, x)
    for want, have in zip(expected, actual, strict=False):
        np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-6)
    relevance, logit = actual[len(expected) :]
    assert relevance.shape == x.shape
    assert logit.shape == x.shape[:1]
    assert np.isfinite(relevance).all()


@pytest.mark.parametrize("weights", ["reference", "copy"])
def test_compile_refers_to_weights_or_copies_them(weights: str, run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "in/net.onnx"
    source.parent.mkdir()
    onnx.save(linear(), source, save_as_external_data=True, location="net.data", size_threshold=0)
    done = run("compile", source, "-o", tmp_path / "out.onnx", "--weights", weights)
    assert done.code == 0, done.err
    assert (tmp_path / "net.data").exists() == (weights == "copy")
    refused = run("compile", source, "-o", tmp_path / "out.onnx", "--weights", "both")
    assert refused.code == 2
    assert "weights 'both': give 'reference' or 'copy'" in refused.err


def test_compile_says_what_it_stepped_back_over_and_what_it_changed(run: Callable[..., Ran], tmp_path: Path) -> None:
    done = run("compile", MODELS / "digits_resnet.onnx", *BOUNDS, "-o", tmp_path / "out.onnx")
    assert "before Softmax" in done.err
    source = tmp_path / "old.onnx"
    onnx.save(linear(opset='"" : 11'), source)
    done = run("compile", source)
    assert "operator set 11 converted to 17" in done.err


def test_the_default_output_is_named_after_model_and_preset(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = shutil.copy(CNN, tmp_path / "net.v2.onnx")
    (tmp_path / "mine.toml").write_text("[preset.mine]\nlayers = [{ rule = 'w2' }]\n")
    for preset in ("dtd", "lrp-epsilon", str(tmp_path / "mine.toml")):
        assert run("compile", source, "--preset", preset).code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["mine.toml", "net.v2.dtd.onnx", "net.v2.lrp-epsilon.onnx", "net.v2.mine.onnx", "net.v2.onnx"]


def test_output_may_be_relative_and_replaces_an_older_result(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"older")
    assert run("compile", CNN, "-o", "net.onnx").code == 0
    assert "relevance" in {o.name for o in onnx.load(tmp_path / "net.onnx").graph.output}


def test_target(run: Callable[..., Ran], tmp_path: Path) -> None:
    x = digits()
    by_input = Explainer(compiled(run, tmp_path, *BOUNDS, "--target", "input"))
    fixed = compiled(run, tmp_path, *BOUNDS, "--target", 3)
    highest = compiled(run, tmp_path, *BOUNDS, "--target", "argmax")
    for path, meant, target in ((fixed, 3, 3), (highest, None, "argmax")):
        explainer = Explainer(path)
        assert list(explainer.inputs) == ["image"]
        assert metadata(path)["target"] == target
        assert metadata(path)["target_input"] is None
        np.testing.assert_array_equal(explainer(x).relevance["image"], by_input(x, meant).relevance["image"])


def test_a_contrast_is_called_one(run: Callable[..., Ran], tmp_path: Path) -> None:
    done = run("compile", CNN, *BOUNDS, "--contrast", "rest", "-o", tmp_path / "made.onnx")
    assert ", against the rest" in done.err
    np.save(tmp_path / "x.npy", digits()[:1])
    for path, word in ((tmp_path / "made.onnx", "lead"), (CNN, "logit")):
        head = run("explain", path, tmp_path / "x.npy", "-o", tmp_path / "out").out.splitlines()[1]
        assert word in head.split()


def test_contrast(run: Callable[..., Ran], tmp_path: Path) -> None:
    """What starts at the logits is the winner's logit and minus the runner-up's."""
    explainer = Explainer(compiled(run, tmp_path, *BOUNDS, "--contrast", "--keep", "logits"))
    result = explainer(digits())
    logits, start = result.outputs["logits"], result.kept["logits"]
    ranked = np.sort(logits)
    np.testing.assert_allclose(start.sum(1), ranked[:, -1] - ranked[:, -2], rtol=1e-6)
    np.testing.assert_array_equal((start != 0).sum(1), 2)
    assert explainer.metadata["contrast"] == "runner-up"
    rest = Explainer(compiled(run, tmp_path, *BOUNDS, "--contrast", "rest"))(digits()).logit
    np.testing.assert_allclose(rest, ranked[:, -1] - ranked[:, :-1].mean(1), rtol=1e-5)


def test_keep_and_output(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = compiled(run, tmp_path, "--keep", "relu", "--keep", "relu_1", "--output", "logits")
    result = Explainer(path)(digits())
    assert sorted(result.kept) == ["relu", "relu_1"]
    names = [o.name for o in onnx.load(path).graph.output]
    assert names == ["logits", "relevance", "relevance/relu", "relevance/relu_1", "logit"]
    inner = compiled(run, tmp_path, "--output", "linear")
    assert metadata(inner)["output"] == metadata(inner)["logits"] == "linear"


def test_set_overrides_rules_and_the_last_match_wins(run: Callable[..., Ran], tmp_path: Path) -> None:
    settings = ("--set", "node_*=epsilon(epsilon=0.5)", "--set", "node_linear=gamma(gamma=0.125)")
    rules = metadata(compiled(run, tmp_path, *settings))["rules"]
    assert rules["node_linear"] == "gamma(gamma=0.125)"
    assert {rules[name] for name in rules if name != "node_linear"} == {"epsilon(epsilon=0.5)"}


def test_a_preset_of_ones_own(run: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[rule.half]\nterms = ["x w+"]\n[preset.one]\nlayers = [{ first = true, rule = "w2" }, { rule = "half" }]\n'
        '[preset.two]\nlayers = [{ rule = "z" }]\n'
    )
    assert set(metadata(compiled(run, tmp_path, "--preset", f"{file}:one"))["rules"].values()) == {"w2", "half"}
    assert set(metadata(compiled(run, tmp_path, "--preset", f"{file}:two"))["rules"].values()) == {"z"}


def test_an_entry_of_a_file_that_matches_nothing_is_a_note(run: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[preset.p]\nlayers = [{ op = 'ConvTranspose', rule = 'w2' }, { rule = 'z' }]\n")
    note = f"note: {file}, [preset.p], entry 1: matches no layer of this model\n"
    few = tmp_path / "few.npy"
    np.save(few, digits()[:1])
    for command in (("compile", CNN, "-o", tmp_path / "c.onnx"), ("inspect", CNN), ("explain", CNN, few, "-o", tmp_path)):
        done = run(*command, "--preset", file)
        assert done.code == 0
        assert note in done.err
        assert "matches no layer" not in done.out
    assert run("inspect", CNN, "--preset", file, "--json").json["notes"] == [note.removeprefix("note: ").rstrip()]


def test_allow_is_recorded(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "sin.onnx"
    onnx.save(linear(body="h = Hardmax(x) y = MatMul(h, w)"), source)
    path = compiled(run, tmp_path, "--allow", "Hardmax=pass", source=source)
    assert metadata(path)["allow"] == {"Hardmax": "pass"}
    assert "Hardmax" in [n.op_type for n in onnx.load(path).graph.node]


@pytest.mark.parametrize(
    ("preprocessing", "low", "high"),
    [
        (("--range", 0, 1), "0", "1"),
        (("--range", 0, 255), "0", "255"),
        (("--range", -1, 1, "--mean", "0.5", "--std", "0.5"), "-3", "1"),
        (("--mean", "0.5", "--std", "0.25"), "-2", "2"),
        (("--range", 0, 8, "--mean", "1,2,4", "--std", "1,2,4"), "-1,-1,-1", "7,3,1"),
        (("--range", 0, 8, "--mean", "1,2,4"), "-1,-2,-4", "7,6,4"),
        (("--range", 0, 8, "--std", "1,2,4"), "0,0,0", "8,4,2"),
    ],
)
def test_bounds_from_preprocessing(
    preprocessing: tuple[object, ...], low: str, high: str, run: Callable[..., Ran], tmp_path: Path
) -> None:
    """--range, --mean and --std give the same model as the --low and --high that they amount to, and are recorded besides."""
    source = tmp_path / "rgb.onnx"
    onnx.save(rgb(), source)
    direct = compiled(run, tmp_path, "--low", low, "--high", high, source=source)
    derived = compiled(run, tmp_path, *preprocessing, source=source)
    given, amount = onnx.load(derived), onnx.load(direct)
    assert given.graph == amount.graph
    assert metadata(direct)["preprocessing"] is None
    assert metadata(derived) == {**metadata(direct), "preprocessing": metadata(derived)["preprocessing"]}
    asked = {str(option).removeprefix("--") for option in preprocessing if str(option).startswith("--")}
    found = metadata(derived)["preprocessing"]
    assert {key for key, value in found.items() if value is not None} == {*asked, "colours"}
    assert metadata(direct)["bounds"]["high"] == json.loads(f"[{high}]" if "," in high else high)


# ---- inspect ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUNDLED)
def test_inspect_shows_what_its_json_holds(name: str, run: Callable[..., Ran]) -> None:
    path = MODELS / f"{name}.onnx"
    table, data = run("inspect", path, *BOUNDS), run("inspect", path, *BOUNDS, "--json")
    assert (table.code, table.err, data.code, data.err) == (0, "", 0, "")
    found = data.json
    assert found["model"] == str(path)
    assert found["preset"] == "dtd"
    assert [i["name"] for i in found["inputs"]] == [onnx.load(path).graph.input[0].name]
    assert f"output: {found['output']}" in table.out
    assert f"logits: {found['logits']}" in table.out
    lines = table.out.splitlines()
    for step in found["steps"]:
        line = next(line for line in lines if f" {step['node']} " in line)
        for text in (step["op"].replace("+", " + "), step["rule"] or step["kind"], *step["input"]):
            assert text in line
    assert [step["rule"] for step in found["steps"] if step["first"]] == ["zB"]
    assert not (path.parent / f"{name}.dtd.onnx").exists()


def test_inspect_shows_nodes_alike_as_one_and_all_of_them_when_asked(run: Callable[..., Ran], tmp_path: Path) -> None:
    body = " ".join(f"m{i} = MatMul(h{i - 1}, v) h{i} = Relu(m{i})" for i in range(1, 15))
    proto = linear(body=f"h0 = Identity(x) {body} y = MatMul(h14, w)")
    proto.graph.initializer.append(dense(4, 4, name="v"))
    for node in proto.graph.node:
        node.name = f"/block{node.output[0][1:] or 0}/{node.op_type}" if node.output[0] != "y" else "/head/MatMul"
    source = tmp_path / "deep.onnx"
    onnx.save(proto, source)
    short, long = run("inspect", source, "--preset", "lrp-epsilon"), run("inspect", source, "--preset", "lrp-epsilon", "--all")
    found = run("inspect", source, "--preset", "lrp-epsilon", "--json").json["steps"]
    assert re.search(r"│ /block\*/MatMul +│ 13 +│ MatMul +│ epsilon +│", short.out)
    assert f"{len(found)} nodes in " in short.out
    assert "rules: epsilon is epsilon(epsilon=1e-06)" in short.out
    assert "--all lists each" in short.out
    assert "--all" not in long.out
    for step in found:
        assert f"│ {step['node']} " in long.out
    assert ("h9" in short.out, "h9" in long.out) == (False, True)


def test_inspect_names_the_nodes_without_a_kernel(run: Callable[..., Ran], tmp_path: Path) -> None:
    proto = onnx.load(CNN)
    pools = [n.name for n in proto.graph.node if n.op_type == "MaxPool"]
    proto.opset_import[0].version = 22
    onnx.save(proto, tmp_path / "late.onnx")
    late, early = run("inspect", tmp_path / "late.onnx", "--provider", "cuda"), run("inspect", CNN, "--provider", "cuda")
    lines = [line for line in late.out.splitlines() if "none for version 22 of the operator" in line]
    assert [pool in line for pool, line in zip(pools, lines, strict=True)] == [True, True]
    assert re.search(r"without a CUDA kernel in ONNX Runtime [\d.]+: 2 of the \d+ nodes of .*, 0 of the \d+ added", late.out)
    assert re.search(r"without a CUDA kernel in ONNX Runtime [\d.]+: 0 of the \d+ nodes of .*, 0 of the \d+ added", early.out)


def test_inspect_names_scores_that_two_outputs_come_from_once(run: Callable[..., Ran], tmp_path: Path) -> None:
    proto = linear(body="z = MatMul(x, w) y = Softmax<axis = 1>(z) label = ArgMax<axis = 1, keepdims = 0>(z)")
    proto.graph.node.add(op_type="Identity", input=["label"], output=["named"])
    labels = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["n"]) for name in ("label", "named")]
    proto.graph.output.extend(labels)
    onnx.save(proto, tmp_path / "two.onnx")
    assert len(run("inspect", tmp_path / "two.onnx", "--json").json["outputs"]) == 3
    assert run("inspect", tmp_path / "two.onnx").out.count("can be explained: 'z' ") == 1


def test_inspect_marks_the_first_layer_and_tensors_that_are_never_negative(run: Callable[..., Ran]) -> None:
    steps = {step["node"]: step for step in run("inspect", CNN, "--json").json["steps"]}
    assert steps["node_conv2d"]["first"]
    assert steps["node_conv2d"]["rule"] == "w2"
    assert steps["node_conv2d"]["input"] == ["[batch,1,8,8]"]
    assert steps["node_conv2d_1"]["input"][0].endswith(">=0")


def test_inspect_lists_everything_that_is_not_supported(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Status 1, since that was the question; compile answers the same with status 2."""
    source = tmp_path / "odd.onnx"
    onnx.save(
        linear(body="a = Hardmax(x) b = Hardmax(a) c = RandomNormalLike(b) d = Hardmax(c) e = Hardmax(d) y = MatMul(e, w)"),
        source,
    )
    shown, asked = run("inspect", source), run("compile", source)
    assert (shown.code, shown.out, asked.code) == (1, "", 2)
    assert shown.err == asked.err
    assert shown.err.startswith("onnxdtd: 5 nodes ")
    assert "Hardmax x4" in shown.err
    assert "..." in shown.err
    assert "RandomNormalLike x1 (c)" in shown.err
    assert "--allow RandomNormalLike=pass" in shown.err
    data = run("inspect", source, "--json")
    assert (data.code, data.err) == (1, "")
    assert [(p["op"], p["node"]) for p in data.json["problems"]] == [
        ("Hardmax", "a"),
        ("Hardmax", "b"),
        ("RandomNormalLike", "c"),
        ("Hardmax", "d"),
        ("Hardmax", "e"),
    ]


# ---- rules -----------------------------------------------------------------------------------------------------------


def test_rules_lists_every_rule_and_preset(run: Callable[..., Ran], tmp_path: Path) -> None:
    shown, data = run("rules"), run("rules", "--json")
    assert (shown.code, shown.err, data.code, data.err) == (0, "", 0, "")
    listed = data.json
    assert {"w2", "z", "z+", "zB", "flat"} <= {rule["name"] for rule in listed["rules"]}
    assert {"dtd", "lrp-0", "lrp-epsilon", "epsilon-plus"} <= {preset["name"] for preset in listed["presets"]}
    for rule in listed["rules"]:
        for key in ("name", "equation", "domain", "source"):
            assert rule[key]
            assert rule[key] in shown.out
    tables = dict(re.findall(r"\(method (\S+)\)\n(.*?)\n└", shown.out, re.S))
    for preset in listed["presets"]:
        assert f"│ {preset['name']} " in tables[preset["method"]]
        assert preset["rules"]
    assert len(tables) > 1

    file = tmp_path / "mine.toml"
    file.write_text('[rule.half]\nterms = ["x w+"]\nequation = "E [x] = 1"\n[preset.mine]\nlayers = [{ rule = "half" }]\n')
    more = run("rules", "--file", file)
    assert more.out.startswith(
        "half\n    E [x] = 1\nmine (a preset, method lrp)\n    every layer: half\n    what is not linear: "
    )
    assert "dtd" not in more.out
    found = run("rules", "--file", file, "--json").json
    assert [entry["name"] for kind in ("rules", "presets") for entry in found[kind]] == ["half", "mine"]
    both = """
[rule.both]
branches = [
  { terms = ["x w", "- l w+"], scale = 2, bias = "b" },
  { terms = ["1 w2"], scale = -1, when = "y<0" },
  { terms = ["1 w2"], scale = -1, when = "y>0" },
]
"""
    file.write_text('[rule.down]\ndirection = ["x-l w>0"]' + both)
    spelled = run("rules", "--file", file).out
    told = "q = x w - l w+, times 2, bias b; q = 1 w2, times -1, y<0; q = 1 w2, times -1, y>0"
    assert spelled == f"down\n    q = (x-l) w+\nboth\n    {told}\n", "rules without an equation are told by their terms"


def test_rules_shows_what_some_say(run: Callable[..., Ran]) -> None:
    shown = run("rules", "dtd").out
    assert shown.startswith("dtd (a preset, method lrp)\n    Deep Taylor decomposition, ")
    layers = (
        "layers of family affine: flat",
        "the first layer, if it has bounds: zB",
        "the first layer: w2",
        "every other layer: z+",
    )
    assert "\n".join(f"    {line}" for line in layers) in shown
    both = run("rules", "gradient").out
    assert re.findall(r"^gradient.*", both, re.M) == ["gradient", "gradient (a preset, method gradient)"]
    word = [preset["name"] for preset in run("rules", "ZEILER", "--json").json["presets"]]
    assert word == ["deconvnet"]
    done = run("rules", "lrp-epsilom")
    assert (done.code, done.out) == (2, "")
    assert "no preset and no rule 'lrp-epsilom'; did you mean 'lrp-epsilon'" in done.err


# ---- the whole script ------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_option(run: Callable[..., Ran]) -> None:
    done = run("--help")
    assert done.code == 0
    for command in ("compile", "inspect", "explain", "rules"):
        assert command in done.out
        assert run(command, "--help").code == 0
    text = run("compile", "--help").out
    for name in ("--preset", "--set", "--low", "--high", "--range", "--mean", "--std", "--target", "--contrast", "--output"):
        assert name in text
    assert "--keep" in text
    assert "--allow" in text


def test_python_m_onnxdtd(tmp_path: Path) -> None:
    done = ran("compile", CNN, *BOUNDS, "-o", tmp_path / "out.onnx", cwd=tmp_path)
    assert (done.code, done.out) == (0, "")
    assert metadata(tmp_path / "out.onnx")["version"] == __version__
    done = ran("compile", "missing.onnx", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (2, "", "onnxdtd: missing.onnx: no such file\n")


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_a_closed_pipe_is_no_error(options: list[str]) -> None:
    """As behind `onnxdtd rules | head -n 1`; 1 would say that a check failed."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "onnxdtd", "rules", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=env, check=False, timeout=60)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in (0, -signal.SIGPIPE)


def test_what_nobody_foresaw_is_one_message_too(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("onnxdtd.method.toml.Library.__init__", fails)
    done = run("rules")
    assert done.code == 2
    assert done.err.startswith("onnxdtd: internal error, please report it: ZeroDivisionError: surprise (")
    monkeypatch.setenv("ONNXDTD_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["onnxdtd", "rules"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_without_a_command_the_help_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["onnxdtd"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "─ Explain ─" in "".join(capsys.readouterr())


def balance(count: int, kept: float = 0.0) -> list[dict[str, Any]]:
    """A ledger of layers, of which the middle one keeps something."""
    rows = [
        {"step": f"conv{i}", "rule": "z+", "in": 1.0, "out": 1.0, "negative": 0.0, "positive_biases": 0.0} for i in range(count)
    ]
    rows[count // 2]["out"] -= kept
    return [{**dict.fromkeys(KEPT, 0.0), "dead": row["in"] - row["out"], **row} for row in rows]


@pytest.mark.parametrize(
    ("rows", "every", "expected"),
    [
        (balance(3), False, ["in = out", "conv0", "conv2"]),
        (balance(3, 0.25), False, ["│ conv1 │ z+   │ 100.00% │ 75.00%  │ 25.00% │", "conv2"]),
        (balance(60), False, ["60 layers hand on all that they take in; --all lists each"]),
        (
            balance(60, 0.25),
            False,
            ["│ conv30 │ z+   │ 100.00% │ 75.00% │ 25.00% │", "59 layers keep less or nothing; --all lists each"],
        ),
        (balance(60, 0.25), True, ["conv0", "conv59"]),
    ],
)
def test_verify_shows_the_layers_that_keep_relevance(
    rows: list[dict[str, Any]], every: bool, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cli._print_balance(rows, every)
    shown = capsys.readouterr().out
    assert all(text in shown for text in expected), shown
    assert (len(rows) > 20 and not every) == ("conv59" not in shown and "conv2 " not in shown)


def test_verify_shows_a_recurrent_layer_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    """What all of its steps keep, not each of them; ``--all`` has each."""
    rows = [{**row, "step": f"dtd/lstm/forward/{i}/Gemm", "dead": 0.01} for i, row in enumerate(balance(30))]
    filled = [{**row, "bias_sum": 0.0, "negative_inputs": 0.0, "outside": 0.0, "unaccounted": 0.0} for row in rows]
    cli._print_balance(filled, False)
    shown = capsys.readouterr().out
    assert re.search(r"dtd/lstm/forward/\*/Gemm\* │ 30 │ z\+ .* │ 30\.00% │", shown), shown
    assert "×: the steps of a recurrent layer, with all that they keep; --all lists each" in shown
    cli._print_balance(filled, True)
    assert "dtd/lstm/forward/29/Gemm " in capsys.readouterr().out


def test_the_command_that_serves_a_page_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the folder has a space in its name."""
    monkeypatch.setattr("onnxdtd.report.site.write", lambda *_: 14_000_000)
    cli.page_command(Path("m.onnx"), Path("my site"))
    assert " ".join(capsys.readouterr().out.split()).endswith("python -m http.server -d 'my site'")
