"""An audit in words: what the explanations of a preset depend on and what they do not, each with the number behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
NOTABLE = 0.01  # shares of the logit and of neurons below this go unsaid
DEEP_TAYLOR = ("w2", "z+", "zB")  # the rules whose conditions the ledger counts

NOISY = "noise-like heatmaps get as low (Binder et al. 2023)"

Entry = Mapping[str, Any]


def verdict(entry: Entry) -> list[str]:
    """What the numbers of one preset (an entry of ``presets`` in an audit) say, a sentence each."""
    parts = (_class, _upper, _weights, _chance, _converged, _equal, _roots, _conditions)
    return [sentence for part in parts for sentence in part(entry)]


def _class(entry: Entry) -> Iterator[str]:
    """Does it depend on the class?"""
    found = entry["class_sensitivity"]
    value = found["cosine"]
    if value is None:
        yield "Class: not measured, since the model has one score only or its heatmaps are zero."
        return
    numbers = f"mean cosine {value:.3f}{_also('rank correlation', found['spearman'])}"
    if value >= INDEPENDENT:
        yield f"Class: independent of it; heatmaps of other classes show the same pattern up to size and sign ({numbers})."
    elif value >= LITTLE:
        yield f"Class: depends on it little; heatmaps of other classes are much alike ({numbers})."
    else:
        yield f"Class: depends on it; heatmaps of other classes differ ({numbers})."


def upper(rows: Sequence[Entry]) -> Entry | None:
    """The row of a cascade after which the upper half of the layers has new weights; None where there are no layers."""
    return rows[(len(rows) - 1) // 2] if rows else None


def _upper(entry: Entry) -> Iterator[str]:
    """Does it depend on the upper layers, and on what was learned at all?"""
    rows = entry["cascading"]
    row = upper(rows)
    value = None if row is None else row["spearman"]
    if row is None or value is None:
        yield "Upper layers: not measured, since no layer has weights to draw anew or a heatmap is constant."
        return
    many = "the top layer" if row is rows[0] else "the upper half of the layers"
    new = f"with the weights of {many} (down to {row['layer']}) drawn anew, the rank correlation with the trained heatmap is"
    numbers = f"{value:.3f}{_also('SSIM', row['ssim'])}"
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
            f"Training: with all weights drawn anew the rank correlation is still {last:.3f}; that much of the heatmap comes "
            "from the input and the architecture, not from what was learned."
        )


def _weights(entry: Entry) -> Iterator[str]:
    """Which layers' weights matter?"""
    changes = {row["layer"]: 1 - row["spearman"] for row in entry["independent"] if row["spearman"] is not None}
    if len(changes) < 2:
        return
    most, least = (choose(changes, key=lambda name: changes[name]) for choose in (max, min))
    yield (
        f"Layers: the weights of {most} matter most and those of {least} least (drawn anew alone, they lower the rank "
        f"correlation by {changes[most]:.3f} and {changes[least]:.3f})."
    )
    idle = [name for name, change in changes.items() if change <= 1 - INDEPENDENT]
    if idle:
        of = f"{len(idle)} of {len(changes)} layers measured" if len(idle) > 1 else idle[0]
        yield f"Layers: independent of the weights of {of} (each lowers it by {1 - INDEPENDENT:.2f} at most)."


def _chance(entry: Entry) -> Iterator[str]:
    """How alike are unrelated heatmaps that small?"""
    if entry["chance"] >= LIKELY:
        yield (
            "Size: the heatmaps have so few entries that unrelated ones have a rank correlation of about "
            f"{entry['chance']:.2f}, signs aside."
        )


def _converged(entry: Entry) -> Iterator[str]:
    """Does relevance from the top arrive at the bottom as one pattern?"""
    for start in entry["convergence"][:1]:
        rows = [row for row in start["layers"] if row["cosine"] is not None and (row["random"] or 0) < CHANCE]
        if rows:
            yield _arrival(start["start"], rows[-1])


def _arrival(start: str, row: Entry) -> str:
    chance = "" if row["random"] is None else f"; random vectors: {row['random']:.3f}"
    numbers = f"random relevance injected at {start} arrives at {row['layer']} with a cosine of {row['cosine']:.3f}{chance}"
    if row["cosine"] >= INDEPENDENT:
        return f"Convergence: {numbers}; whatever the layers above say, the same pattern arrives."
    if row["cosine"] >= LITTLE:
        return f"Convergence: {numbers}; most of what the layers above say is lost on the way."
    return f"Convergence: {numbers}; what the layers above say still shows."


def _equal(entry: Entry) -> Iterator[str]:
    """Is it another method by another name?"""
    cosines = {name: row["cosine"] for name, row in entry["similarity"].items() if name != entry["preset"]}
    known = {name: value for name, value in cosines.items() if value is not None}
    for name, value in known.items():
        if value > EQUAL:
            yield f"Same as {name}: equals it on this model (cosine {value:.6f}), so it shows nothing that {name} does not."
    apart = [f"{value:.3f} with {name}" for name, value in known.items() if value <= EQUAL]
    if apart:
        yield f"Other methods: mean cosine {', '.join(apart)}."


