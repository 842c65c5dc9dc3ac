"""An audit in words: what the explanations of a preset depend on and what they do not, each with the number behind it.

Whoever reads these sentences may have to sign them: each says no more than its number does, and what could not be measured, or
would have come out the same whatever was explained, is named with the reason instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from onnxdtd.method.rule import Rule
from onnxdtd.study.tally import side
from onnxdtd.study.words import mean_text

# Similarities are at most 1. "Independent" needs a heatmap that nobody could tell from the other; "little" is where what
# the heatmaps share outweighs how they differ: at a cosine of 0.8 the part along the other is 4/3 as long as that across.
INDEPENDENT = 0.99
LITTLE = 0.8
EQUAL = 0.9999  # what float32 leaves of 1 in a deep model
UNLEARNED = 0.5  # rank correlation left when every weight is drawn anew, from which on it is worth a sentence
NOISE = 0.3  # rank correlation so low that a map of noise would have done as well
ALL, MOST = 0.99, 0.5  # shares of root points
CHANCE = 0.3  # cosine of random vectors from which on two that agree tell nothing: a pixel's three colours have 0.5
LIKELY = 0.15  # rank correlation of unrelated heatmaps, that of 29 entries, from which on the reader must know
NOTABLE = 0.01  # shares of the logit and of neurons, and differences of correlations, below this go unsaid
STEADY, UNSTEADY = 0.1, 0.5  # change of a heatmap under small noise, as a part of its length

NOISY = "noise-like heatmaps get as low (Binder et al. 2023)"

Entry = Mapping[str, Any]


def verdict(entry: Entry) -> list[str]:
    """What the numbers of one preset (an entry of ``presets`` in an audit) say, a sentence each."""
    measured = (_class, _input, _stability, _upper, _weights, _chance, _converged, _perturbed, _equal)
    parts = (_heatmaps, *(() if shows_nothing(entry) else measured), _roots, _conditions)
    return [sentence for part in parts for sentence in part(entry)]


def shows_nothing(entry: Entry) -> bool:
    """Is every heatmap zero, or not finite?"""
    return bool(entry["silent"]["empty"] + entry["silent"]["broken"] == entry["silent"]["n"])


def _left_out(entry: Entry, topic: str, measure: str) -> Iterator[str]:
    """Why there is no number."""
    if measure in entry["left_out"]:
        yield f"{topic}: left out, since {entry['left_out'][measure]}."


def _heatmaps(entry: Entry) -> Iterator[str]:
    """Heatmaps that say nothing."""
    found = entry["silent"]
    apart = "similarities are over the others, and in the perturbation it is a random order"
    words = {
        "empty": ("zero everywhere: nothing is explained there", apart),
        "broken": ("NaN or infinite somewhere", apart),
        "flat": ("of one value everywhere: no entry is more relevant than another", "rank correlations are over the others"),
    }
    for name, (text, rest) in words.items():
        count, n = found[name], found["n"]
        if count == n:
            yield f"Heatmaps: {'all' if n > 1 else 'the only one'}{f' {n}' if n > 1 else ''} {_are(n)} {text}."
        elif count:
            yield f"Heatmaps: {count} of {n} {_are(count)} {text}; {rest}."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _class(entry: Entry) -> Iterator[str]:
    """Does it depend on the class?"""
    yield from _left_out(entry, "Class", "class_sensitivity")
    found = entry["class_sensitivity"]
    value = found.get("cosine")
    if value is None:
        return
    numbers = f"mean cosine {value:.3f}{_also('rank correlation', found['spearman'])}, signs aside{_on(entry, 'classes')}"
    if value >= INDEPENDENT:
        yield f"Class: independent of it; heatmaps of other classes show the same pattern up to size and sign ({numbers})."
    elif value >= LITTLE:
        yield f"Class: depends on it little; heatmaps of other classes are much alike up to size and sign ({numbers})."
    else:
        yield f"Class: depends on it; heatmaps of other classes differ ({numbers})."


def _input(entry: Entry) -> Iterator[str]:
    """Does it depend on the sample, or only on its class?"""
    yield from _left_out(entry, "Input", "input_dependence")
    found = entry["input_dependence"]
    value = found.get("cosine")
    if value is None:
        return
    numbers = (
        f"heatmaps of different samples of one class have a mean cosine of {value:.3f}, signs aside; the samples, "
        f"standardised, have {found['samples']:.3f}{_on(entry, 'input')}"
    )
    if found["samples"] >= INDEPENDENT:
        yield f"Input: cannot be told, since the samples are alike; {numbers}."
    elif value >= INDEPENDENT:
        yield f"Input: independent of it; {numbers}. It is a picture of the model, not of a sample."
    elif value >= LITTLE and value > found["samples"]:
        yield f"Input: depends on it little; {numbers}."
    else:
        yield f"Input: depends on it; {numbers}."


def _stability(entry: Entry) -> Iterator[str]:
    """Does it change more than the score where the input hardly changes?"""
    yield from _left_out(entry, "Stability", "stability")
    found = entry["stability"]
    value = found.get("heatmap")
    if value is None:
        return
    numbers = (
        f"noise of {_percent(found['noise'])} of the data's spread changes the heatmap by {_percent(value)} of its length and "
        f"the explained score by {_percent(found['score'])} (medians)"
    )
    if value >= UNSTEADY:
        yield f"Stability: unsteady; {numbers}."
    elif value > STEADY:
        yield f"Stability: moves; {numbers}."
    else:
        yield f"Stability: steady; {numbers}."


def upper(rows: Sequence[Entry]) -> Entry | None:
    """The row of a cascade after which the upper half of the layers has new weights; None where there are no layers."""
    return rows[(len(rows) - 1) // 2] if rows else None


def _upper(entry: Entry) -> Iterator[str]:
    """Does it depend on the upper layers, and on what was learned at all?"""
    yield from _left_out(entry, "Upper layers", "randomised")
    rows = entry["cascading"]
    row = upper(rows)
    value = None if row is None else row["spearman"]
    if row is None or value is None:
        return
    many = f"of the top layer ({row['layer']})" if row is rows[0] else f"from the top layer down to {row['layer']}"
    new = f"with the weights {many} drawn anew, the rank correlation with the trained heatmap, signs aside, is"
    numbers = f"{value:.3f}{_also('SSIM', row['ssim'])}{_on(entry, 'upper')}"
    if value >= INDEPENDENT:
        yield f"Upper layers: independent of them; {new} still {numbers}."
    elif value >= LITTLE:
        yield f"Upper layers: depends on them little; {new} still {numbers}."
    else:
        noise = f"; that alone is no merit, {NOISY}" if value < NOISE else ""
        yield f"Upper layers: depends on them; {new} {numbers}{noise}."
    last = rows[-1]["spearman"]
    if len(rows) > 1 and last is not None and last >= UNLEARNED:
        yield (
            f"Training: with all weights drawn anew the rank correlation is still {last:.3f}; what the heatmaps share then "
            "comes from the input and the architecture, not from what was learned."
        )


def _weights(entry: Entry) -> Iterator[str]:
    """Which layers' weights matter?"""
    changes = {row["layer"]: 1 - row["spearman"] for row in entry["independent"] if row["spearman"] is not None}
    if len(changes) > 1 and max(changes.values()) - min(changes.values()) >= NOTABLE:
        most, least = (choose(changes, key=lambda name: changes[name]) for choose in (max, min))
        yield (
            f"Layers: drawn anew alone, the weights of {most} lower the rank correlation most, by {changes[most]:.3f}, and "
            f"those of {least} least, by {changes[least]:.3f}."
        )
    still = [name for name, change in changes.items() if change <= 1 - INDEPENDENT]
    if still:
        of = f"{len(still)} of {len(changes)} layers measured" if len(still) > 1 else still[0]
        yield f"Layers: independent of the weights of {of} (drawn anew alone, they lower it by {1 - INDEPENDENT:.2f} at most)."
    idle = [row["layer"] for row in entry["independent"] if row.get("idle")]
    if idle:
        yield f"Layers: left out {', '.join(idle)}, whose weights change no output of the model on these samples either."


