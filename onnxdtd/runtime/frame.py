"""Explanations and explainers as notebooks show them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxdtd.contract import Metadata
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.labels import Labels

if TYPE_CHECKING:
    import pandas

    from onnxdtd.runtime.explainer import Explanation


FEW = 4  # samples


def dataframe(explanation: Explanation) -> pandas.DataFrame:
    """A row a sample. Raises ``OnnxdtdError`` where pandas is missing."""
    try:
        import pandas
    except ImportError:
        raise OnnxdtdError("pandas is not installed: pip install 'onnxdtd[data]'") from None
    columns: dict[str, Any] = {}
    run, relevance = explanation.run, explanation.relevance
    if run is None:
        return pandas.DataFrame()
    for name in ("predicted", "target"):
        if (classes := getattr(explanation, name)) is not None:
            columns[name] = [run.labels[index] for index in classes.tolist()]
    for name in ("logit", "missing"):
        if (numbers := getattr(explanation, name)) is not None:
            columns[name] = numbers
    for name, rows in run.by_sample(relevance).items():
        flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
        features = run.metadata.get("features", {}).get(name)
        if features is None:
            features = [",".join(map(str, index)) for index in np.ndindex(rows.shape[1:])]
            if len(relevance) > 1:
                features = [name] if len(features) == 1 else [f"{name}[{index}]" for index in features]
        columns |= {f"relevance[{feature}]": flat[:, i] for i, feature in enumerate(features)}
    return pandas.DataFrame(columns)


def by_input(frame: Any, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns of a table, [n, 1] each, that are called as inputs, or as skl2onnx writes these, by input; a string that is
    missing is an empty one. Raises ``RequestError`` where one is not there.
    """
    columns = {re.sub(r"^(?=\d)|\W", "_", str(column)): column for column in frame.columns}
    columns |= {str(column): column for column in frame.columns}
    if absent := [name for name in names if name not in columns]:
        raise RequestError(f"the table has no columns {', '.join(absent)}, which the model takes")
    return {name: _cells(frame[columns[name]])[:, None] for name in names}


def _cells(column: Any) -> np.ndarray:
    """Numbers, NaN where one is missing, or strings."""
    if column.dtype.kind in "fiub":
        return column.to_numpy(np.float64, na_value=np.nan)
    return column.astype(object).where(column.notna(), "").to_numpy()


def summed_up(explanation: Explanation) -> str:
    """An explanation in a line: its arrays by their shapes, and what it says of the first samples."""
    run, arrays = (
        explanation.run,
        {"outputs": explanation.outputs, "relevance": explanation.relevance, "kept": explanation.kept},
    )
    told = [
        f"{what}: {', '.join(f'{name} {[*array.shape]}' for name, array in named.items())}"
        for what, named in arrays.items()
        if named
    ]
    for name in ("predicted", "target", "logit", "missing"):
        values = getattr(explanation, name)
        if values is not None and values.ndim:
            index = run is not None and name in ("predicted", "target")
            first = [run.labels[value] if index and run else f"{value:.4g}" for value in values[:FEW].tolist()]
            told.append(f"{name}: {', '.join(first)}{', …' * (len(values) > FEW)}")
    return f"Explanation({'; '.join(told)})"


def described(metadata: Metadata, labels: Labels, inputs: Mapping[str, Any]) -> str:
    """What a compiled model is, as HTML."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(text)}</td></tr>"
        for name, text in _facts(metadata, labels, inputs)
    )
    return f"<table><caption>A classifier that explains itself</caption>{rows}</table>"


def in_a_line(metadata: Metadata, labels: Labels, inputs: Mapping[str, Any]) -> str:
    """The same as a line of text."""
    return f"Explainer({'; '.join(f'{name}: {text}' for name, text in _facts(metadata, labels, inputs))})"


def _facts(metadata: Metadata, labels: Labels, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """By name, what is known."""
    for name, node in inputs.items():
        yield f"input {name}", f"{node.type} {node.shape}"
    target = metadata.get("target", "argmax")
    words = {"argmax": "the predicted class", "input": "the class that is asked for", "score": "a sum of scores"}
    yield "explains", labels[target] if isinstance(target, int) else words.get(str(target), f"entry {target}")
    if contrast := metadata.get("contrast"):
        yield "against", f"the {contrast}"
    yield "by", metadata.get("preset", "")
    for name, output in metadata["relevance"].items():
        yield output, f"of {name}"
    if shown := labels.shown():
        yield "classes", ", ".join(shown[:12]) + (f" … {len(shown)} in all" if len(shown) > 12 else "")
    if bounds := metadata.get("bounds"):
        yield "bounds", ", ".join(f"{name} {value}" for name, value in bounds.items())
    yield "source", f"SHA-256 {metadata.get('source_sha256', '')[:16]}, compiled by onnxdtd {metadata.get('version', '')}"
