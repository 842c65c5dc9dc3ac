"""Which operators ONNX Runtime has kernels for, as registered in its own libraries.

``kernels.json`` has them by version, provider, domain and operator, each a list of lines such as ``"13,19 T=dfh"``: the
versions of the operator's schema, then the types that a type parameter (or an input) may have, a letter of ``LETTERS`` each.
`scripts/check/kernels.py` makes it. A kernel serves the schemas it is registered for and no newer one, so an operator whose
schema was renewed has none until somebody registers it again: what a file can run on depends on its operator set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from onnx import GraphProto, NodeProto, TensorProto, defs

DATA = Path(__file__).with_suffix(".json")
OLDEST = {17: "1.23.2", 21: "1.31.1"}  # the oldest onnxruntime-gpu on which all that is added has kernels, from a set on
CPU, GPU = "CPU", "CUDA"
LETTERS = {
    "?": TensorProto.BOOL,
    "f": TensorProto.FLOAT,
    "d": TensorProto.DOUBLE,
    "h": TensorProto.FLOAT16,
    "b": TensorProto.BFLOAT16,
    "c": TensorProto.INT8,
    "s": TensorProto.INT16,
    "i": TensorProto.INT32,
    "l": TensorProto.INT64,
    "C": TensorProto.UINT8,
    "S": TensorProto.UINT16,
    "I": TensorProto.UINT32,
    "L": TensorProto.UINT64,
    "t": TensorProto.STRING,
}
OF_SIZES = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
Types: TypeAlias = Mapping[str, int]  # of elements, by the name of a tensor
Kernel: TypeAlias = tuple[set[int], dict[str, set[int]]]  # versions of the schema, types by parameter


@cache
def registry() -> dict[str, dict[str, dict[str, dict[str, list[str]]]]]:
    """What ``kernels.json`` says: version, provider, domain, operator, lines."""
    found: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return found


def domain(name: str) -> str:
    """The default domain has two names."""
    return name or "ai.onnx"


@cache
def kernels(version: str, provider: str, where: str, op: str) -> tuple[Kernel, ...]:
    """Of an operator of a domain."""
    lines = registry()[version][provider].get(where, {}).get(op, ())
    return tuple(_read(line) for line in lines)


def _read(line: str) -> Kernel:
    versions, *parameters = line.split()
    split = (parameter.split("=") for parameter in parameters)
    return {int(v) for v in versions.split(",")}, {name: {LETTERS[letter] for letter in types} for name, types in split}


@cache
def schema(op: str, where: str, opset: int) -> defs.OpSchema | None:
    """Of an operator of the default domain at an operator set; other domains' are not known, and all of version 1."""
    try:
        return defs.get_schema(op, opset, "") if where == "ai.onnx" else None
    except defs.SchemaError:
        return None


def oldest(opset: int) -> str:
    """The oldest runtime supported on GPUs at an operator set."""
    return OLDEST[max(least for least in OLDEST if least <= opset)]


@cache
def offered(op: str, opset: int) -> bool:
    """Does the oldest GPU runtime supported at an operator set have a kernel of an operator of the default domain?"""
    version = oldest(opset)
    found = schema(op, "ai.onnx", opset)
    return found is not None and any(found.since_version in v for v, _ in kernels(version, GPU, "ai.onnx", op))


def lacking(
    graph: GraphProto, opset: int, types: Types, provider: str = GPU, version: str | None = None
) -> Iterator[tuple[int, str]]:
    """The positions of the nodes that have no kernel of a provider, and why.

    Left out is what computes sizes from sizes, which ONNX Runtime gives to the CPU in any case, and what becomes an initializer
    while a session is loaded. ``version`` is of ``registry``, by default the newest.
    """
    version = version or list(registry())[-1]
    sizes = {t.name for t in graph.initializer} - {value.name for value in graph.input}
    for position, node in enumerate(graph.node):
        integer = all(types.get(name) in OF_SIZES for name in node.output if name)
        if node.op_type in ("Shape", "Size", "Constant") or (integer and sizes.issuperset(filter(None, node.input))):
            sizes.update(node.output)
        elif reason := _reason(node, opset, types, provider, version):
            yield position, reason


def _reason(node: NodeProto, opset: int, types: Types, provider: str, version: str) -> str | None:
    """Why a node has no kernel, None where it has."""
    where = domain(node.domain)
    all_of_them, found = kernels(version, provider, where, node.op_type), schema(node.op_type, where, opset)
    spelled_out = found is not None and (found.has_function or found.has_context_dependent_function)
    if spelled_out and not kernels(version, CPU, where, node.op_type):
        return None  # the runtime puts the body in its place
    if not all_of_them:
        return "none at all"
    since = 1 if found is None else found.since_version
    fitting = [allowed for versions, allowed in all_of_them if since in versions]
    if not fitting:
        older = sorted({v for versions, _ in all_of_them for v in versions})
        return f"none for version {since} of the operator, only for {', '.join(map(str, older))}"
    if provider == GPU and node.op_type == "ConvTranspose" and _is_lopsided(node):
        return "none for pads that differ between the sides"
    if found is None or any(_fits(found, node, allowed, types) for allowed in fitting):
        return None
    given = [TensorProto.DataType.Name(types[name]).lower() for name in node.input if name in types]
    return f"none for these types ({', '.join(given)})"


def _is_lopsided(node: NodeProto) -> bool:
    """Does it pad one side more than the other? (The kernel is there, but the provider leaves such nodes alone.)"""
    pads = [list(a.ints) for a in node.attribute if a.name == "pads"]
    return any(one[: len(one) // 2] != one[len(one) // 2 :] for one in pads)


def _fits(found: defs.OpSchema, node: NodeProto, allowed: Mapping[str, set[int]], types: Types) -> bool:
    """Has the first argument of each parameter one of the types?"""
    first = {name: next((types[t] for t in _arguments(found, node, name) if t in types), None) for name in allowed}
    return all(kind is None or kind in allowed[name] for name, kind in first.items())


def _arguments(found: defs.OpSchema, node: NodeProto, name: str) -> Iterable[str]:
    """The tensors that a type parameter, or the name of an input or output, stands for."""
    variadic = defs.OpSchema.FormalParameterOption.Variadic
    given: Sequence[tuple[Sequence[Any], Sequence[str]]] = ((found.inputs, node.input), (found.outputs, node.output))
    for formals, actual in given:
        for i, formal in enumerate(formals):
            if name in (formal.type_str, formal.name):
                yield from actual[i:] if formal.option == variadic else actual[i : i + 1]