def _chance(entry: Entry) -> Iterator[str]:
    """How alike are unrelated heatmaps that small?"""
    yield from _left_out(entry, "Rank correlations, and what rests on them", "spearman")
    if entry["chance"] >= LIKELY and "spearman" not in entry["left_out"]:
        yield (
            "Size: the heatmaps have so few entries that unrelated ones have a rank correlation, or a cosine, of about "
            f"{entry['chance']:.2f}, signs aside."
        )


def arrival(start: Entry) -> Entry | None:
    """The lowest layer at which relevance from a start layer arrives in vectors so long that chance tells them apart."""
    rows = [row for row in start["layers"] if row["cosine"] is not None and row["random"] < CHANCE]
    return rows[-1] if rows else None


def _converged(entry: Entry) -> Iterator[str]:
    """Does relevance from above arrive at the bottom as one pattern?"""
    yield from _left_out(entry, "Convergence", "convergence")
    for start in entry["convergence"]:
        row = arrival(start)
        if row is not None:
            yield _arrived(start["start"], row)
            return


def _arrived(start: str, row: Entry) -> str:
    numbers = (
        f"random relevance injected at {start} arrives at {row['layer']} with a median cosine of {row['cosine']:.3f}, signs "
        f"aside; random vectors: {row['random']:.3f}"
    )
    if row["cosine"] >= INDEPENDENT and row["positions"] > 1:
        return f"Convergence: {numbers}; whatever the layers above say, every position gets its one mix of channels."
    if row["cosine"] >= INDEPENDENT:
        return f"Convergence: {numbers}; whatever the layers above say, the same pattern arrives."
    if row["cosine"] >= LITTLE:
        return f"Convergence: {numbers}; most of what the layers above say is lost on the way."
    return f"Convergence: {numbers}; what the layers above say still shows."


