"""A compiled model in 64 bits: what the rules say where nothing is lost to rounding.

ONNX Runtime has no convolutions in float64. The reference evaluator of the onnx package runs everything, and slowly; here
PyTorch does the heavy operators for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import onnxdtd

F = torch.nn.functional


def doubled(model: ModelProto) -> ModelProto:
    """The model with float64 wherever it had float32."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    for tensor in graph.initializer:
        _double(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _double(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    return made


def _double(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def relevance(path: Any, preset: str, x: np.ndarray, target: int, **options: Any) -> np.ndarray:
    """What a model says of ``x`` when it is compiled and run in float64."""
    compiled = onnxdtd.compile(doubled(onnx.load(path)), preset, target="input", **options)
    running = ReferenceEvaluator(compiled, new_ops=[Conv, ConvTranspose, MaxPool, ScatterElements])
    name = compiled.graph.input[0].name
    outputs = [value.name for value in compiled.graph.output]
    found = running.run(None, {name: x.astype(np.float64), "target": np.asarray([target])})
    return dict(zip(outputs, found, strict=True))["relevance"]


def _pads(x: torch.Tensor, pads: Any, auto_pad: str, window: list[int], strides: list[int], fill: float) -> torch.Tensor:
    """The input with its padding, in front and behind."""
    space = len(window)
    if auto_pad.startswith("SAME"):
        need = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(x.shape[2:], window, strides, strict=True)]
        small, large = [n // 2 for n in need], [n - n // 2 for n in need]
        pads = small + large if auto_pad == "SAME_UPPER" else large + small
    pads = list(pads or [0] * 2 * space)
    return F.pad(x, [width for i in reversed(range(space)) for width in (pads[i], pads[space + i])], value=fill)


class Conv(OpRun):
    """By PyTorch."""

    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None, strides=None):  # type: ignore
        space = w.ndim - 2
        strides, dilations = list(strides or [1] * space), list(dilations or [1] * space)
        window = [d * (k - 1) + 1 for d, k in zip(dilations, w.shape[2:], strict=True)]
        padded = _pads(torch.from_numpy(np.ascontiguousarray(x)), pads, auto_pad or "NOTSET", window, strides, 0.0)
        run = (F.conv1d, F.conv2d, F.conv3d)[space - 1]
        bias = None if b is None else torch.from_numpy(np.ascontiguousarray(b))
        weight = torch.from_numpy(np.ascontiguousarray(w))
        return (run(padded, weight, bias, strides, 0, dilations, group or 1).numpy(),)


class ConvTranspose(OpRun):
    """By PyTorch; pads are cut off."""

    op_domain = ""

    def _run(  # type: ignore
        self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, output_padding=None,
        output_shape=None, pads=None, strides=None,
    ):  # fmt: skip
        space = w.ndim - 2
        assert not output_shape
        run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[space - 1]
        bias = None if b is None else torch.from_numpy(np.ascontiguousarray(b))
        more = list(output_padding or [0] * space)
        args = list(strides or [1] * space), 0, 0, group or 1, list(dilations or [1] * space)
        y = run(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(np.ascontiguousarray(w)), bias, *args)
        y = F.pad(y, [width for m in reversed(more) for width in (0, m)])
        pads = list(pads or [0] * 2 * space)
        return (F.pad(y, [-width for i in reversed(range(space)) for width in (pads[i], pads[space + i])]).numpy(),)


class MaxPool(OpRun):
    """By PyTorch, with the places of the winners where they are wanted."""

    op_domain = ""

    def _run(  # type: ignore
        self, x, auto_pad=None, ceil_mode=None, dilations=None, kernel_shape=None, pads=None, storage_order=None, strides=None,
    ):  # fmt: skip
        space = len(kernel_shape)
        strides = list(strides or [1] * space)
        run = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[space - 1]
        given = torch.from_numpy(np.ascontiguousarray(x))
        numbers = torch.arange(given.numel()).reshape(given.shape)
        window = list(kernel_shape)
        place = _pads(numbers, pads, auto_pad or "NOTSET", window, strides, -1)
        padded = _pads(given, pads, auto_pad or "NOTSET", window, strides, -torch.inf)
        y, index = run(padded, window, strides, 0, list(dilations or [1] * space), bool(ceil_mode), return_indices=True)
        planes = (*x.shape[:2], -1)
        winners = place.reshape(planes).gather(2, index.reshape(planes)).reshape(y.shape)
        return (y.numpy(), winners.numpy()) if len(self.output) > 1 else (y.numpy(),)


class ScatterElements(OpRun):
    """Along one axis, adding."""

    op_domain = ""

    def _run(self, data, indices, updates, axis=None, reduction=None):  # type: ignore
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in (data, indices, updates)]
        if reduction == "add":
            return (tensors[0].scatter_add(axis or 0, tensors[1], tensors[2]).numpy(),)
        return (tensors[0].scatter(axis or 0, tensors[1], tensors[2]).numpy(),)
