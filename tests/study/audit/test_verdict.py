"""What an audit says, for numbers from both sides of every threshold."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from onnxdtd.method.toml import Library
from onnxdtd.study.audit import limits
from onnxdtd.study.audit.preconditions import deep_taylor
from onnxdtd.study.audit.verdict import verdict

HOLD = {"positive_biases": 0.0, "bias_share": 0.0, "outside": 0.0, "negative_inputs": 0.0, "negative_logits": 0.0, "dead": 0.0}
BETTER, LEVEL, WORSE = ({"mean": value, "error": 0.1, "n": 20} for value in (1.0, 0.1, -1.0))


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
        "deep_taylor": True,
        "preconditions": HOLD,
        "chance": 0.1,
        "silent": {"n": 20, "empty": 0, "broken": 0, "flat": 0},
        "means": {name: {"n": 20} for name in ("classes", "input", "upper")},
        "left_out": {},
        "input_dependence": {"cosine": 0.5, "samples": 0.3},
        "stability": {"noise": 0.02, "heatmap": 0.05, "score": 0.01},
        "perturbation": {"gain": BETTER, "abpc": BETTER, "aopc": BETTER, "fill": "0"},
        "roots": [],
        "similarity": {"gradient-x-input": similarity(0.5)},
        "class_sensitivity": similarity(0.5),
        "cascading": [row("d", 0.7), row("c", 0.6), row("b", 0.5), row("a", 0.4)],
        "independent": [row("b", 0.4), row("a", 0.6)],
        "convergence": [{"start": "d", "layers": [{"layer": "a", "cosine": 0.5, "random": 0.1, "positions": 1}]}],
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
    ],
)
def test_class(value: float | None, words: str) -> None:
    (sentence,) = said("Class", class_sensitivity=similarity(value))
    assert words in sentence
    assert f"{value:.3f}" in sentence


@pytest.mark.parametrize(
    ("value", "words", "noise"),
    [
        (0.99, "independent of them", False),
        (0.989, "depends on them little", False),
        (0.8, "depends on them little", False),
        (0.799, "depends on them;", False),
        (0.3, "depends on them;", False),
        (0.299, "depends on them;", True),
    ],
)
def test_upper_layers(value: float | None, words: str, noise: bool) -> None:
    """The row of the layer in the middle counts, and the others do not."""
    rows = [row("d", 0.123), row("c", value), row("b", 0.123), row("a", 0.123)]
    (sentence,) = said("Upper layers", cascading=rows)
    assert words in sentence
    assert ("Binder" in sentence) is noise
    assert "down to c" in sentence
    assert f"{value:.3f}" in sentence


@pytest.mark.parametrize(
    ("topic", "measure", "absent"),
    [
        ("Class", "class_sensitivity", {"class_sensitivity": {}}),
        ("Input", "input_dependence", {"input_dependence": {}}),
        ("Stability", "stability", {"stability": {}}),
        ("Upper layers", "randomised", {"cascading": []}),
        ("Rank correlations, and what rests on them", "spearman", {"chance": 0.46}),
        ("Root points", "roots", {}),
        ("Convergence", "convergence", {"convergence": []}),
        ("Perturbation", "perturbation", {"perturbation": {}}),
    ],
)
def test_what_is_left_out_has_its_reason(topic: str, measure: str, absent: dict[str, Any]) -> None:
    assert said(topic, **absent, left_out={measure: "of something"}) == [f"{topic}: left out, since of something."]


@pytest.mark.parametrize(
    ("value", "samples", "words"),
    [
        (0.99, 0.5, "independent of it"),
        (0.989, 0.5, "depends on it little"),
        (0.8, 0.799, "depends on it little"),
        (0.8, 0.8, "depends on it;"),
        (0.799, 0.1, "depends on it;"),
        (0.999, 0.99, "cannot be told"),
    ],
)
def test_the_sample(value: float, samples: float, words: str) -> None:
    (sentence,) = said("Input", input_dependence={"cosine": value, "samples": samples})
    assert sentence.startswith(f"Input: {words}")
    assert f"{value:.3f}" in sentence
    assert f"{samples:.3f}" in sentence


@pytest.mark.parametrize(
    ("value", "words"), [(0.1, "steady"), (0.11, "moves"), (0.499, "moves"), (0.5, "unsteady"), (7, "unsteady")]
)
def test_noise(value: float, words: str) -> None:
    (sentence,) = said("Stability", stability={"noise": 0.02, "heatmap": value, "score": 0.013})
    assert sentence.startswith(f"Stability: {words}; noise of 2%")
    assert f"the heatmap by {value:.0%}" in sentence
    assert "score by 1%" in sentence


@pytest.mark.parametrize(
    ("gain", "abpc", "words"),
    [
        (BETTER, BETTER, "better than a random order;"),
        (LEVEL, LEVEL, "not told from a random order;"),
        (WORSE, WORSE, "worse than a random order;"),
        (BETTER, LEVEL, "better than a random order in AOPC, not told from it in ABPC;"),
        (LEVEL, WORSE, "worse than a random order in ABPC, not told from it in AOPC;"),
        (WORSE, BETTER, "worse than a random order in AOPC, better in ABPC;"),
        (BETTER | {"error": None}, BETTER | {"error": None}, "on one sample nothing is told from chance;"),
    ],
)
def test_perturbation(gain: dict[str, Any], abpc: dict[str, Any], words: str) -> None:
    (sentence,) = said("Perturbation", perturbation={"gain": gain, "abpc": abpc, "fill": "0"})
    assert sentence.startswith(f"Perturbation: {words}")
    assert "replaced by 0" in sentence


def test_numbers_of_some_samples_say_so() -> None:
    """Where the others' heatmaps are zero, say."""
    some = {"classes": {"n": 3}, "input": {"n": 4}, "upper": {"n": 5}}
    for topic, count in (("Class", 3), ("Input", 4), ("Upper layers", 5)):
        assert "samples" not in "".join(said(topic)).replace("different samples", "").replace("the samples,", "")
        assert f", on {count} of 20 samples" in "".join(said(topic, means=some))


