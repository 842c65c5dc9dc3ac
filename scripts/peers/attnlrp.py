"""Do `attnlrp` and `cp-lrp` say what lxt says, and how long do both take? On transformers of torchvision and of transformers.

The same weights, seeded and random, in PyTorch patched by ``lxt.efficient`` and in our files, by both exporters. The difference
is the largest one relative to lxt's largest entry; above 1e-3 it is a failure, and the exit status is 1. Of ids it is the
relevance of the word embeddings, summed for each token.

lxt has AttnLRP of BERT, and of torchvision's ViT CP-LRP at attention; what it lacks is made of its own parts: queries and keys
divided by 4 and values by 2 is AttnLRP of ``torch.nn.MultiheadAttention``, queries and keys detached and nothing halved CP-LRP
of BERT. It divides f(x) by x + 1e-10, so that a Gelu of 0 has slope 0 there and ½ with us; no x was 0.

Times are those of one process, in which all take turns: of the processor on one thread, of the clock on more. Forward passes
are those of the source file, loaded as our files are. Load times are those of a session in a process of its own, in load times
of the source. What is made of products of matrices and what is not comes of ONNX Runtime's own profile, the least of several
runs for each node.

    pip install --no-deps lxt==2.1 transformers==4.51.3 tokenizers==0.21.4 huggingface_hub==0.36.2 open_clip_torch \\
        safetensors regex tqdm pyyaml requests filelock fsspec packaging tabulate
    scripts/peers/attnlrp.py --write                     a quarter of an hour
    scripts/peers/attnlrp.py --rounds 3 --write          six minutes
    scripts/peers/attnlrp.py --rounds 0                  without times, a few minutes
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort
import splice
import torch
import torchvision
import transformers.models.bert.modeling_bert as hf
from lxt.efficient import monkey_patch, patches, rules
from lxt.efficient.models import bert, vit_torch
from transformers import BertConfig

import onnxdtd
from onnxdtd.runtime.explainer import session

LRP = ("attnlrp", "cp-lrp")  # that lxt has
PRESETS = (*LRP, "lrp-epsilon", "dtd")
SHOWN = ("attnlrp", "dtd")  # whose load times are told
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Conv", "ConvTranspose")
PROFILED = 9  # runs
LOADED = 5  # processes
LOAD = """import sys, time
from onnxdtd.runtime.explainer import session
start = time.process_time()
session(sys.argv[1], threads=1)
print(time.process_time() - start)
"""
SAME = 1e-3
BOUND = 3.0  # of pictures
Explain = Callable[[torch.nn.Module, Sequence[torch.Tensor]], torch.Tensor]

chosen = ""  # which of ``LRP`` the patched modules give


class Logits(torch.nn.Module):
    """A classifier of ids and a mask that gives its logits and nothing else."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """[batch, classes]"""
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def vit(build: Callable[..., torch.nn.Module], size: int, **options: Any) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """A seeded ViT, whose head is not zero as torchvision leaves it, and a picture."""
    torch.manual_seed(0)
    model = build(**options).eval()
    torch.nn.init.normal_(model.heads.head.weight, std=0.05)
    return model, [torch.randn(1, 3, size, size).clamp(-BOUND, BOUND)]


def bert_of(length: int, padded: int = 0, **options: Any) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """A seeded BERT, ids and a mask."""
    torch.manual_seed(0)
    config = BertConfig(num_labels=3, **options)
    config._attn_implementation = "eager"
    mask = torch.ones(1, length, dtype=torch.long)
    mask[:, length - padded :] = 0
    model = Logits(hf.BertForSequenceClassification(config)).eval()
    return model, [torch.randint(1, config.vocab_size, (1, length)), mask]


SMALL_VIT = {
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 3,
    "num_heads": 4,
    "hidden_dim": 32,
    "mlp_dim": 64,
    "num_classes": 5,
}
SMALL_BERT = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.2,
}
MODELS: dict[str, Callable[[], tuple[torch.nn.Module, list[torch.Tensor]]]] = {
    "ViT, small": partial(vit, torchvision.models.VisionTransformer, 32, **SMALL_VIT),
    "ViT-B/16": partial(vit, torchvision.models.vit_b_16, 224),
    "BERT, small": partial(bert_of, 16, padded=5, **SMALL_BERT),
    "BERT-base": partial(bert_of, 128, initializer_range=0.05),
}


@dataclass
class Row:
    """What is measured of a model by an exporter: differences and times by preset, times in forward passes of so many ms;
    ``kernels``: those of the source ("") and of ``LRP``, see ``by_kernel``.
    """

    model: str
    exporter: str
    differences: dict[str, float]
    forward: float = 0.0
    ours: dict[str, float] = field(default_factory=dict)
    theirs: dict[str, float] = field(default_factory=dict)
    loads: dict[str, float] = field(default_factory=dict)
    kernels: dict[str, dict[str, float]] = field(default_factory=dict)


def patch() -> None:
    """Both libraries by lxt, such that ``chosen`` may change."""
    monkey_patch(
        torchvision.models.vision_transformer,
        {**vit_torch.cp_LRP, torch.nn.MultiheadAttention: partial(patches.patch_method, attention, keep_original=True)},
    )
    monkey_patch(hf)
    halved = bert.divide_gradient
    bert.divide_gradient = lambda x, factor: halved(x, factor) if chosen == "attnlrp" else x


def attention(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **options: Any) -> Any:
    """``torch.nn.MultiheadAttention.forward``; what divides a gradient in front of a projection does so behind it."""
    if chosen == "cp-lrp":
        return patches.cp_multi_head_attention_forward(self, query, key, value, *args, **options)
    parts = [rules.divide_gradient(x, factor) for x, factor in ((query, 4), (key, 4), (value, 2))]
    return self.original_forward(*parts, *args, **options)


def patched(name: str) -> torch.nn.Module:
    """The model with the same weights, made of patched classes."""
    model, _ = MODELS[name]()
    for layer in model.model.bert.encoder.layer if isinstance(model, Logits) else ():
        for part in (layer.attention.self.query, layer.attention.self.key):
            part.register_forward_hook(lambda module, given, y: rules.stop_gradient(y) if chosen == "cp-lrp" else y)
    return model.requires_grad_(False)


@contextmanager
def by(preset: str) -> Iterator[None]:
    """lxt gives what a preset of ours does."""
    global chosen
    before, chosen = chosen, preset
    try:
        yield
    finally:
        chosen = before


def theirs(model: torch.nn.Module, given: Sequence[torch.Tensor], preset: str) -> np.ndarray:
    """What lxt gives for the class with the highest score: gradient times input."""
    with by(preset):
        if isinstance(model, Logits):
            x = model.model.bert.embeddings.word_embeddings(given[0]).requires_grad_(True)
            logits = model.model(inputs_embeds=x, attention_mask=given[1]).logits
        else:
            x = given[0].clone().requires_grad_(True)
            logits = model(x)
        logits.max(1).values.sum().backward()
    relevance = (x * x.grad).detach()
    return (relevance.sum(-1) if isinstance(model, Logits) else relevance).numpy()


def exported(name: str, folder: Path) -> dict[str, Path]:
    """Its files, by exporter; before anything is patched."""
    model, given = MODELS[name]()
    names = ["input_ids", "attention_mask"] if isinstance(model, Logits) else ["input"]
    files = {exporter: folder / exporter / "model.onnx" for exporter in ("torchscript", "dynamo")}
    for exporter, path in files.items():
        path.parent.mkdir(parents=True)
        traced: dict[str, Any] = {"dynamo": False, "opset_version": 17, "dynamic_axes": {key: {0: "batch"} for key in names}}
        options = traced if exporter == "torchscript" else {"dynamo": True, "verbose": False}
        torch.onnx.export(model, tuple(given), path, input_names=names, output_names=["logits"], **options)
    return files


def compiled(path: Path, preset: str, pictures: bool) -> Path:
    """A compiled file beside it."""
    bounds: dict[str, Any] = {"low": -BOUND, "high": BOUND} if pictures else {}
    made = path.parent / f"{preset}.onnx"
    if not made.exists():
        onnxdtd.save(onnxdtd.compile(path, preset, **bounds), made, path)
    return made


def compared(name: str, exporter: str, path: Path, rounds: int, threads: int) -> Row:
    """A row of the tables."""
    model = patched(name)
    _, given = MODELS[name]()
    feeds = dict(zip(("input_ids", "attention_mask") if isinstance(model, Logits) else ("input",), given, strict=True))
    fed = {key: value.numpy() for key, value in feeds.items()}
    files = {preset: compiled(path, preset, len(fed) == 1) for preset in (PRESETS if rounds else LRP)}
    found = {}
    for preset in LRP:
        (own,) = onnxdtd.Explainer(files[preset])(fed).relevance.values()
        expected = theirs(model, given, preset)
        found[preset] = float(np.abs(own - expected).max() / np.abs(expected).max())
    row = Row(name, exporter, found)
    if rounds:
        timed(row, {"": path, **files}, model, given, fed, rounds, threads)
        row.kernels = {name: by_kernel(file, fed) for name, file in (("", path), *((p, files[p]) for p in LRP))}
    return row


def timed(
    row: Row,
    files: dict[str, Path],
    model: torch.nn.Module,
    given: Sequence[torch.Tensor],
    fed: dict[str, np.ndarray],
    rounds: int,
    threads: int,
) -> None:
    """Enter what takes how long; all take turns, and the first turn does not count."""
    clock = time.process_time if threads == 1 else time.perf_counter
    torch.set_num_threads(threads)
    sessions = {name: session(path, threads=threads) for name, path in files.items()}
    runs: dict[tuple[str, bool], Callable[[], object]] = {
        (name, True): partial(loaded.run, None, fed) for name, loaded in sessions.items()
    }
    runs |= {(preset, False): partial(theirs, model, given, preset) for preset in LRP}
    taken: dict[tuple[str, bool], list[float]] = {key: [] for key in runs}
    for _ in range(rounds + 1):
        for key, run in runs.items():
            start = clock()
            run()
            taken[key].append(clock() - start)
    forward = taken.pop(("", True))[1:]
    ratios = {key: median(a / b for a, b in zip(times[1:], forward, strict=True)) for key, times in taken.items()}
    row.forward = 1e3 * median(forward)
    row.ours = {name: ratio for (name, own), ratio in ratios.items() if own}
    row.theirs = {name: ratio for (name, own), ratio in ratios.items() if not own}
    source, *others = ([loading(files[name]) for _ in range(LOADED)] for name in ("", *SHOWN))
    row.loads = {name: median(times) / median(source) for name, times in zip(SHOWN, others, strict=True)}


def loading(path: Path) -> float:
    """Seconds of the processor, of a process that has loaded nothing before"""
    return float(subprocess.run([sys.executable, "-c", LOAD, str(path)], check=True, capture_output=True, text=True).stdout)


def by_kernel(path: Path, fed: dict[str, np.ndarray]) -> dict[str, float]:
    """The ms on one thread of what the predictor's own nodes take and the way back, products of matrices apart."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling, options.log_severity_level = 1, True, 3
    options.enable_mem_pattern = options.enable_mem_reuse = False  # as ``Explainer``
    options.profile_file_prefix = str(path.parent / "profile")
    running = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(PROFILED):
        running.run(None, fed)
    written = Path(running.end_profiling())
    taken: dict[tuple[str, str], list[float]] = {}
    for event in json.loads(written.read_text()):
        if event["name"].endswith("_kernel_time"):
            taken.setdefault((event["name"], event["args"]["op_name"]), []).append(event["dur"] / 1e3)
    found = dict.fromkeys(("own products", "own rest", "back products", "back rest"), 0.0)
    for (name, op), times in taken.items():
        found[f"{'back' if 'dtd/' in name else 'own'} {'products' if op in PRODUCTS else 'rest'}"] += min(times)
    return found


