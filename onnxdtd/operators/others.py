"""Operators that relevance does not go through, of which only some facts are needed: where their axes come from, mostly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxdtd.graph import recurrent
from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import columns, heads, lookups, places, sizes, spread
from onnxdtd.operators.table import CHOICE, CONSTANT, HEAD, LABELS_AND_SCORES, Head, Operator, always, enter, named

KERNEL_SHAP = "KernelSHAP (shap.KernelExplainer), which takes any function"
TREES = ("trees, which are constant almost everywhere", "TreeSHAP (shap.TreeExplainer) on the model that was exported")
STEPS = ("steps, which are constant almost everywhere", KERNEL_SHAP)
FILLED = ("what is filled in where nothing could be computed", KERNEL_SHAP)
MACHINES = ("support vector machines of this kind", KERNEL_SHAP)
BOOL, INTEGERS = np.dtype(bool), np.dtype(np.int64)


def undefined(op: str) -> str:
    """That no rule of this family is for such a model, or for what an operator chooses."""
    what, instead = named(op).undefined or (f"what {op} chooses", KERNEL_SHAP)
    return f"relevance is not defined on {what}; people use {instead}"


def weighed(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """It counts; weights may be negative."""
    return all(weight >= 0 for weight in node.attrs.get("weights") or ())


# Sizes, the same for all samples

enter(Operator("Shape", kind=CONSTANT, counted=sizes.shape))
enter(Operator("Size", kind=CONSTANT, counted=sizes.size))
enter(Operator("ConstantOfShape", kind=CONSTANT, counted=sizes.filled))
enter(Operator("EyeLike", kind=CONSTANT))

# Entry by entry

enter(Operator("BitShift", axes=spread.broadcast))
enter(Operator("And", kind=CHOICE, axes=spread.broadcast), "Or", "Xor", "Not", "IsNaN", "IsInf")
enter(Operator("Equal", kind=CHOICE, chooses=(0, BOOL), axes=spread.broadcast, counted=sizes.equal, looks_up=lookups.compared))
enter(
    Operator("Less", kind=CHOICE, chooses=(0, BOOL), axes=spread.broadcast),
    *("LessOrEqual", "Greater", "GreaterOrEqual"),
)
enter(Operator("CastLike", axes=spread.as_the_first))
enter(Operator("Imputer", axes=spread.as_the_first, undefined=FILLED))  # see ``written``

# Over some axes

enter(Operator("Hardmax", sign=always, axes=spread.normalised(lambda node, rank: [node.attrs.get("axis", -1)])))
enter(Operator("MeanVarianceNormalization", axes=spread.normalised(lambda node, rank: node.attrs.get("axes", [0, 2, 3]))))
enter(Operator("OneHot", axes=spread.one_hot, looks_up=lookups.one_hot))
enter(Operator("FeatureVectorizer", axes=spread.concatenated, names=columns.side_by_side))

# From strings to numbers, behind which relevance begins

enter(Operator("LabelEncoder", axes=spread.as_the_first), "CategoryMapper")
enter(Operator("OneHotEncoder", sign=always, names=columns.categories))
enter(Operator("TfIdfVectorizer", sign=weighed, names=columns.terms))

# Entries that are elsewhere than they were

enter(Operator("GridSample", moves=True), "Unique", "TensorScatter", "CenterCropPad", "RoiAlign", "MaxRoiPool", "DeformConv")
enter(Operator("ScatterElements.mul", axes=spread.scattered, moves=True))
enter(Operator("ScatterND.mul", axes=spread.scattered_nd, moves=True))
enter(Operator("NonMaxSuppression", kind=CHOICE, chooses=(0, INTEGERS)))

# Layers whose channels are known

enter(Operator("ConvInteger", channels=places.FIRST))
enter(Operator("MatMulInteger", channels=places.LAST))

# Whose course is decided at run time; where it is not, what they come to stands in their place

enter(Operator("If", why="which of its branches is taken is decided at run time"))
enter(Operator("Loop", why="how many turns it takes is decided at run time"))
enter(Operator("Scan", why="its turns are not told apart; a Loop with a constant number of them is followed"))
enter(Operator("Attention", why="it comes to products and a softmax without past keys and values and further outputs only"))


def _not_unrolled(node: Node) -> str:
    """Why a recurrent layer is not seen as its steps."""
    sizes, given = dims(node.inputs[0]), [i for i, t in enumerate(node.inputs) if not t.left_out]
    return recurrent.obstacle(node.op, node.attrs, given, sizes[1 if node.attrs.get("layout") else 0] if sizes else None)


enter(Operator("LSTM", why=_not_unrolled, channels=places.LAST), "GRU", "RNN")

# Models that are no networks

enter(Operator("TreeEnsemble", undefined=TREES), "TreeEnsembleClassifier", "TreeEnsembleRegressor")
enter(Operator("Binarizer", axes=spread.as_the_first, undefined=STEPS))
enter(Operator("SVMRegressor", undefined=MACHINES))  # what ``machines`` shows no way back through
enter(
    Operator(
        "SVMClassifier",
        kind=HEAD,
        undefined=MACHINES,
        axes=spread.labelled,
        head=Head(gives=LABELS_AND_SCORES, one=True),
        before=heads.before_decision,
    )
)
enter(Operator("CDist", undefined=("distances to neighbours", KERNEL_SHAP)))