def test_silent_heatmaps() -> None:
    assert not said("Heatmaps")
    some = {"n": 20, "empty": 1, "broken": 2, "flat": 0}
    zero, broken = said("Heatmaps", silent=some)
    assert zero.startswith("Heatmaps: 1 of 20 is zero everywhere")
    assert broken.startswith("Heatmaps: 2 of 20 are NaN or infinite")
    (sentence,) = said("Heatmaps", silent=some | {"empty": 20, "broken": 0})
    assert sentence == "Heatmaps: all 20 are zero everywhere: nothing is explained there."
    (sentence,) = said("Heatmaps", silent={"n": 1, "empty": 1, "broken": 0, "flat": 0})
    assert sentence.startswith("Heatmaps: the only one is zero")
    nothing = verdict(entry(silent=some | {"empty": 18}))
    assert [sentence.partition(":")[0] for sentence in nothing] == ["Heatmaps"] * 2 + [
        "Conditions of deep Taylor decomposition"
    ]


@pytest.mark.parametrize(("value", "mentioned"), [(0.5, True), (0.499, False), (None, False)])
def test_what_was_not_learned(value: float | None, mentioned: bool) -> None:
    assert bool(said("Training", cascading=[row("b", 0.6), row("a", value)])) is mentioned


def test_layers_that_matter() -> None:
    rows = [row("c", 0.99), row("b", 0.25), row("a", 0.75)]
    matter, idle = said("Layers", independent=rows)
    assert matter.startswith("Layers: depends on the weights of b most, on those of c least; drawn anew alone, they lower")
    assert "by 0.750 and 0.010." in matter
    assert "independent of the weights of c" in idle
    assert len(said("Layers", independent=[row("c", 0.989), *rows[1:]])) == 1
    (idle,) = said("Layers", independent=rows[:1])
    assert "independent of the weights of c" in idle
    assert not said("Layers", independent=rows[1:2])
    assert not said("Layers", independent=[row("b", 0.25), row("a", 0.255)]), "no one of them matters more"
    (left,) = said("Layers", independent=[row("b", None) | {"idle": True}, row("a", 0.5)])
    assert left.startswith("Layers: left out b, whose weights change no output")


@pytest.mark.parametrize(
    ("value", "words"), [(0.99, "same pattern"), (0.98, "most of"), (0.8, "most of"), (0.79, "still shows")]
)
def test_convergence(value: float, words: str) -> None:
    layers = [{"layer": "b", "cosine": 0.1, "random": 0.1}, {"layer": "a", "cosine": value, "random": 0.25, "positions": 1}]
    (sentence,) = said("Convergence", convergence=[{"start": "d", "layers": layers}, {"start": "c", "layers": layers[:1]}])
    assert words in sentence
    assert "at d arrives at a" in sentence
    assert f"{value:.3f}, signs aside (random vectors: 0.250)" in sentence
    layers[1]["positions"] = 9
    (sentence,) = said("Convergence", convergence=[{"start": "d", "layers": layers}])
    assert ("every position gets its one mix" in sentence) is (value == 0.99)