def beats_chance(entry: Entry) -> bool | None:
    """Do AOPC and ABPC exceed those of a random order? False where both fall behind it or chance explains one of them, None
    where that is not known.
    """
    found = entry["perturbation"]
    sides = [side(found[name]) for name in ("gain", "abpc")] if found else [None]
    return None if None in sides else sides == [1, 1]


def _perturbed(entry: Entry) -> Iterator[str]:
    """Does the score fall where it says that it must?"""
    yield from _left_out(entry, "Perturbation", "perturbation")
    found = entry["perturbation"]
    if not found:
        return
    gain, area = (side(found[name]) for name in ("gain", "abpc"))
    words = {
        (None, None): "on one sample nothing is told from chance",
        (1, 1): "better than a random order",
        (0, 0): "not told from a random order",
        (-1, -1): "worse than a random order",
        (1, 0): "better than a random order in AOPC, not told from it in ABPC",
        (0, 1): "better than a random order in ABPC, not told from it in AOPC",
        (-1, 0): "worse than a random order in AOPC, not told from it in ABPC",
        (0, -1): "worse than a random order in ABPC, not told from it in AOPC",
        (1, -1): "better than a random order in AOPC, worse in ABPC",
        (-1, 1): "worse than a random order in AOPC, better in ABPC",
    }
    yield (
        f"Perturbation: {words[gain, area]}; with regions replaced by {found['fill']}, AOPC less that of a random order is "
        f"{mean_text(found['gain'])}, and ABPC, 0 for a random order, is {mean_text(found['abpc'])}."
    )


def _equal(entry: Entry) -> Iterator[str]:
    """Is it another method by another name?"""
    known = {name: row["cosine"] for name, row in entry["similarity"].items() if row["cosine"] is not None}
    for name, value in known.items():
        if value > EQUAL:
            same = f"equals it on these samples up to size (cosine {value:.6f})"
            yield f"Same as {name}: {same}, and shows nothing that {name} does not."
    others = [f"{value:.3f} with {name}" for name, value in known.items() if value <= EQUAL]
    if others:
        yield f"Other methods: mean cosine {', '.join(others)}."