def tables(rows: Sequence[Row]) -> str:
    """In Markdown: the differences, and the times where there are some."""
    said = [[row.model, row.exporter, *(f"{row.differences[preset]:.0e}" for preset in LRP)] for row in rows]
    text = splice.table(["model", "exporter", *(f"`{preset}`" for preset in LRP)], said)
    timed = [row for row in rows if row.forward]
    if not timed:
        return text
    heads = ["model", "exporter", "forward", *(f"`{p}`" for p in PRESETS), *(f"lxt, `{p}`" for p in LRP)]
    heads += [f"load `{p}`" for p in SHOWN]
    times = [
        [
            *(row.model, row.exporter, f"{row.forward:.0f} ms"),
            *(f"{row.ours[p]:.2f} ×" for p in PRESETS),
            *(f"{row.theirs[p]:.2f} ×" for p in LRP),
            *(f"{row.loads[p]:.1f} ×" for p in SHOWN),
        ]
        for row in timed
    ]
    kinds = ["own products", "own rest", "back products", "back rest"]
    heads_of_kernels = ["model", "exporter", "file", "its own products", "its own rest", "products back", "rest back"]
    parts = [
        [row.model, row.exporter, f"`{name}`" if name else "source", *(f"{held[kind] / whole:.2f} ×" for kind in kinds)]
        for row in timed
        for whole in [sum(row.kernels[""].values())]
        for name, held in row.kernels.items()
    ]
    return f"{text}\n\n{splice.table(heads, times)}\n\n{splice.table(heads_of_kernels, parts)}"


def main() -> int:
    """Compare them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7, help="how often everything is timed; 0: not at all")
    parser.add_argument("--threads", type=int, default=1)
    splice.option(parser, "attnlrp")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = {name: exported(name, Path(folder) / str(i)) for i, name in enumerate(asked.models)}
        patch()
        for name, paths in files.items():
            for exporter, path in paths.items():
                rows.append(compared(name, exporter, path, 0 if "small" in name else asked.rounds, asked.threads))
                print(rows[-1], file=sys.stderr, flush=True)
    text = tables(rows)
    print(text)
    if asked.write:
        splice.write(asked.write, "attnlrp", text, ("torch", "torchvision", "transformers", "lxt"))
    return int(any(difference > SAME for row in rows for difference in row.differences.values()))


if __name__ == "__main__":
    sys.exit(main())
