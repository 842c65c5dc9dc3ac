"""Bringing a model to what the relevance pass builds on: functions inlined, operator set and IR version as needed."""

from __future__ import annotations

import re

import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxdtd.errors import ModelError
from onnxdtd.graph.shapes import forget_lengths, skeleton
from onnxdtd.graph.sound import called, check, check_valid, nodes_of

OLDEST_OPSET = 7  # what onnx's version converter still understands reliably

EMITTED_OPSET = 17  # the operators that the relevance pass uses mean the same from here on

EMITTED_IR = 8  # the IR version of opset 17; from 4 on, initializers need not be inputs

REMOVED = {  # experimental operators that older exporters wrote, and what does the same
    "Affine": "Mul and Add",
    "ConstantFill": "ConstantOfShape",
    "Crop": "Slice",
    "DynamicSlice": "Slice",
    "GivenTensorFill": "an initializer",
    "ImageScaler": "Mul and Add",
    "ParametricSoftplus": "Mul, Softplus and Mul",
    "Scale": "Mul",
    "ScaledTanh": "Mul, Tanh and Mul",
    "Scatter": "ScatterElements",
    "Upsample": "Resize",
}


def opset(proto: onnx.ModelProto) -> int:
    """The version of the default operator set."""
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise ModelError("the model imports no default operator set, though it has operators of it; export it again")
    return max(versions)


def _imports_default(proto: onnx.ModelProto) -> bool:
    return any(entry.domain in ("", "ai.onnx") for entry in proto.opset_import)


def _is_default(node: onnx.NodeProto) -> bool:
    """Is it of the default operator set?"""
    return node.domain in ("", "ai.onnx")


def _check_operators(proto: onnx.ModelProto, version: int) -> None:
    """Raise ``ModelError`` for a node that the default operator set does not have in this version."""
    for node in filter(_is_default, nodes_of(proto.graph.node)):
        if onnx.defs.has(node.op_type, version, "") and not onnx.defs.get_schema(node.op_type, version, "").deprecated:
            continue
        schemas = (s for s in onnx.defs.get_all_schemas_with_history() if not s.domain and s.name == node.op_type)
        later = [s.since_version for s in schemas if s.since_version > version and not s.deprecated]
        way = "export the model again without it"
        if node.op_type in REMOVED:
            way = f"write it as {REMOVED[node.op_type]}, or {way}"
        elif later:
            way = f"export the model again with operator set {min(later)}, which has it"
        raise ModelError(f"{called(node)}: operator set {version} has no such operator; {way}")


