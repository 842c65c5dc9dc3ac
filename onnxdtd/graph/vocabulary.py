"""Which strings a model knows: the categories of its encoders, by input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnxdtd.graph.tensors import Node, Tensor


def vocabulary(nodes: Iterable[Node], inputs: Sequence[Tensor]) -> dict[str, list[str]]:
    """The strings that nodes name which read an input of strings, by input; none where they name none."""
    known = {t.name: {t.name} for t in inputs if t.dtype == object}
    found: dict[str, dict[str, None]] = {name: {} for name in known}
    for node in nodes:
        words = [text for value in node.attrs.values() if isinstance(value, list) for text in value if isinstance(text, str)]
        for name, reached in known.items():
            if any(t.name in reached for t in node.inputs):
                found[name] |= dict.fromkeys(words)
                reached |= {t.name for t in node.outputs if t.dtype == object or t.dtype is None}
    return {name: list(words) for name, words in found.items()}