def _roots(entry: Entry) -> Iterator[str]:
    """Do the root points lie where the expansion holds?"""
    yield from _left_out(entry, "Root points", "roots")
    rows = [row for row in entry["roots"] if row["neurons"]]
    count = sum(row["neurons"] for row in rows)
    if not count:
        return
    share = {name: _weighted(rows, name) for name in ("passes", "hinge", "domain", "region")}
    passed = share["passes"]
    if passed is None:
        return
    names = {"hinge": "on the hinge", "domain": "in the domain", "region": "in the linear region of the input"}
    parts = [f"{_percent(value)} {words}" for name, words in names.items() if (value := share[name]) is not None]
    where = f"in {len(rows)} of {len(entry['rules'])} layers with a rule"
    text = f"{_percent(passed)} of {count} root points {where} pass ({', '.join(parts)})"
    if passed == 1:
        yield f"Root points: {text}; the expansion behind the rules holds for all neurons tested."
    elif passed >= ALL:
        yield f"Root points: {text}; the expansion behind the rules holds for nearly all neurons tested."
    elif passed >= MOST:
        yield f"Root points: {text}; for the other neurons tested the expansion behind the rules does not hold."
    else:
        yield f"Root points: {text}; for most neurons tested the expansion behind the rules does not hold."


def _weighted(rows: Sequence[Entry], name: str) -> float | None:
    """The mean of a share over layers, each counted by its neurons."""
    known = [(row[name], row["neurons"]) for row in rows if row[name] is not None]
    total = sum(neurons for _, neurons in known)
    return sum(value * neurons for value, neurons in known) / total if total else None


CONDITIONS = {  # what is counted, how a breach reads, and what holds where there is none
    "positive_biases": ("{} of the neurons have a positive bias", "no positive bias"),
    "outside": ("{} of the first layer's inputs lie outside of their bounds", "no input outside of its bounds"),
    "negative_inputs": ("{} of the inputs of z+ layers are negative", "no negative input of z+"),
    "negative_logits": ("{} of the explained logits are negative", "no negative logit"),
}


def deep_taylor(rules: Collection[Rule]) -> bool:
    """Are they those of deep Taylor decomposition, whose conditions the ledger counts, most of them at least?"""
    return 2 * sum(rule.is_deep_taylor for rule in rules) >= max(len(rules), 1)


def _conditions(entry: Entry) -> Iterator[str]:
    """What deep Taylor decomposition asks for, and what of the logit did not arrive."""
    found = entry["preconditions"]
    if found is None:
        return
    taylor = entry["deep_taylor"]
    broken = [text.format(_percent(found[name])) for name, (text, _) in CONDITIONS.items() if found[name]]
    kept = [text for name, (_, text) in CONDITIONS.items() if found[name] == 0]
    if taylor and broken:
        yield f"Conditions of deep Taylor decomposition: broken, {', '.join(broken)}."
    elif taylor:
        yield f"Conditions of deep Taylor decomposition: those counted hold for these samples ({', '.join(kept)})."
    words = {
        "bias_share": ("biases kept {} of the logit", "biases added {} of the logit"),
        "dead": (
            "{} of the logit was lost where no input has a share",
            "relevance against it, {} of the logit, was lost where no input has a share",
        ),
    }
    known = {name: share for name in words if abs(share := found[name] or 0.0) >= NOTABLE}
    parts = [words[name][share < 0].format(_percent(abs(share))) for name, share in known.items()]
    if parts:
        yield f"Balance: {', '.join(parts)} (medians)."


def _also(name: str, value: float | None) -> str:
    return "" if value is None else f", {name} {value:.3f}"


def _on(entry: Entry, name: str) -> str:
    """On how many samples, where these are not all."""
    count, n = entry["means"][name]["n"], entry["silent"]["n"]
    return "" if count == n else f", on {count} of {n} samples"


def _percent(share: float) -> str:
    """In per cent, with digits more where that would read 0 % or 100 % and is not.

    >>> _percent(0.5), _percent(0.004), _percent(0.99999), _percent(1e-6), _percent(1)
    ('50%', '0.4%', '99.999%', '0.0001%', '100%')
    """
    for digits in (0, 1, 2, 3, 4, 5):
        text = f"{share:.{digits}%}"
        if float(text[:-1]) not in (0, 100) or share in (0, 1):
            return text
    return "under 0.00001%" if share < 0.5 else "over 99.99999%"