def test_convergence_where_it_means_something() -> None:
    """Along a single channel every cosine is 1, and along three many are large."""
    layers = [{"layer": name, "cosine": cos, "random": chance} for name, cos, chance in [("b", 0.5, 0.299), ("a", 1.0, 0.3)]]
    below = [{"start": "e", "layers": layers[1:]}, {"start": "d", "layers": layers}]
    (sentence,) = said("Convergence", convergence=below)
    assert "injected at d arrives at b with a median cosine of 0.500" in sentence
    assert not said("Convergence", convergence=[{"start": "d", "layers": layers[1:]}])


def test_convergence_unknown() -> None:
    assert not said("Convergence", convergence=[])
    assert not said("Convergence", convergence=[{"start": "d", "layers": [{"layer": "a", "cosine": None, "random": 0.1}]}])


def test_same_as_another_method() -> None:
    both = {"gradient-x-input": similarity(0.99991), "sensitivity": similarity(0.4)}
    (same,) = said("Same as gradient-x-input", similarity=both)
    assert "equals it" in same
    (others,) = said("Other methods", similarity=both)
    assert "gradient-x-input" not in others
    assert "0.400 with sensitivity" in others
    assert not said("Same as gradient-x-input", similarity={"gradient-x-input": similarity(0.9999)})
    (none,) = said("Other methods", similarity={"sensitivity": similarity(-0.0001)})
    assert none == "Other methods: mean cosine 0.000 with sensitivity."


def test_small_heatmaps() -> None:
    assert not said("Size", chance=0.149)
    (sentence,) = said("Size", chance=0.15)
    assert "about 0.15" in sentence


def test_root_points_are_counted_by_neurons() -> None:
    rows = [checked(neurons=30, passes=0.0, region=0.0), checked(neurons=10, passes=1.0)]
    (sentence,) = said("Root points", roots=rows)
    assert "25% of 40 root points in 2 of 2 layers with a rule pass" in sentence
    assert "25% in the linear region" in sentence
    assert "100% on the hinge" in sentence
    assert not said("Root points", roots=[])
    assert not said("Root points", roots=[checked(neurons=0)])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.0, "holds for all neurons tested"),
        (0.99, "nearly all"),
        (0.98, "not hold for 2% of the neurons"),
        (0.5, "not hold for 50% of the neurons"),
        (0.49, "most neurons tested"),
    ],
)
def test_root_points(value: float, words: str) -> None:
    (sentence,) = said("Root points", roots=[checked(passes=value)])
    assert words in sentence


def test_conditions() -> None:
    (sentence,) = said("Conditions of deep Taylor decomposition")
    held = "no positive bias, no input outside of its bounds, no negative input of z+, no negative logit"
    assert f"those counted hold for these samples; {held}." in sentence
    broken = HOLD | {"positive_biases": 0.43, "outside": 0.004, "negative_logits": 0.1}
    (sentence,) = said("Conditions of deep Taylor decomposition", preconditions=broken)
    for words in ("43% of the neurons", "0.4% of the first", "10% of the explained"):
        assert words in sentence
    (sentence,) = said("Conditions of deep Taylor decomposition", preconditions=HOLD | {"outside": None})
    assert "; no positive bias, no negative input of z+, no negative logit." in sentence, "what was not counted does not hold"
    (sentence,) = said("Conditions of deep Taylor decomposition", preconditions=HOLD | {"negative_inputs": 0.3})
    assert "broken; 30% of the inputs of z+ layers are negative" in sentence
    assert not said("Conditions of deep Taylor decomposition", preconditions=broken, deep_taylor=False)
    assert not said("Conditions of deep Taylor decomposition", preconditions=None)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["zB", "z+", "epsilon"], True),
        (["w2", "epsilon"], True),
        (["epsilon"], False),
        (["alpha-beta", "alpha-beta", "z+"], False),  # one for a mean is no theory
        ([], False),
    ],
)
def test_most_rules_are_of_deep_taylor_decomposition(rules: list[str], expected: bool) -> None:
    assert deep_taylor([Library().rule(name) for name in rules]) is expected


def test_balance() -> None:
    assert not said("Balance", preconditions=HOLD | {"bias_share": 0.009, "dead": -0.009})
    (sentence,) = said("Balance", preconditions=HOLD | {"bias_share": -0.07, "dead": 0.01})
    assert "biases added 7% of the logit" in sentence
    assert "1% of the logit was lost" in sentence
    (sentence,) = said("Balance", preconditions=HOLD | {"dead": -0.44})
    assert sentence == "Balance: relevance against it, 44% of the logit, was lost where no input has a share (medians)."
    (sentence,) = said("Balance", preconditions=HOLD | {"bias_share": 0.07})
    assert "biases kept 7% of the logit" in sentence
    assert not said("Balance", preconditions=HOLD | {"bias_share": None, "dead": None})


def test_shares_in_words() -> None:
    failed, attempted = doctest.testmod(limits)
    assert attempted
    assert not failed
