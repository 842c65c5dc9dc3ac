"""How a number is said: what it is called, what it means, and which values are good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a number is called, what it means, and which values are good: the highest, the lowest, those near 0, or none. An
    ``area`` under a curve is in units of the score; the others are shares.
    """

    title: str
    meaning: str
    best: str = ""
    area: bool = False

    @property
    def head(self) -> str:
        """The title with an arrow towards the good values, for the head of a table."""
        return self.title + ARROWS.get(self.best, "")


HIGHEST, LOWEST, NEAR_ZERO = "higher is better", "lower is better", "nearer to 0 is better"
ARROWS = {HIGHEST: "\u00a0↑", LOWEST: "\u00a0↓", NEAR_ZERO: "\u00a0→\u00a00"}
BADNESS: dict[str, Callable[[float], float]] = {HIGHEST: lambda v: -v, LOWEST: lambda v: v, NEAR_ZERO: abs}
PRECONDITIONS = {
    "positive_biases": Measure("positive biases", "share of the neurons with a bias above zero; the theory has none.", LOWEST),
    "bias_share": Measure("kept by biases", "share of the score that ends on biases instead of inputs (median).", NEAR_ZERO),
    "outside": Measure("outside the bounds", "share of the inputs that lie outside the bounds given for them.", LOWEST),
    "negative_inputs": Measure("negative inputs", "share of the inputs of z+ layers that are below zero.", LOWEST),
    "negative_logits": Measure("negative logits", "share of the samples whose explained score is below zero.", LOWEST),
    "dead": Measure("lost", "share of the score lost where no input of a neuron has a share (median).", NEAR_ZERO),
}
ROOTS = {
    "hinge": Measure("on the hinge", "share of the root points at which the neuron is exactly zero.", HIGHEST),
    "domain": Measure(
        "in the domain", "share of the root points within the bounds of the input, or without negative entries above.", HIGHEST
    ),
    "region": Measure(
        "in the region",
        "share of the root points in the linear region of the input: on the way there the rest of the network stays the same "
        "linear map.",
        HIGHEST,
    ),
    "passes": Measure("all three", "share of the root points that pass all three tests, as the theory asks of each.", HIGHEST),
    "residual": Measure(
        "residual",
        "how far the Taylor expansion at the root point is from the explained score, as a share of it (median).",
        LOWEST,
    ),
}
ALIKE = {
    "ssim": Measure("SSIM", "structural similarity of two heatmaps: 1 is the same picture, 0 is unrelated ones."),
    "spearman": Measure("rank correlation", "Spearman's: 1 is the same order of the entries by relevance, 0 is no relation."),
    "spearman_abs": Measure("rank correlation of sizes", "the same without the signs of the relevance."),
    "cosine": Measure("cosine", "1 is the same heatmap up to a factor, 0 is no relation, −1 is its negative."),
}
GLANCE = {
    "passes": Measure("root points in order", "share of the root points tested in all layers that pass all three.", HIGHEST),
    "gain": Measure("AOPC over random", "AOPC less that of a random order.", HIGHEST),
    "abpc": Measure("ABPC", "as in an evaluation; a random order has 0 on average.", HIGHEST),
    "classes": Measure(
        "blindness to the class",
        "cosine between the heatmaps of the predicted and of other classes, signs aside; at 1 the class plays no part.",
        LOWEST,
    ),
    "upper": Measure(
        "blindness to upper layers",
        "rank correlation, signs aside, of the heatmap with that of the same network with new weights in the upper half of its "
        "layers; at 1 they play no part.",
        LOWEST,
    ),
    "input": Measure(
        "likeness of a class",
        "cosine between the heatmaps of different samples of one predicted class, signs aside; at 1 the sample plays no part. "
        "Samples that are alike have like heatmaps.",
    ),
    "stability": Measure(
        "change under noise",
        "how far noise on the input moves the heatmap, as a part of its length; the settings tell how much noise. A heatmap "
        "that ignores the input is steady too.",
    ),
    "randomised": Measure(
        "left after randomising",
        "SSIM, or rank correlation where inputs are no pictures, of the heatmap with that of the same network with all weights "
        "random, signs aside. High means that training hardly matters to it.",
        LOWEST,
    ),
    "convergence": Measure(
        "say of the upper layers",
        "1\u00a0−\u00a0cosine, in the lowest layer where chance tells vectors apart, between the effects of different random "
        "relevance above; near 0, the upper layers have no say in the pattern, or in the mix of channels at a position of a "
        "convolution.",
        HIGHEST,
    ),
    "gradient": Measure("like gradient × input", "cosine with gradient × input; at 1 the rules add nothing to it."),
    "sensitivity": Measure("like sensitivity", "cosine with sensitivity, the squared gradient."),
}
SETTINGS = {
    "data": "data",
    "samples": "samples",
    "neurons": "neurons tested in each layer",
    "noise": "noise on the input, as a share of the data's spread",
    "patch": "side of a region, in pixels",
    "steps": "steps of the perturbation",
    "share": "share of the input replaced in the last step",
    "fill": "replaced by",
    "score": "score",
    "target": "explained class",
    "seed": "seed",
    "low": "lower bound of the input",
    "high": "upper bound of the input",
    "preprocessing": "preprocessing of pictures",
    "output": "explained output",
    "settings": "rules set by hand",
    "presets": "presets",
}