def normalise(proto: onnx.ModelProto) -> list[str]:
    """Bring ``proto`` in place to what the relevance pass builds on; returns what was changed, in words.

    Model-local functions are inlined, an operator set below 17 is converted by onnx's own converter, and an IR version
    below 8 is raised. A model that needs none of this stays as it is, node for node.
    """
    changes = []
    if not (proto.functions or _imports_default(proto) or any(map(_is_default, nodes_of(proto.graph.node)))):
        proto.opset_import.add(domain="", version=EMITTED_OPSET)
        changes.append(f"operator set {EMITTED_OPSET} imported")
    version = opset(proto)
    if version < OLDEST_OPSET:
        raise ModelError(f"operator set {version} is older than {OLDEST_OPSET}; export the model again with a newer one")
    if version > onnx.defs.onnx_opset_version():
        newest = onnx.defs.onnx_opset_version()
        raise ModelError(
            f"operator set {version} is newer than {newest}, the newest that this onnx {onnx.__version__} knows; "
            f"export the model again with {newest}, or install a newer onnx"
        )
    check(proto)
    if _put_in_order(proto):
        changes.append("nodes put in the order in which they need each other")
    bare = skeleton(proto)
    bare.ir_version = max(bare.ir_version, 4)  # below, every initializer has to be an input, which runtimes do without
    try:
        check_valid(bare)
    except ModelError:
        _check_operators(proto, version)  # which has better words where it is the operator
        raise
    if proto.functions:
        from onnx import inliner  # not imported by onnx itself

        proto.CopyFrom(inliner.inline_local_functions(proto))
        changes.append("model-local functions inlined")
    weights = {tensor.name for tensor in proto.graph.initializer}
    if proto.ir_version < 4:  # there every initializer had to be listed as an input
        inputs = [value for value in proto.graph.input if value.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
    _check_operators(proto, version)
    if proto.ir_version < EMITTED_IR:
        changes.append(f"IR version {proto.ir_version} raised to {EMITTED_IR}")
        proto.ir_version = EMITTED_IR
    if version < EMITTED_OPSET:
        _convert(proto, version)
        changes.append(f"operator set {version} converted to {EMITTED_OPSET}")
    if forget_lengths(proto):
        changes.append("declared shapes with a length that the exporter has seen left out")
    return changes


def _put_in_order(proto: onnx.ModelProto) -> bool:
    """Put nodes behind those that they read, in place, where they are not, which runtimes do as well; were there any? Those
    that wait for each other stay as they are, and are refused.
    """
    nodes = list(proto.graph.node)
    reads = [{name for inner in nodes_of([node]) for name in inner.input} for node in nodes]
    givers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    needs = [{givers[name] for name in names if name in givers} - {i} for i, names in enumerate(reads)]
    if all(max(needed, default=-1) < i for i, needed in enumerate(needs)):
        return False
    order: dict[int, None] = {}
    for start in range(len(nodes)):
        waiting, held = [start], set[int]()
        while waiting:
            missing = [i for i in sorted(needs[waiting[-1]]) if i not in order]
            if not missing:
                order[waiting.pop()] = None
            elif held.isdisjoint(missing):
                held.add(waiting[-1])
                waiting += missing[:1]
            else:
                return False
    copies = [onnx.NodeProto.FromString(nodes[i].SerializeToString()) for i in order]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    return True


def _convert(proto: onnx.ModelProto, version: int) -> None:
    """Convert the nodes; weights stay where they are, since the converter only sees the skeleton."""
    from onnx import version_converter

    bare, wanted = skeleton(proto), EMITTED_OPSET
    try:
        converted = version_converter.convert_version(bare, wanted)
    except Exception as error:  # the converter raises bare RuntimeErrors from C++
        culprit = next((f"{called(node)}: " for node in bare.graph.node if _fails_alone(bare, node, wanted, str(error))), "")
        reason = re.sub(r".* failed: ", "", str(error).strip().splitlines()[0])
        raise ModelError(
            f"{culprit}operator set {version} cannot be converted to {wanted} ({reason}); export the model again with {wanted}"
        ) from None
    known = {tensor.name for tensor in proto.graph.initializer}
    _keep_meanings(proto, converted, version)
    del proto.graph.node[:]
    proto.graph.node.extend(converted.graph.node)
    proto.graph.initializer.extend(t for t in converted.graph.initializer if t.name not in known)
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = wanted


def _keep_meanings(proto: onnx.ModelProto, converted: onnx.ModelProto, version: int) -> None:
    """Say of converted nodes what they meant before, where the converter lets them mean something else.

    Before operator set 11 a Resize took a pixel from where its corner lies, and rounded down, or up where it shrank; before 13
    a Hardmax had one 1 in all axes from ``axis`` on. Raises ``ModelError`` where that cannot be said.
    """
    small = {t.name: t for t in (*proto.graph.initializer, *converted.graph.initializer) if t.data_type == TensorProto.FLOAT}
    small |= {n.output[0]: a.t for n in converted.graph.node for a in n.attribute if a.name == "value" and n.output}
    for node in nodes_of(converted.graph.node):
        if node.op_type == "Resize" and version < 11:
            scales = numpy_helper.to_array(small[node.input[2]]) if node.input[2] in small else None
            shrinks = version == 10 and (scales is None or bool((scales < 1).any()))
            nearest = not any(a.name == "mode" and a.s == b"linear" for a in node.attribute)
            if nearest and shrinks and (scales is None or (scales > 1).any()):
                raise ModelError(
                    f"{called(node)}: whether it rounds up or down is not known at compile time; export the model again with "
                    "operator set 11"
                )
            node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(helper.make_attribute("nearest_mode", "ceil" if shrinks else "floor"))
        elif node.op_type == "Hardmax" and version < 13:
            raise ModelError(
                f"{called(node)}: from operator set 13 on it means something else; export the model again with that one"
            )


def _fails_alone(bare: onnx.ModelProto, node: onnx.NodeProto, wanted: int, reason: str) -> bool:
    """Does the conversion of one node fail in the same way?"""
    from onnx import version_converter

    alone = onnx.ModelProto(ir_version=bare.ir_version, opset_import=bare.opset_import)
    alone.graph.name = "alone"
    alone.graph.node.append(node)
    alone.graph.initializer.extend(t for t in bare.graph.initializer if t.name in node.input)
    given = {t.name for t in alone.graph.initializer}
    for names, place in ((node.input, alone.graph.input), (node.output, alone.graph.output)):
        place.extend(
            helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in dict.fromkeys(names) if n and n not in given
        )
    try:
        version_converter.convert_version(alone, wanted)
    except Exception as error:
        return str(error) == reason
    return False
