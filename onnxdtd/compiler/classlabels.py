"""What a model says of its classes: labels in its last operators or in its metadata, and the outputs that tell the class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxdtd.compiler.logits import heads, step_back
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.score import classes, is_binary
from onnxdtd.graph.emit import dims
from onnxdtd.graph.machines import GIVES, PAIRS
from onnxdtd.graph.tensors import Tensor
from onnxdtd.labels import parsed
from onnxdtd.operators.heads import is_transparent
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.table import BY_LABEL, LABELS, LABELS_AND_SCORES, named, of

KEYS = ("names", "class_names", "classes", "labels", "class_labels", "id2label", "model_info labels")  # of metadata_props

Table: TypeAlias = list[Any]  # the label of each class, a string or an integer


@dataclass(frozen=True)
class Said:
    """``labels`` in the order of the logits, None where they are 0, 1, 2 ...; the outputs that give the label and the scores of
    each class, None where there are none. ``squashed``: the only score is the probability of class 1 of two.
    """

    labels: Table | None
    label_output: str | None
    score_output: str | None
    squashed: bool


def said(proto: onnx.ModelProto, made: Plan) -> Said:
    """Follow the class from the logits to the outputs. Metadata count where the operators give no labels of their own."""
    count = classes(made)
    tensors = {t.name: t for node in made.producer.values() for t in node.outputs}
    source = lambda name: step_back(tensors[name], made.producer, made.active)[0].name
    starts = {made.logits.name, source(made.output)}  # what a reference was taken off, too
    leads = lambda name: name in tensors and source(name) in starts
    tables, own = _followed(proto, count, leads)
    plain = None if count is None else list(range(count))
    if own in (None, plain) and count is not None:
        own = _in_metadata(proto, count) or plain
    outputs = [value.name for value in proto.graph.output]
    numbers = own is not None and all(isinstance(label, int) for label in own)
    by_label = [name for name in outputs if name in tables and tables[name] in ([own] if numbers else [own, plain])]
    by_score = [name for name in outputs if leads(name) and name not in tables and _has_scores(tensors[name], made)]
    by_score.sort(key=lambda name: name != made.output)
    chosen = next(iter(by_score), None)
    return Said(None if own == plain else own, next(iter(by_label), None), chosen, chosen is not None and is_binary(made))


def _has_scores(tensor: Tensor, made: Plan) -> bool:
    """Does it have a score for each class, or the probability of class 1 of two?"""
    walked = step_back(tensor, made.producer, made.active)[1]
    if any(node.attrs.get(GIVES) == PAIRS for node in walked):
        return False
    head = of(made.producer[tensor.name]).head
    if head is not None and head.gives == BY_LABEL:
        return True
    sizes, count = dims(tensor), classes(made)
    if not is_float(tensor.dtype):
        return False
    if not made.raster.row:
        return tensor.name == made.raster.shown.name
    if is_binary(made) and (sizes is None or len(sizes) < 2 or sizes[1] == 1):
        return any(head.one for head in heads(walked))
    return sizes is None or count is None or (bool(sizes) and sizes[min(1, len(sizes) - 1)] in (count, None))


def _followed(proto: onnx.ModelProto, count: int | None, leads: Callable[[str], bool]) -> tuple[dict[str, Table], Table | None]:
    """By the name of each tensor that has a label for each sample, the label that it has for each class; and the labels that
    the model ends with. ``leads`` tells whether a tensor comes from the logits.
    """
    constants, tables = _constants(proto), dict[str, Table]()
    last: Table | None = None
    for node in proto.graph.node:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.type != onnx.AttributeProto.GRAPH}
        found = _table(node, attrs, constants, tables, count, leads)
        if found is None or (count is not None and len(found) != count):
            continue
        if (head := named(node.op_type).head) is None or head.gives != BY_LABEL:  # which has scores by label
            tables[node.output[0]] = found
        last = found
    return tables, last


def _table(
    node: onnx.NodeProto,
    attrs: Mapping[str, Any],
    constants: Mapping[str, np.ndarray],
    tables: Mapping[str, Table],
    count: int | None,
    leads: Callable[[str], bool],
) -> Table | None:
    """The labels that a node gives the classes."""
    before, entry = tables.get(node.input[0]) if node.input else None, named(node.op_type)
    if is_transparent(entry):
        return before
    if entry.head is not None and entry.head.gives in (BY_LABEL, LABELS_AND_SCORES):
        kinds = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
        labels = next((attrs[kind] for kind in kinds if attrs.get(kind)), None)
        return _plain(labels) if labels and leads(node.output[0]) else None
    if entry.head is not None and entry.head.gives == LABELS:
        return list(entry.head.labels or range(count)) if count is not None and leads(node.input[0]) else None
    if node.op_type in ("ArrayFeatureExtractor", "Gather") and node.input[0] in constants and node.input[1] in tables:
        values = _plain(constants[node.input[0]].ravel())
        return [values[i] for i in tables[node.input[1]]] if len(values) > max(tables[node.input[1]]) else None
    if node.op_type == "LabelEncoder" and before is not None:
        keys, values = ([*next((attrs[name] for name in attrs if name.startswith(kind)), [])] for kind in ("keys", "values"))
        known = dict(zip(_plain(keys), _plain(values), strict=False))
        return [known[label] for label in before] if all(label in known for label in before) else None
    return None


def _plain(values: Sequence[Any] | np.ndarray) -> Table:
    """Strings and integers."""
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v if isinstance(v, str) else int(v) for v in values]


def _constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The strings and integers that are fixed in the model."""
    kinds = (onnx.TensorProto.STRING, onnx.TensorProto.INT32, onnx.TensorProto.INT64)
    tensors = {t.name: t for t in proto.graph.initializer}
    found: dict[str, np.ndarray] = {}
    for node in proto.graph.node:
        for attr in node.attribute if node.op_type == "Constant" else ():
            if attr.name == "value":
                tensors[node.output[0]] = attr.t
            elif attr.name in ("value_strings", "value_ints"):
                found[node.output[0]] = np.asarray(helper.get_attribute_value(attr), object)
    usable = {name: t for name, t in tensors.items() if t.data_type in kinds and not t.external_data and len(t.dims) == 1}
    return found | {name: numpy_helper.to_array(t) for name, t in usable.items()}


def _in_metadata(proto: onnx.ModelProto, count: int) -> Table | None:
    """The first entry with as many labels as there are classes: a list or an object, as JSON or as Python writes it, or text in
    lines, with commas, or with blanks.
    """
    entries = {entry.key.lower(): entry.value for entry in proto.metadata_props}
    for key in KEYS:
        text = entries.get(key, "").strip()
        separator = "\n" if "\n" in text else "," if "," in text else None if key == "model_info labels" else "\n"
        found = parsed(text) or [word.strip() for word in text.split(separator)]
        if count > 1 and len(found) == count:
            return found
    return None
