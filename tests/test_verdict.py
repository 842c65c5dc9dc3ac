"""What an audit says, for numbers from both sides of every threshold."""

from __future__ import annotations

from typing import Any

import pytest

from onnxdtd.verdict import best, blindness, verdict

HOLD = {"positive_biases": 0.0, "bias_share": 0.0, "outside": 0.0, "negative_logits": 0.0, "dead": 0.0}


def row(layer: str, value: float | None) -> dict[str, Any]:
    return {"layer": layer, "ssim": value, "spearman": value, "spearman_abs": value}


def similarity(value: float | None) -> dict[str, Any]:
    return {"cosine": value, "spearman": value, "ssim": None}


def checked(**shares: float) -> dict[str, Any]:
    whole = {
        "layer": "a",
        "rule": "z+",
        "neurons": 50,
        "hinge": 1.0,
        "domain": 1.0,
        "region": 1.0,
        "residual": 0.0,
        "passes": 1.0,
    }
    return whole | shares


def entry(**changes: Any) -> dict[str, Any]:
    """Of a preset about which everything is known and nothing is special."""
    made: dict[str, Any] = {
        "preset": "dtd",
        "rules": {"a": "zB", "b": "z+"},
        "preconditions": HOLD,
        "chance": 0.1,
        "roots": [],
        "similarity": {"gradient-x-input": similarity(0.5)},
        "class_sensitivity": similarity(0.5),
        "cascading": [row("d", 0.7), row("c", 0.6), row("b", 0.5), row("a", 0.4)],
        "independent": [row("b", 0.4), row("a", 0.6)],
        "convergence": [{"start": "d", "layers": [{"layer": "a", "cosine": 0.5, "random": 0.1}]}],
    }
    return made | changes


def said(topic: str, **changes: Any) -> list[str]:
    return [sentence for sentence in verdict(entry(**changes)) if sentence.startswith(f"{topic}:")]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.99, "independent of it"),
        (0.989, "depends on it little"),
        (0.8, "depends on it little"),
        (0.799, "depends on it;"),
        (0.0, "depends on it;"),
        (None, "not measured"),
    ],
)
def test_class(value: float | None, words: str) -> None:
    (sentence,) = said("Class", class_sensitivity=similarity(value))
    assert words in sentence
    assert value is None or f"{value:.3f}" in sentence


@pytest.mark.parametrize(
    ("value", "words", "noise"),
    [
        (0.99, "independent of them", False),
        (0.989, "depends on them little", False),
        (0.8, "depends on them little", False),
        (0.799, "depends on them;", False),
        (0.3, "depends on them;", False),
        (0.299, "depends on them;", True),
        (None, "not measured", False),
    ],
)
def test_upper_layers(value: float | None, words: str, noise: bool) -> None:
    """The row of the layer in the middle counts, and the others do not."""
    rows = [row("d", 0.123), row("c", value), row("b", 0.123), row("a", 0.123)]
    (sentence,) = said("Upper layers", cascading=rows)
    assert words in sentence
    assert ("Binder" in sentence) is noise
    assert value is None or ("down to c" in sentence and f"{value:.3f}" in sentence)


def test_no_layers_to_draw() -> None:
    (sentence,) = said("Upper layers", cascading=[])
    assert "not measured" in sentence


@pytest.mark.parametrize(("value", "mentioned"), [(0.5, True), (0.499, False), (None, False)])
def test_what_was_not_learned(value: float | None, mentioned: bool) -> None:
    assert bool(said("Training", cascading=[row("b", 0.6), row("a", value)])) is mentioned


def test_layers_that_matter() -> None:
    rows = [row("c", 0.99), row("b", 0.25), row("a", 0.75)]
    matter, idle = said("Layers", independent=rows)
    assert "of b matter most and those of c least" in matter
    assert "0.750 and 0.010" in matter
    assert "independent of the weights of c" in idle
    assert len(said("Layers", independent=[row("c", 0.989), *rows[1:]])) == 1
    assert not said("Layers", independent=rows[:1])


@pytest.mark.parametrize(
    ("value", "words"), [(0.99, "same pattern"), (0.98, "most of"), (0.8, "most of"), (0.79, "still shows")]
)
def test_convergence(value: float, words: str) -> None:
    layers = [{"layer": "b", "cosine": 0.1, "random": 0.1}, {"layer": "a", "cosine": value, "random": 0.25}]
    (sentence,) = said("Convergence", convergence=[{"start": "d", "layers": layers}, {"start": "c", "layers": layers[:1]}])
    assert words in sentence
    assert "at d arrives at a" in sentence
    assert f"{value:.3f}; random vectors: 0.250" in sentence


def test_convergence_where_it_means_something() -> None:
    """Along a single channel every cosine is 1, and along three many are large."""
    layers = [{"layer": name, "cosine": cos, "random": chance} for name, cos, chance in [("b", 0.5, 0.299), ("a", 1.0, 0.3)]]
    (sentence,) = said("Convergence", convergence=[{"start": "d", "layers": layers}])
    assert "arrives at b with a cosine of 0.500" in sentence
    assert not said("Convergence", convergence=[{"start": "d", "layers": layers[1:]}])


