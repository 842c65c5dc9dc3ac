"""Decisions of support vector machines in operators of the default domain: f(x) = Σ α k(x, u) + ρ over support vectors u.

A linear kernel is a dense layer; (γ xᵀu + c)ᵖ and tanh(γ xᵀu + c) are two with a function between them. An RBF kernel
e^(−γ|x − u|²) is a function of distances, and relevance by way of that would speak for what tells x from those that it is like.
With S± = Σ ±α k over the support vectors of one sign, ρ among them as one that every x is equally near to, f is m L, where

    L = log S⁺ − log S⁻ = smax_j smin_k (log α_j/α_k + γ |x − u_k|² − γ |x − u_j|²),    m = f / L, the logarithmic mean of S±,

a soft maximum of soft minima of units that are linear in x where j and k are support vectors, and a squared distance where one
of them is ρ (Kauffmann et al. 2019, arXiv 1906.07633; Kauffmann, Müller and Montavon 2018, arXiv 1805.06230). As there, each
unit has its part in the softmax. With these parts and m constant, f is a linear layer of x and squared distances, and a bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Shape, Tensor, unique

FLOAT = np.dtype(np.float32)
NOTHING = -1e30  # the logarithm of a coefficient of 0
NEAR = 1e-3  # with L so small, the geometric mean is the logarithmic one to float precision


class Writer:
    """Writes nodes to plan on, and what they give where somebody reads it."""

    def __init__(self, e: Emit):
        self.e, self.nodes, self.names = e, list[Node](), set[str]()

    def __call__(self, op: str, *inputs: Any, shape: Shape | None = None, y: Tensor | None = None, **attrs: Any) -> Tensor:
        """The output of a node, ``y`` or a new tensor; arrays are constants."""
        given = [t if isinstance(t, Tensor) else self.e.constant(np.asarray(t)) for t in inputs]
        result = self.e(op, *given, shape=shape, **attrs) if y is None else y
        self.nodes.append(Node(op, unique(f"{self.e.scope}/{op}", self.names), given, [result], attrs))
        return result


class Machine:
    """Decisions over the same support vectors: ``weights`` α [decisions, vectors], ``rho`` [decisions], ``vectors`` u [vectors,
    features], None where α are the weights of features. ``reference``: what the decisions are compared with.
    """

    def __init__(
        self,
        attrs: Mapping[str, Any],
        weights: np.ndarray,
        rho: np.ndarray,
        vectors: np.ndarray | None,
        reference: float = 0.0,
    ):
        self.kernel = attrs.get("kernel_type", "LINEAR") if vectors is not None else "LINEAR"
        self.gamma, self.shift, self.degree = [*(attrs.get("kernel_params") or ()), 0.0, 0.0, 0.0][:3]
        self.weights, self.rho, self.level = weights, rho, rho - reference
        self.vectors = np.eye(weights.shape[1]) if vectors is None else vectors

    def is_served(self, derivative: bool) -> bool:
        """Is there a way back through its kernel? That of relevance through RBF kernels takes something on either side."""
        if self.kernel != "RBF":
            return self.kernel in ("LINEAR", "POLY", "SIGMOID")
        sides = [(sign * self.weights > 0).any(axis=1) | (sign * self.level > 0) for sign in (1, -1)]
        return self.gamma > 0 and bool(derivative or (sides[0] & sides[1]).all())

    def decide(self, write: Writer, x: Tensor, derivative: bool, y: Tensor | None = None) -> Tensor:
        """The decisions [samples, decisions], written as a ``derivative`` goes back through them, or relevance does."""
        samples, count = (dims(x) or [None])[0], len(self.vectors)
        if self.kernel == "RBF":
            near = Near(write, self, x)
            return (
                near.plainly(write, y) if derivative else near.by_parts(near.plainly(Writer(write.e), None) if y is None else y)
            )
        if self.kernel == "LINEAR":
            weights = (self.weights @ self.vectors).T
            return write("Gemm", x, floats(weights), floats(self.rho), shape=[samples, len(self.rho)], y=y)
        weights, shift = self.gamma * self.vectors.T, np.full(count, self.shift)
        kernel = write("Gemm", x, floats(weights), floats(shift), shape=[samples, count])
        if self.kernel == "SIGMOID":
            return self.summed(write, write("Tanh", kernel, shape=kernel.shape), y)
        return self.summed(write, write("Pow", kernel, floats(self.degree), shape=kernel.shape), y)

    def summed(self, write: Writer, kernel: Tensor, y: Tensor | None) -> Tensor:
        """Σ α k + ρ"""
        shape = [(kernel.shape or [None])[0], len(self.rho)]
        return write("Gemm", kernel, floats(self.weights.T), floats(self.rho), shape=shape, y=y)


class Near:
    """A machine with an RBF kernel at some x, and ``apart``, (x − u)² [samples, vectors, features]."""

    def __init__(self, write: Writer, machine: Machine, x: Tensor):
        self.write, self.machine, self.samples = write, machine, (dims(x) or [None])[0]
        self.count, self.features = machine.vectors.shape
        shape = [self.samples, self.count, self.features]
        self.row = write("Unsqueeze", x, np.array([1]), shape=[self.samples, 1, self.features])
        each = write("Expand", self.row, np.array([1, self.count, 1]), shape=shape)  # of which differences move the origin only
        self.apart = write("Pow", write("Sub", each, floats(machine.vectors), shape=shape), floats(2), shape=shape)

    def steep(self, write: Writer) -> Tensor:
        """−γ|x − u|², [samples, vectors]"""
        shape = [self.samples, self.count]
        distance = write("ReduceSum", self.apart, np.array([2]), shape=shape, keepdims=0)
        return write("Mul", distance, floats(-self.machine.gamma), shape=shape)

    def plainly(self, write: Writer, y: Tensor | None) -> Tensor:
        """Σ α e^(−γ|x − u|²) + ρ"""
        return self.machine.summed(write, write("Exp", self.steep(write), shape=[self.samples, self.count]), y)

    def by_parts(self, y: Tensor) -> Tensor:
        """The decisions ``y`` as linear units and squared distances, and what is left over."""
        write, decisions, parts = self.write, len(self.machine.rho), list[Tensor]()
        linear, squared = self.weights(y)
        shape = [self.samples, decisions]
        if linear is not None:
            units = write("MatMul", self.row, linear, shape=[self.samples, 1, decisions])
            parts.append(write("Squeeze", units, np.array([1]), shape=shape))
        if squared is not None:
            far = write("ReduceSum", self.apart, np.array([2]), shape=[self.samples, self.count, 1], keepdims=1)
            units = write("MatMul", squared, far, shape=[*shape, 1])
            parts.append(write("Squeeze", units, np.array([2]), shape=shape))
        total = parts[0] if len(parts) == 1 else write("Add", *parts, shape=shape)
        return write("Add", total, write.e("Sub", y, total, shape=shape), shape=shape, y=y)

    def weights(self, y: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Those of x [samples, features, decisions] and of |x − u|² [samples, decisions, vectors]; None where all are 0."""
        e, machine, n = self.write.e, self.machine, self.count
        p, q, mean = self.parts(y)
        (p, level_p), (q, level_q) = ((e("Slice", t, [0], [n], [2]), e("Slice", t, [n], [n + 1], [2])) for t in (p, q))
        linear = squared = None
        if (machine.weights > 0).any() and (machine.weights < 0).any():
            units = e("Sub", e("Mul", e("Sub", 1.0, level_q), p), e("Mul", e("Sub", 1.0, level_p), q))
            scaled = e("Mul", e("MatMul", units, e.constant(floats(2 * machine.gamma * machine.vectors))), mean)
            linear = e("Transpose", scaled, perm=[0, 2, 1], shape=[self.samples, self.features, len(machine.rho)])
        if machine.level.any():
            units = e("Sub", e("Mul", level_p, q), e("Mul", level_q, p))
            squared = e("Mul", units, e("Mul", mean, machine.gamma), shape=[self.samples, len(machine.rho), n])
        return linear, squared

    def parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The parts that each support vector, and ρ as the last, has in log S⁺ and in log S⁻, and the logarithmic mean of both:
        [samples, decisions, vectors + 1], and [..., 1].
        """
        e, machine = self.write.e, self.machine
        every = np.concatenate([machine.weights, machine.level[:, None]], axis=1)
        there = e("Unsqueeze", e.framed(self.steep(Writer(e)), [0, 0, 0, 1]), [1])
        sides = [
            e("Add", e.constant(floats(_log(side))), there, shape=[self.samples, *every.shape]) for side in (every, -every)
        ]
        p, q = (e("Softmax", side, axis=2) for side in sides)
        # log Σ eˣ is any x less its log softmax, and so is each mean of these
        whole = [e("Sub", side, e("LogSoftmax", side, axis=2)) for side in sides]
        plus, minus = (e("ReduceSum", e("Mul", part, of), [2], keepdims=1) for part, of in zip((p, q), whole, strict=True))
        lead = e("Sub", plus, minus)
        near = e("Less", e("Abs", lead), NEAR)
        shifted = e("Add", y, e.constant(floats(machine.level - machine.rho))) if (machine.level != machine.rho).any() else y
        quotient = e("Div", e("Unsqueeze", shifted, [2]), e("Where", near, 1.0, lead))
        return p, q, e("Where", near, e("Exp", e("Mul", e("Add", plus, minus), 0.5)), quotient)


def _log(values: np.ndarray) -> np.ndarray:
    """The logarithm of what is positive"""
    return np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), NOTHING)


def floats(values: Any) -> np.ndarray:
    """float32, as runtimes compute these operators"""
    return np.ascontiguousarray(values, FLOAT).reshape(np.shape(values))
