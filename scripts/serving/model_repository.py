"""A model repository for NVIDIA's Triton Inference Server of compiled files: NAME/config.pbtxt and NAME/1/model.onnx.

Triton joins requests along the first axis of every input and cuts every output along its first axis. So all of them must have
the samples first, and any number of them; a file that has not is refused. The class to explain is a required input [batch],
which clients send as [batch, 1].

The rules are those of Triton's documents and of its ONNX Runtime backend, whose code was read. Triton never ran here.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from google.protobuf import text_encoding

from onnxdtd import atomic
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.graph import files
from onnxdtd.runtime import Explainer
from onnxdtd.runtime.explainer import dtype_name

TYPES = {"float": "FP32", "double": "FP64", "float16": "FP16", "bool": "BOOL", "string": "STRING"} | {
    f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")  # it becomes a folder, and a part of addresses
CPU = ("instance_group { kind: KIND_CPU }", 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }')
EXACT = 'name: "cuda" parameters { key: "use_tf32" value: "0" }'  # in TF32 relevance is off by up to a tenth
CUDA = (
    "instance_group { kind: KIND_GPU }",
    f"optimization {{ execution_accelerators {{ gpu_execution_accelerator {{ {EXACT} }} }} }}",
)
ALONE = "; --batch 0 joins no requests, and takes it"


def config(explainer: Explainer, name: str, batch: int = 16, delay: int = 1000, device: tuple[str, ...] = CPU) -> str:
    """``config.pbtxt`` of a compiled file: Triton joins up to ``batch`` samples, and waits ``delay`` microseconds for them; 0
    joins none. Raises ``RequestError`` where the file cannot be served so.
    """
    if batch:
        check(explainer)
    session = explainer.session
    optional = _optional(explainer)
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', f"max_batch_size: {batch}"]
    lines += [f"input {{ {tensor(node, batch)} }}" for node in session.get_inputs()]
    lines += [f"input {{ {tensor(node, batch)} optional: true }}" for node in optional]
    lines += [f"output {{ {tensor(node, batch)} }}" for node in session.get_outputs()]
    lines += [f"dynamic_batching {{ max_queue_delay_microseconds: {delay} }}"] * (batch > 0)
    return "\n".join([*lines, *device, ""])


def check(explainer: Explainer) -> None:
    """Raise ``RequestError`` unless requests can be joined along the first axis of all that goes in and comes out."""
    inputs, outputs = explainer.session.get_inputs(), explainer.session.get_outputs()
    for node in _optional(explainer):
        raise RequestError(
            f"the input {node.name!r} may be left out, which Triton refuses where it joins requests; compile the source model "
            f"with --target input, so that it is required{ALONE}"
        )
    for node in inputs:
        if not node.shape:  # Triton would load the file, and answer joined requests by what the first one asked for
            raise RequestError(
                f"the input {node.name!r} is one for all samples, whichever request they are of; serve the source beside a "
                f"file compiled without --on-demand{ALONE}"
            )
        if explainer.samples.get(node.name, 0) != 0:
            raise RequestError(f"the input {node.name!r} does not have its samples along its first axis{ALONE}")
    others = {size for node in inputs for size in node.shape[1:] if isinstance(size, str)}
    for node in (*inputs, *outputs):
        first = node.shape[0] if node.shape else 1
        if isinstance(first, int):
            raise RequestError(f"{node.name!r} is {node.shape}: its first axis does not have any number of samples{ALONE}")
        if first in others:
            raise RequestError(f"{node.name!r} is {node.shape}: its first axis, {first!r}, is another one of the inputs{ALONE}")


def tensor(node: Any, batch: int) -> str:
    """What the configuration says of an input or an output. Raises ``RequestError`` where Triton has no such type."""
    known = TYPES.get(dtype_name(node.type))
    if known is None:
        raise RequestError(f"{node.name!r} is {node.type}, which Triton's backend does not take")
    sizes = [size if isinstance(size, int) else -1 for size in node.shape[batch > 0 :]]
    flat = " reshape { shape: [ ] }" if batch and not sizes else ""  # Triton knows no tensors without axes
    name = text_encoding.CEscape(node.name, as_utf8=True)
    return f'name: "{name}" data_type: TYPE_{known} dims: {sizes or [1]}{flat}'


def _optional(explainer: Explainer) -> list[Any]:
    """Those of our inputs that may be left out; weights that old exporters list as inputs are none."""
    ours = {explainer.metadata.get("target_input"), explainer.asks, *explainer.masks.values()}
    return [node for node in explainer.session.get_overridable_initializers() if node.name in ours]


def write(model: Path, repository: Path, name: str, batch: int, delay: int, device: tuple[str, ...]) -> Path:
    """Put a compiled file into a repository, all or nothing, with its weights where they are in other files."""
    if not NAME.fullmatch(name):
        raise RequestError(f"--name {name!r}: give up to 100 letters, digits, - and _")
    _check_free(repository / name)
    said = config(Explainer(model, optimise=False), name, batch, delay, device)
    repository.mkdir(parents=True, exist_ok=True)
    with atomic.folder(repository / name) as folder:
        (folder / "1").mkdir()
        files.write(files.read(model).proto, folder / "1" / "model.onnx", source=model)
        atomic.write(folder / "config.pbtxt", said.encode())
    return repository / name


def _check_free(folder: Path) -> None:
    """Raises ``RequestError`` where something else would be lost: further versions, or the like."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found and (found != {"config.pbtxt", "1"} or not (folder / "1" / "model.onnx").is_file()):
        raise RequestError(f"{folder}: has other files in it; choose another --name")


def main() -> None:
    """The command."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a compiled file")
    parser.add_argument("-o", "--repository", type=Path, default=Path("model_repository"), help="(model_repository)")
    parser.add_argument("--name", help="what clients ask for; by default the name of the file")
    parser.add_argument("--batch", type=int, default=16, help="up to how many samples are joined; 0: none are (16)")
    parser.add_argument("--delay", type=int, default=1000, help="how many microseconds a request waits for others (1000)")
    parser.add_argument("--gpu", action="store_true", help="serve it on GPUs")
    given = parser.parse_args()
    name = given.name or re.sub(r"[^A-Za-z0-9_-]", "_", given.model.name.removesuffix(".onnx"))
    try:
        if min(given.batch, given.delay) < 0:
            raise RequestError("--batch and --delay: give 0 or more")
        print(write(given.model, given.repository, name, given.batch, given.delay, CUDA if given.gpu else CPU))
    except (OnnxdtdError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
