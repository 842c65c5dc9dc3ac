"""What is said about a run, and about single samples of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxdtd.study.notes import SHOWN, Flag, Notes, of_amount, of_lattice
from onnxdtd.study.results import Result

RESULT = Result("cat_001", "cat_001.png", 3, "cat", 0.912, 3, "cat", 7.5, 7.25, -0.5, 2.0, "dtd")


def _remarks(results: Sequence[Result], **known: Any) -> list[str]:
    return Notes(results).remarks(**known)


def _summary(results: Sequence[Result]) -> list[str]:
    return Notes(results).summary()


def test_a_lattice_is_said_with_a_way_to_look_at_it() -> None:
    """What is smoothed anyway, and what may be; nothing of a heatmap without one."""
    every = np.zeros((60, 60))
    every[::2, 1::2] = 1
    (flag,) = of_lattice(every)
    assert (flag.code, "100% of Σ |relevance| is on one of every 2 x 2 pixels; --smooth 0 draws" in flag.text) == (
        "lattice",
        True,
    )
    (flag,) = of_lattice(1 + 9 * every)
    assert flag.text == "strides show: one of every 2 x 2 pixels has 10 times as much as another; --smooth 1 evens that out"
    assert of_lattice(np.ones((60, 60))) == []


def test_remarks() -> None:
    fine = replace(RESULT, relevance_sum=7.5)
    assert _remarks([]) == []
    assert _remarks([fine] * 3) == []
    assert _remarks([replace(RESULT, logit=None)] * 3) == []
    assert _remarks([replace(fine, logit=0.0, relevance_sum=0.0)]) == []
    (negative,) = _remarks([fine, replace(fine, logit=-1.0, relevance_sum=-1.0)])
    assert negative.startswith("1 of 2 explained logits are below zero")
    assert "--contrast" in negative
    (quantity,) = _remarks([replace(fine, logit=-1.0, relevance_sum=-1.0)], rivals=False, score="output")
    assert quantity.startswith("1 of 1 explained outputs are below zero")
    (alone,) = _remarks([fine, replace(fine, logit=-1.0, relevance_sum=-1.0)], rivals=False)
    assert "below zero" in alone
    assert "--contrast" not in alone
    (lost,) = _remarks([replace(RESULT, logit=10.0, relevance_sum=7.5), replace(RESULT, logit=10.0, relevance_sum=12.5)])
    assert "median difference 25%" in lost
    (amplified,) = _remarks([replace(RESULT, logit=2.0, relevance_sum=490.0)])
    assert amplified.startswith("Σ relevance is 245 times the logit")
    (turned,) = _remarks([replace(RESULT, logit=0.01, relevance_sum=-1.0)])
    assert "biases of the other sign" in turned, "a bias of 1.01 does this without any small sum"
    (absorbed,) = _remarks([replace(RESULT, logit=2.0, relevance_sum=-0.01)])
    assert "median difference 100%" in absorbed
    assert _remarks([fine, fine, replace(RESULT, relevance_sum=0.0)]) == [], "one of three"
    assert "--ledger itemises it" in lost
    kept = {
        "logit": 10.0,
        "relevance": 7.5,
        "bias": 2.0,
        "stabiliser": 0.0,
        "dead": -0.5,
        "constants": 1.0,
        "masked": 0.0,
        "misfit": 0.0,
        "unaccounted": 0.0,
    }
    (itemised,) = _remarks([replace(RESULT, logit=10.0, relevance_sum=7.5, balance=kept)])
    words = "biases kept 20.0%, -5.0% were lost on neurons without a positive input, 10.0% lay on padding and other constants"
    assert words in itemised
    others = [dict(kept, bias=sign * 2.5, dead=0.0, constants=0.0) for sign in (1, -1)]
    (differing,) = _remarks([replace(RESULT, logit=10.0, relevance_sum=10 - each["bias"], balance=each) for each in others])
    assert "25%): what keeps the rest differs from one to the other; " in differing


def test_what_the_score_is_the_sum_of() -> None:
    (found,) = _remarks([replace(RESULT, logit=2.0, at_baseline=0.5, relevance_sum=-1.0)])
    assert "the score is 2 = 0.5 at the baseline - 1 Σ relevance + 2.5 left over" in found


def test_what_holds_for_all_inputs_is_said_once() -> None:
    flagged = [replace(RESULT, name=f"s: {i}", flags=[Flag("weights", "by weights alone")]) for i in range(3)]
    assert _summary(flagged) == ["all heatmaps: by weights alone"]
    assert _summary(flagged[:1]) == ["s: 0: by weights alone"]
    assert _summary([*flagged, RESULT])[0] == "s: 0: by weights alone"


def test_the_flags_of_many_samples_are_counted() -> None:
    flagged = [replace(RESULT, name=f"s{i}", flags=[Flag("lost", "1% arrived")]) for i in range(SHOWN + 2)]
    assert _summary([RESULT]) == []
    assert _summary([RESULT, *flagged[:SHOWN]]) == [f"s{i}: 1% arrived" for i in range(SHOWN)]
    lines = _summary([RESULT, *flagged, replace(RESULT, name="z", flags=[Flag("zero", "nothing"), Flag("lost", "x")])])
    assert lines[SHOWN:] == [
        f"{SHOWN + 3} of {SHOWN + 4} heatmaps have the flag 'lost'; results.json says of each why",
        "z: nothing",
    ]


def test_a_small_share_is_not_told_as_nothing() -> None:
    told = [of_amount(replace(RESULT, logit=10.0, relevance_sum=share), None)[0].text for share in (3.0, 0.002, 0.0)]
    assert [text.split(" of the logit")[0] for text in told] == ["30.0%", "0.02%", "0%"]


def test_explanations_of_one_input_are_told_apart() -> None:
    notes = Notes(
        [replace(RESULT, flags=[Flag("lost", "x")])], called=lambda result: f"{result.name} (a {result.target_label})"
    )
    assert notes.summary() == ["cat_001 (a cat): x"]


def test_what_is_done_is_not_advised() -> None:
    """Traces of strides in a heatmap are told in any case, as the numbers have them."""
    every = np.zeros((60, 60))
    every[::2, 1::2] = 1
    said = lambda values, smooth: of_lattice(values, smooth)[0].text
    assert said(1 + 9 * every, 0.5).endswith("; --smooth 1 evens that out")
    assert said(1 + 9 * every, 1.0) == "strides left traces: one of every 2 x 2 pixels has 10 times as much as another"
    assert said(every, 0.0) == "strides leave a lattice: 100% of Σ |relevance| is on one of every 2 x 2 pixels"
