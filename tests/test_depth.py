"""No depth of a graph, or of anything else, is too much: nothing calls itself, and deep nets are served."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import model, node

import onnxdtd
from onnxdtd.depth import Task, result
from onnxdtd.study.verify import verify

PACKAGE = Path(onnxdtd.__file__).parent
BOUNDED = {"onnxdtd.contract._is"}  # goes as deep as the hint of a type is written, whatever the data
DEEP = 3_000  # nodes: three times as many as there are frames
FEW = 250  # frames besides those of the test itself: pytest, numpy and onnx need some


# ------------------------------------------------------------------------------------------- functions that call each other


class Calls:
    """Which functions of some modules mention which others by name: of their own module, of others by import, of ``self``.

    What stands behind a ``yield`` is called by ``onnxdtd.depth.result``, from its list.
    """

    def __init__(self, modules: dict[str, str]):
        self.functions: dict[str, tuple[str, ast.AST, str]] = {}  # by name: the module, the tree, the class
        self.imports: dict[str, dict[str, str]] = {}
        for module, text in modules.items():
            tree = ast.parse(text)
            lines = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
            self.imports[module] = {a.asname or a.name: f"{line.module}.{a.name}" for line in lines for a in line.names}
            places = [(child, module, "") for child in ast.iter_child_nodes(tree)]
            for child, scope, owner in places:
                name = getattr(child, "name", "")
                if isinstance(child, ast.Assign) and isinstance(child.value, ast.Lambda):
                    name, child = ast.unparse(child.targets[0]), child.value
                if isinstance(child, ast.FunctionDef | ast.Lambda) and name:
                    self.functions[f"{scope}.{name}"] = module, child, owner
                inner = f"{scope}.{name}" if name else scope
                owner = inner if isinstance(child, ast.ClassDef) else owner
                places += [(each, inner, owner) for each in ast.iter_child_nodes(child)]
        self.of = {name: set(self._mentioned(name)) for name in self.functions}

    def _mentioned(self, name: str) -> Iterator[str]:
        module, tree, owner = self.functions[name]
        inside = [*ast.iter_child_nodes(tree)]
        own = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        own |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        own = {n for n in own if f"{name}.{n}" not in self.functions}
        for n in inside:
            if isinstance(n, ast.FunctionDef):  # a function of its own, if it is mentioned
                continue
            if isinstance(n, ast.Yield) and isinstance(n.value, ast.Call):
                inside += [*n.value.args, *n.value.keywords]
                continue
            inside += ast.iter_child_nodes(n)
            if isinstance(n, ast.Name) and n.id not in own:
                yield from self._meant(n.id, name, module, owner)
            elif isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name):
                scope = owner if n.value.id in ("self", "cls") else self.imports[module].get(n.value.id, "")
                yield from {f"{scope}.{n.attr}"} & self.functions.keys()

    def _meant(self, mentioned: str, scope: str, module: str, owner: str) -> Iterator[str]:
        """A name as it is seen from within a function: methods are seen through ``self`` alone."""
        while scope:
            if scope != owner and f"{scope}.{mentioned}" in self.functions:
                yield f"{scope}.{mentioned}"
                return
            scope = "" if scope == module else scope.rpartition(".")[0]
        yield from {self.imports[module].get(mentioned, "")} & self.functions.keys()

    def circles(self) -> set[str]:
        """The functions that can come back to themselves: what is left when all that only lead away are taken off."""
        left = {name: called & self.of.keys() for name, called in self.of.items()}
        while ends := {name for name, called in left.items() if not called}:
            left = {name: called - ends for name, called in left.items() if name not in ends}
        readers = defaultdict(set)
        for name, called in left.items():
            for other in called:
                readers[other].add(name)
        while starts := {name for name in left if not readers[name]}:
            left = {name: called for name, called in left.items() if name not in starts}
            for name in readers:
                readers[name] -= starts
        return set(left)


def test_circles_are_found() -> None:
    text = """
def one(n): return two(n - 1)
def two(n): return one(n) if n else 0
def outer(n):
    inner = lambda n: inner(n - 1) if n else 0
    return inner(n)
class Tree:
    def depth(self): return max(self.below())
    def below(self): return [self.depth() for each in self.parts]
    def size(self): return size(self)
def size(tree): return len(tree.parts)
def ready(n): return (yield ready(n - 1)) if n else 0
def leading(n): return one(n)
"""
    found = {"m.one", "m.two", "m.outer.inner", "m.Tree.depth", "m.Tree.below"}
    assert Calls({"m": text}).circles() == found


def test_nothing_in_the_package_calls_itself() -> None:
    paths = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    assert Calls({name: path.read_text(encoding="utf-8") for name, path in paths.items()}).circles() == BOUNDED


def test_tasks_wait_for_each_other_to_any_depth_and_are_left_from_within() -> None:
    left = []

    def down(n: int) -> Task[int]:
        try:
            return 1 + (yield down(n - 1)) if n else 1 // (n + zero)
        finally:
            left.append(n)

    zero = 1
    assert result(down(DEEP)) == DEEP + 1
    zero = 0
    left.clear()
    with pytest.raises(ZeroDivisionError):
        result(down(3))
    assert left == [0, 1, 2, 3]


# ------------------------------------------------------------------------------------------------------------- deep graphs


def deep_net(depth: int) -> onnx.ModelProto:
    """A binary model: a long way to the first layer, one of casts, activations and skips behind it, and one to the logit."""
    rng = np.random.default_rng(0)
    nodes, last = list[onnx.NodeProto](), "x"

    def then(op: str, *others: str, **attrs: int) -> None:
        nonlocal last
        nodes.append(node(op, " ".join([last, *others]), f"t{len(nodes)}", **attrs))
        last = nodes[-1].output[0]

    for i in range(depth // 3):
        then("Mul", "sizes") if i % 50 == 0 else then("Identity")
    then("MatMul", "w")
    for i in range(depth // 3):
        then("Add", last) if i % 100 == 0 else then("Relu") if i % 2 else then("Identity")
    then("MatMul", "v")
    for i in range(depth - 2 * (depth // 3)):
        then("Add", "bias") if i < 300 else then("Identity")
    nodes.append(node("Sigmoid", last, "y"))
    weights = {"w": rng.normal(size=(3, 4)), "v": rng.normal(size=(4, 1)), "sizes": [0.9, 1.0, 1.1], "bias": [0.01]}
    held = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    return model(nodes, {"x": ["n", 3]}, {"y": ["n", 1]}, held)


@pytest.fixture
def low_stack() -> Iterator[None]:
    """As few frames as there are below the test, and some."""
    frame, frames, limit = sys._getframe(), 0, sys.getrecursionlimit()
    while frame is not None:
        frame, frames = frame.f_back, frames + 1
    sys.setrecursionlimit(frames + FEW)
    yield
    sys.setrecursionlimit(limit)


def test_deep_nets_are_compiled_and_verified(low_stack: None, tmp_path: Path) -> None:
    onnx.save(deep_net(DEEP), tmp_path / "deep.onnx")
    compiled = onnxdtd.compile(str(tmp_path / "deep.onnx"), preset="dtd", low=0.0, high=1.0, ledger=True)
    onnxdtd.save(compiled, tmp_path / "compiled.onnx")
    report = verify(tmp_path / "compiled.onnx", tmp_path / "deep.onnx")
    assert report.passed, report.failed
    assert report.steps