def test_convergence_unknown() -> None:
    assert not said("Convergence", convergence=[])
    assert not said("Convergence", convergence=[{"start": "d", "layers": [{"layer": "a", "cosine": None, "random": None}]}])


def test_same_as_another_method() -> None:
    both = {"gradient-x-input": similarity(0.99991), "sensitivity": similarity(0.4)}
    (same,) = said("Same as gradient-x-input", similarity=both)
    assert "equals it" in same
    (others,) = said("Other methods", similarity=both)
    assert "gradient-x-input" not in others
    assert "0.400 with sensitivity" in others
    assert not said("Same as gradient-x-input", similarity={"gradient-x-input": similarity(0.9999)})
    assert not said("Same as sensitivity", preset="sensitivity", similarity={"sensitivity": similarity(1.0)})


def test_small_heatmaps() -> None:
    assert not said("Size", chance=0.149)
    (sentence,) = said("Size", chance=0.15)
    assert "about 0.15" in sentence


def test_root_points_are_counted_by_neurons() -> None:
    rows = [checked(neurons=30, passes=0.0, region=0.0), checked(neurons=10, passes=1.0)]
    (sentence,) = said("Root points", roots=rows)
    assert "25% of 40 root points pass" in sentence
    assert "25% in the linear region" in sentence
    assert "100% on the hinge" in sentence
    assert not said("Root points", roots=[])
    assert not said("Root points", roots=[checked(neurons=0)])


@pytest.mark.parametrize(
    ("value", "words"), [(0.99, "describe"), (0.98, "the others"), (0.5, "the others"), (0.49, "most neurons")]
)
def test_root_points(value: float, words: str) -> None:
    (sentence,) = said("Root points", roots=[checked(passes=value)])
    assert words in sentence


def test_conditions() -> None:
    (sentence,) = said("Conditions of deep Taylor decomposition")
    assert "hold" in sentence
    broken = HOLD | {"positive_biases": 0.43, "outside": 0.004, "negative_logits": 0.1}
    (sentence,) = said("Conditions of deep Taylor decomposition", preconditions=broken)
    for words in ("43% of the neurons", "0.4% of the first", "10% of the explained"):
        assert words in sentence
    (sentence,) = said("Conditions of deep Taylor decomposition", preconditions=HOLD | {"outside": None})
    assert "hold" in sentence
    assert not said("Conditions of deep Taylor decomposition", preconditions=broken, rules={"a": "epsilon"})
    assert not said("Conditions of deep Taylor decomposition", preconditions=None)


def test_balance() -> None:
    assert not said("Balance", preconditions=HOLD | {"bias_share": 0.009, "dead": -0.009})
    (sentence,) = said("Balance", preconditions=HOLD | {"bias_share": -0.07, "dead": 0.01})
    assert "biases added 7% of the logit" in sentence
    assert "1% of the logit was lost" in sentence
    (sentence,) = said("Balance", preconditions=HOLD | {"bias_share": 0.07})
    assert "biases kept 7% of the logit" in sentence
    assert not said("Balance", preconditions=HOLD | {"bias_share": None, "dead": None})


def test_blindness_is_a_mean() -> None:
    assert blindness(entry()) == pytest.approx((0.5 + 0.6) / 2)
    assert blindness(entry(cascading=[])) == 0.5
    assert blindness(entry(cascading=[], class_sensitivity=similarity(None))) is None


def test_best_is_the_least_blind() -> None:
    plain, blind = entry(preset="plain"), entry(preset="blind", class_sensitivity=similarity(0.9))
    found = best([blind, plain])
    assert found is not None
    assert found["preset"] == "plain"
    assert "is 0.550 (next: blind, 0.750)" in found["why"]
    assert "Binder" not in found["why"]
    assert "little" not in found["why"]
    assert best([entry(cascading=[], class_sensitivity=similarity(None))]) is None


@pytest.mark.parametrize(("value", "little"), [(0.8, True), (0.79, False)])
def test_best_of_the_blind(value: float, little: bool) -> None:
    found = best([entry(class_sensitivity=similarity(value), cascading=[row("a", value)])])
    assert found is not None
    assert "no other preset" in found["why"]
    assert ("depends on them little" in found["why"]) is little


def test_best_may_be_a_derivative_or_equal_one() -> None:
    low = {"cascading": [row("a", 0.2)], "class_sensitivity": similarity(0.1)}
    found = best([entry(), entry(preset="sensitivity", rules={}, **low)])
    assert found is not None
    assert found["preset"] == "sensitivity"
    for words in ("As a derivative", "dtd (0.550) fares best", "Binder"):
        assert words in found["why"]
    found = best([entry(preset="lrp-0", similarity={"gradient-x-input": similarity(1.0)})])
    assert found is not None
    assert "equals gradient-x-input" in found["why"]
    twins = [
        entry(preset="gradient-x-input", rules={}, **low),
        entry(preset="lrp-0", similarity={"gradient-x-input": similarity(1.0)}),
    ]
    found = best(twins)
    assert found is not None
    assert found["preset"] == "gradient-x-input"
    assert "equals lrp-0" in found["why"]
