"""Random inputs, and models of ids or with a named tensor through everything that is done with compiled models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths
from onnx import ModelProto, numpy_helper, parser

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study.bench import bench
from onnxdtd.study.draws import Draws
from onnxdtd.study.evaluate import evaluate
from onnxdtd.study.explain import explain
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.verify import verify

CPU = ["CPUExecutionProvider"]
RNG = np.random.default_rng(0)
ROWS, WIDTH = 9, 4
WEIGHTS = {"E": eighths(RNG, ROWS, WIDTH), "P": eighths(RNG, 2, WIDTH), "W": eighths(RNG, WIDTH, 5), "U": eighths(RNG, 5, 3)}
HEAD = "h = MatMul(e, W) r = Relu(h) m = ReduceMean<axes=[1], keepdims=0>(r) y = MatMul(m, U)"
IDS = RNG.integers(0, ROWS, (3, 5))


def net(inputs: str, nodes: str, **constants: Any) -> ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => (float[n, 3] y) {{ {nodes} {HEAD} }}'
    proto = parser.parse_model(text)
    used = {name for n in proto.graph.node for name in n.input}
    known = {**WEIGHTS, **constants}
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in known.items() if k in used)
    for i, made in enumerate(proto.graph.node):
        made.name = f"node_{i}"
    return proto


def tokens(length: str | int = "l", kind: str = "int64") -> ModelProto:
    return net(f"{kind}[n, {length}] ids", "i = Cast<to=7>(ids) e = Gather(E, i)")


def determinants() -> ModelProto:
    """No rule is known below ``e``."""
    return net("float[n, 5, 4, 2, 2] x", "e = Det(x)")


def saved(proto: ModelProto, folder: Path, name: str = "net.onnx") -> Path:
    onnx.save(proto, folder / name)
    return folder / name


STEPS = "t = Transpose<perm=[1, 0, 2]>(g) s = RNN<hidden_size=4>(t, K, L) q = Squeeze(s, one) e = Transpose<perm=[1, 0, 2]>(q)"
RECURRENT = {"B": eighths(RNG, 256, WIDTH), "K": eighths(RNG, 1, 4, WIDTH), "L": eighths(RNG, 1, 4, 4), "one": [1]}


# ------------------------------------------------------------------------------------------------------------ random inputs


@pytest.mark.parametrize(("way", "most", "drawn"), [("g = Identity(x)", 40, 32), ("g = Slice(x, nil, far, one, two)", 5, 8)])
def test_sequences_are_as_long_as_the_file_takes(way: str, most: int, drawn: int) -> None:
    """The layer reads them, or every second step; the predictor takes any."""
    proto = net("float[n, l, 4] x", f"{way} {STEPS}", nil=[0], far=[2**31], two=[2], **RECURRENT)
    explainer = Explainer(onnxdtd.compile(proto, "lrp-epsilon", most_steps=most), CPU)
    assert Draws(explainer, lambda feeds: None)(np.random.default_rng(0))["x"].shape == (1, drawn, 4)


def test_texts_are_cut_to_the_steps_of_the_file(tmp_path: Path) -> None:
    """Which is said, with the way out."""
    proto = net("uint8[n, l] ids", f"i = Cast<to=7>(ids) g = Gather(B, i) {STEPS}", **RECURRENT)
    presenter = Presenter(Explainer(onnxdtd.compile(proto, "lrp-epsilon", most_steps=5), CPU))
    (tmp_path / "t.txt").write_text("of bytes")
    ((sample,),) = [list(presenter.feeding.read(tmp_path / "t.txt"))]
    told = "3 tokens at the end of the text are left out: the file was compiled for 5 steps; --most-steps 8 takes all"
    assert told in [flag.text for flag in presenter.explain(sample).result.flags]


def test_ids_are_drawn_from_the_table_and_masks_are_ones() -> None:
    """The table of kinds has two rows."""
    nodes = "w = Gather(E, ids) k = Gather(P, kinds) s = Add(w, k) f = Cast<to=1>(mask) u = Unsqueeze(f, two) e = Mul(s, u)"
    proto = net("int64[n, l] ids, int64[n, l] kinds, int64[n, l] mask", nodes, two=[2])
    explainer = Explainer(onnxdtd.compile(proto), CPU)
    drawn = Draws(explainer, lambda feeds: explainer(feeds))(np.random.default_rng(0), 64)
    assert {name: set(values.ravel()) for name, values in drawn.items()} == {
        "ids": {float(i) for i in range(ROWS)},
        "kinds": {0.0, 1.0},
        "mask": {1.0},
    }


def test_ids_that_are_raised_before_they_look_up_stay_in_the_table() -> None:
    explainer = Explainer(onnxdtd.compile(net("int64[n, 5] ids", "i = Add(ids, one) e = Gather(E, i)", one=1)), CPU)
    drawn = Draws(explainer, lambda feeds: explainer(feeds))(np.random.default_rng(0), 64)
    assert 0 < drawn["ids"].max() < ROWS - 1
    explainer(drawn)


# ------------------------------------------------------------------------------------------------------- what is done with them


@pytest.mark.parametrize(
    ("proto", "options"),
    [(tokens(), {}), (tokens(5, "uint8"), {"preset": "gradient-x-input"}), (determinants(), {"from_": ["e"], "preset": "dtd"})],
    ids=["ids", "bytes", "from"],
)
def test_verified(proto: ModelProto, options: dict[str, Any], tmp_path: Path) -> None:
    source = saved(proto, tmp_path)
    onnxdtd.save(onnxdtd.compile(source, **options), tmp_path / "c.onnx", source)
    report = verify(tmp_path / "c.onnx", source)
    assert report.failed == []
    checks = {check.name: check for check in report.checks}
    assert checks["shapes"].passed
    assert checks["relevance"].passed
    assert checks["samples"].passed


def test_ids_are_explained_from_lists(tmp_path: Path) -> None:
    """Of any length, one picture each; ids are not scaled, and relevance is that of the file."""
    (tmp_path / "ids.json").write_text(json.dumps([[1, 2, 3], [4, 5, 6, 7, 8]]))
    (tmp_path / "ids.csv").write_text("first;second;third\n1;2;3\n")
    paths = [tmp_path / "ids.json", tmp_path / "ids.csv"]
    found = explain(saved(tokens(), tmp_path), paths, Request(preset="lrp-epsilon"), tmp_path / "out", save=tmp_path / "r.npz")
    assert [r.name for r in found.results] == ["ids_000", "ids_001", "ids"]
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    explainer = Explainer(onnxdtd.compile(tokens(), "lrp-epsilon"), CPU)
    with np.load(tmp_path / "r.npz") as relevance:
        for name, ids in (("ids_000", [[1, 2, 3]]), ("ids_001", [[4, 5, 6, 7, 8]])):
            np.testing.assert_allclose(relevance[f"relevance/ids/{name}"], explainer(ids).relevance["ids"][0], atol=1e-6)
    assert found.results[0].relevance_sum == found.results[2].relevance_sum


def test_a_named_tensor_is_shown_with_its_own_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda *args: drawn.append(args))
    x = eighths(RNG, 2, 5, 4, 2, 2)
    np.save(tmp_path / "x.npy", x)
    request = Request(preset="lrp-epsilon", from_=["e"])
    found = explain(saved(determinants(), tmp_path), [tmp_path / "x.npy"], request, tmp_path / "out", save=tmp_path / "r.npz")
    for (_, shown, relevance, _, form, *_), values, result in zip(drawn, np.linalg.det(x), found.results, strict=True):
        np.testing.assert_allclose(shown, values, atol=1e-5)
        assert relevance.shape == shown.shape == tuple(form.shape) == (5, 4)
        assert relevance.sum() == pytest.approx(result.relevance_sum, rel=1e-5)
    with np.load(tmp_path / "r.npz") as saved_:
        assert saved_["relevance/e"].shape == (2, 5, 4)


def test_measured(tmp_path: Path) -> None:
    """Ids are replaced by 0 or by lot; what has no meaning for them is refused."""
    np.savez(tmp_path / "data.npz", x=IDS)
    model, data = saved(tokens(5), tmp_path), tmp_path / "data.npz"
    timed = bench(model, batches=[2], rounds=1)
    assert timed[0].batch == 2
    evaluated = lambda fill: evaluate(
        [model],
        data,
        presets=["lrp-epsilon"],
        settings=onnxdtd.Settings(fill=fill, steps=5),
        journal=tmp_path / fill,
    )
    curves = evaluated("zero")["models"][0]
    assert curves["samples"] == 3
    assert curves["remarks"] == []
    assert evaluated("noise")["models"][0]["samples"] == 3
    with pytest.raises(RequestError, match="--fill mean: ids have none; use zero"):
        evaluated("mean")


def test_an_audit_of_ids_leaves_out_small_noise(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=IDS)
    model = saved(tokens(5), tmp_path)
    (entry,) = onnxdtd.audit(model, tmp_path / "data.npz", presets=["lrp-epsilon"], journal=tmp_path / "j")["presets"]
    assert entry["left_out"]["stability"] == "no noise on ids is small"
    assert entry["perturbation"]["fill"] == "0"


def test_what_comes_behind_a_named_tensor_is_measured_by_itself(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=IDS)
    with pytest.raises(RequestError, match=r"--from h: what is measured .* onnx\.utils\.extract_model"):
        evaluate([saved(tokens(5), tmp_path)], tmp_path / "data.npz", Request(from_=["h"]), journal=tmp_path / "j")