def _roots(entry: Entry) -> Iterator[str]:
    """Do the root points lie where the expansion holds?"""
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
    text = f"{_percent(passed)} of {count} root points pass ({', '.join(parts)})"
    if passed >= ALL:
        yield f"Root points: {text}; the expansions describe this model."
    elif passed >= MOST:
        yield f"Root points: {text}; for the others the expansion behind the rule does not hold."
    else:
        yield f"Root points: {text}; for most neurons the expansion behind the rule does not hold."


def _weighted(rows: Sequence[Entry], name: str) -> float | None:
    """The mean of a share over layers, each counted by its neurons."""
    known = [(row[name], row["neurons"]) for row in rows if row[name] is not None]
    total = sum(neurons for _, neurons in known)
    return sum(value * neurons for value, neurons in known) / total if total else None


def _conditions(entry: Entry) -> Iterator[str]:
    """What deep Taylor decomposition asks for, and what of the logit did not arrive."""
    found = entry["preconditions"]
    if found is None:
        return
    taylor = any(str(rule).startswith(DEEP_TAYLOR) for rule in entry["rules"].values())
    words = {
        "positive_biases": "{} of the neurons have a positive bias",
        "outside": "{} of the first layer's inputs lie outside of their bounds",
        "negative_logits": "{} of the explained logits are negative",
    }
    broken = [text.format(_percent(found[name])) for name, text in words.items() if found[name]]
    if taylor and broken:
        yield f"Conditions of deep Taylor decomposition: broken, {', '.join(broken)}."
    elif taylor:
        yield "Conditions of deep Taylor decomposition: hold for these samples."
    bias = "biases kept {} of the logit" if (found["bias_share"] or 0) > 0 else "biases added {} of the logit"
    kept = {"bias_share": bias, "dead": "{} of the logit was lost where no input has a share"}
    parts = [text.format(_percent(abs(found[name]))) for name, text in kept.items() if abs(found[name] or 0) >= NOTABLE]
    if parts:
        yield f"Balance: {', '.join(parts)} (medians)."


def _also(name: str, value: float | None) -> str:
    return "" if value is None else f", {name} {value:.3f}"


def _percent(share: float) -> str:
    """In per cent, with a digit more where that would read 0 % or 100 % and is not."""
    return f"{share:.1%}" if 0 < abs(share) < 0.01 or 0.99 < share < 1 else f"{share:.0%}"


# --------------------------------------------------------------------------------------------------------------- which one


def blindness(entry: Entry) -> float | None:
    """How little a preset depends on class and upper layers, from 0 to 1: the mean of the cosine with other classes' heatmaps
    and of the rank correlation left when the upper half of the layers is drawn anew.
    """
    row = upper(entry["cascading"])
    found = [entry["class_sensitivity"]["cosine"], None if row is None else row["spearman"]]
    values = [value for value in found if value is not None]
    return sum(values) / len(values) if values else None


def best(entries: Sequence[Entry]) -> dict[str, str] | None:
    """The preset that depends most on class and upper layers, and why; None where nothing could be measured."""
    known = {entry["preset"]: value for entry in entries if (value := blindness(entry)) is not None}
    if not known:
        return None
    first = min(known, key=lambda name: known[name])
    why = (
        "It depends most on the class and on the upper layers: the mean of its cosine with other classes' heatmaps and of the "
        f"rank correlation left with new weights in the upper half of the layers is {known[first]:.3f}"
    )
    others = sorted((value, name) for name, value in known.items() if name != first)
    why += f" (next: {others[0][1]}, {others[0][0]:.3f})." if others else " (no other preset was measured)."
    why += " Even so it depends on them little." if known[first] >= LITTLE else ""
    entry = next(entry for entry in entries if entry["preset"] == first)
    row = upper(entry["cascading"])
    if row is not None and row["spearman"] is not None and row["spearman"] < NOISE:
        why += f" That alone is no merit: {NOISY}."
    derivatives = {entry["preset"] for entry in entries if not entry["rules"]}
    if first in derivatives:
        rest = [f"{name} ({value:.3f})" for value, name in others if name not in derivatives]
        why += " As a derivative it shows where the score reacts, not what it is made of."
        why += f" Of the presets that share out the score, {rest[0]} fares best." if rest else ""
    close = {name: row["cosine"] for name, row in entry["similarity"].items()}
    close |= {other["preset"]: other["similarity"].get(first, {}).get("cosine") for other in entries if other is not entry}
    same = [name for name, value in close.items() if name != first and (value or 0.0) > EQUAL]
    why += f" On this model it equals {' and '.join(same)}." if same else ""
    return {"preset": first, "why": why}
