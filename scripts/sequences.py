"""Transformers from configurations of the transformers library, and classifiers of texts written by hand, for the zoo.

They are small and have seeded weights. One model is exported in several ways and has one explanation. For each file it is asked

- whether all presets compile, and the prediction is the source's bit by bit;
- how far ``gradient`` is from PyTorch's autograd at the word embeddings, or at the pixels;
- how far the relevance of ``attnlrp`` and ``cp-lrp`` is from that of the first file of the model;
- how far a sample's is from what it has alone, without padding, and in another order with more padding, under all presets;
- whether tokens that are masked have exactly none, and whether a row that is masked as a whole has only numbers.

Differences are the largest of a sample, in units of its largest relevance; the table has the worst sample. The summed gradient
of an embedding in front of a LayerNormalization is 0 up to rounding, so ``gradient`` is compared entry by entry.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import splice

import onnxdtd

PRESETS = ("gradient", "attnlrp", "cp-lrp", "lrp-epsilon", "dtd")
ONE = ("attnlrp", "cp-lrp")  # of which one model has one
WORDS, PAD = 97, 1  # rows of the table, which no other size is; the token that fills
LENGTHS, PADDING = (9, 6, 3), 2  # of the samples, and how much more than the longest there is
TARGETS = np.array([1, 0, 2])
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
GRADIENT, SAME = 1e-4, 1e-5  # relative to the largest entry


@dataclass(frozen=True)
class Export:
    """One way of making a file: by which exporter, at which operator set, with attention written out or not."""

    exporter: str
    attention: str
    opset: int | None = None

    def __str__(self) -> str:
        """As in the table."""
        return " ".join(str(part) for part in (self.exporter, self.opset, self.attention) if part)


ALL = (Export("old", "eager", 14), Export("old", "sdpa", 17), Export("new", "eager"), Export("new", "sdpa"))
EAGER = tuple(export for export in ALL if export.attention == "eager")


@dataclass(frozen=True)
class Model:
    """A classifier: its name, what makes it given how attention is written, the names of its inputs.

    ``size``: of one sample, where it takes numbers and no ids. ``left``: samples are filled up in front. ``pads``: relevance
    does not depend on how much is filled up. ``position``: which position's scores are explained, where each has some.
    ``rows``: how many ids there are. ``refused``: presets must name what they cannot explain, and a way out that works.
    """

    name: str
    make: Callable[[str], Any]
    takes: Sequence[str] = (IDS, MASK)
    size: Sequence[int] = ()
    exports: Sequence[Export] = ALL
    left: bool = False
    pads: bool = True
    position: int | None = None
    rows: int = WORDS
    refused: bool = False

    @property
    def masks(self) -> bool:
        """Is it told what is filled up?"""
        return MASK in self.takes

    def samples(self, lengths: Sequence[int], padding: int) -> dict[str, np.ndarray]:
        """Samples of so many tokens, and ``padding`` more than the longest needs; one of a length is always the same."""
        if self.size:
            draws = [np.random.default_rng(length).standard_normal(self.size, np.float32) for length in lengths]
            return {self.takes[0]: np.stack(draws)}
        ids = np.full((len(lengths), max(lengths) + padding), PAD, np.int64)
        types = np.zeros_like(ids)
        for row, length in zip(ids, lengths, strict=True):
            row[self._tokens(len(row), length)] = np.random.default_rng(length).integers(4, self.rows, length)
        types[:, 2:3] = 1
        return {IDS: ids, MASK: (ids != PAD).astype(np.int64), TYPES: types}

    def own(self, values: np.ndarray, length: int) -> np.ndarray:
        """Of what a sample has for each of its tokens, that of those which are not filled up."""
        return values if self.size else values[self._tokens(len(values), length)]

    def _tokens(self, width: int, length: int) -> slice:
        return slice(width - length, None) if self.left else slice(0, length)


SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "num_labels": 3,
    "pad_token_id": PAD,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


def of(family: str, task: str = "SequenceClassification", /, **options: Any) -> Callable[[str], Any]:
    """What makes a model of a family of the library, of ``XConfig`` and ``XForTask``."""

    def make(attention: str) -> Any:
        library = importlib.import_module("transformers")
        given = {name: value for name, value in {**SMALL, **options}.items() if value is not None}
        config = getattr(library, f"{family}Config")(**given)
        config._attn_implementation = attention
        return getattr(library, f"{family}For{task}")(config)

    return make


def encoder_of_t5(attention: str) -> Any:
    """The encoder of a T5, and a mean."""
    library = importlib.import_module("transformers")
    config = library.T5Config(**SMALL, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4)
    config._attn_implementation = attention
    return importlib.import_module("handmade").Encoded(library.T5EncoderModel(config))


def by_hand(name: str) -> Callable[[str], Any]:
    """What makes a model of ``handmade``."""
    return lambda attention: getattr(importlib.import_module("handmade"), name)()


GROUPED = {"num_key_value_heads": 2}
APART = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
BUCKETS = {"position_buckets": 4, "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
PATCHES = {"image_size": 16, "patch_size": 4}
WINDOWS = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 2}
WINDOWED = WINDOWS | {"hidden_size": None, "num_hidden_layers": None, "num_attention_heads": None}
MOBILE = {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 12, 16, 16, 24, 32], "num_attention_heads": 2}
STAGES = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1], "num_hidden_layers": None, "hidden_size": None}
CONVS = {"conv_dim": [16, 16], "conv_stride": [5, 4], "conv_kernel": [10, 4], "num_feat_extract_layers": 2}
WAVES = {**CONVS, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 16}
MELS = {"patch_size": 4, "frequency_stride": 4, "time_stride": 4, "max_length": 16, "num_mel_bins": 16}
SPEECH = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 40, "num_mel_bins": 16}
HEARD = {**SPEECH, "max_source_positions": 16}
PIXELS, SOUND, SPECTRUM = ("pixel_values",), ("input_values",), ("input_features",)
VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, **PATCHES}
PICTURE = "ImageClassification"

MODELS = (
    Model("bert", of("Bert"), (IDS, MASK, TYPES)),
    Model("bert, a score a token", of("Bert", "TokenClassification"), (IDS, MASK, TYPES), position=1),
    Model("distilbert", of("DistilBert", dim=32, n_layers=2, n_heads=4, hidden_dim=40)),
    Model("minilm", of("Bert", hidden_size=24, num_attention_heads=3, hidden_act="relu"), (IDS, MASK, TYPES)),
    Model("roberta", of("Roberta")),
    Model("albert", of("Albert", embedding_size=16), (IDS, MASK, TYPES)),
    Model("electra", of("Electra", embedding_size=16), (IDS, MASK, TYPES)),
    Model("mpnet", of("MPNet"), exports=EAGER),
    Model("deberta", of("Deberta", **APART), exports=EAGER),
    Model("deberta-v2", of("DebertaV2", **APART, **BUCKETS), exports=EAGER),
    Model("modernbert", of("ModernBert", local_attention=4)),
    Model("big-bird", of("BigBird", attention_type="original_full"), exports=EAGER),
    Model(
        "xlnet",
        of("XLNet", d_model=32, n_layer=2, n_head=4, d_inner=40, d_head=8, max_position_embeddings=None),
        exports=EAGER[:1],
        left=True,
    ),
    Model("t5, encoder", encoder_of_t5, exports=EAGER),
    Model("gpt2", of("GPT2", n_embd=32, n_layer=2, n_head=4)),
    Model("gpt-neox", of("GPTNeoX")),
    Model("opt", of("OPT", ffn_dim=40, word_embed_proj_dim=32)),
    Model("llama", of("Llama", **GROUPED)),
    Model("llama, a score a token", of("Llama", "TokenClassification", **GROUPED), position=2),
    Model("mistral", of("Mistral", sliding_window=4, **GROUPED)),
    Model("qwen2", of("Qwen2", **GROUPED)),
    Model("qwen3", of("Qwen3", head_dim=8, **GROUPED)),
    Model("vit", of("ViT", PICTURE, **PATCHES), PIXELS, (3, 16, 16)),
    Model("deit", of("DeiT", PICTURE, **PATCHES), PIXELS, (3, 16, 16)),
    Model("beit", of("Beit", PICTURE, use_relative_position_bias=True, **PATCHES), PIXELS, (3, 16, 16), exports=EAGER),
    Model("dinov2", of("Dinov2", PICTURE, **PATCHES), PIXELS, (3, 16, 16)),
    Model("swin", of("Swin", PICTURE, **WINDOWED), PIXELS, (3, 16, 16), exports=EAGER),
    Model("swinv2", of("Swinv2", PICTURE, **WINDOWED), PIXELS, (3, 16, 16), exports=EAGER),
    Model("mobilevit", of("MobileViT", PICTURE, image_size=32, **MOBILE), PIXELS, (3, 32, 32), exports=EAGER),
    Model("convnextv2", of("ConvNextV2", PICTURE, image_size=32, **STAGES), PIXELS, (3, 32, 32), exports=EAGER),
    Model("clip, vision", of("CLIP", PICTURE, vision_config=VISION), PIXELS, (3, 16, 16)),
    Model("wav2vec2", of("Wav2Vec2", **WAVES), SOUND, (400,)),
    Model("ast", of("AST", "AudioClassification", **MELS), SOUND, (16, 16)),
    Model("whisper, encoder", of("Whisper", "AudioClassification", **HEARD), SPECTRUM, (16, 32)),
    Model("bag of embeddings", by_hand("Bag"), exports=EAGER),
    Model("EmbeddingBag", by_hand("EmbeddingBag"), (IDS,), exports=EAGER, refused=True),
    Model("text CNN", by_hand("TextCnn"), (IDS,), exports=EAGER, pads=False),
    Model("bytes", by_hand("Bytes"), (IDS,), exports=EAGER, pads=False, rows=256),
    Model("nn.TransformerEncoder", by_hand("Encoder"), exports=EAGER[1:]),
    Model("attention pooling", by_hand("Pooled"), exports=EAGER),
    Model("relative, rotary, grouped", by_hand("Relative"), exports=EAGER),
    Model("one-hot bytes, norms by x·x", by_hand("Magika"), (IDS,), exports=EAGER, pads=False, rows=257),
)


# ------------------------------------------------------------------------------------------------------- making files


def drawn(module: Any) -> Any:
    """With seeded weights, so large that softmax and activations bend."""
    import torch

    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, values in module.named_parameters():
            if values.ndim > 1:
                values.normal_(std=1.5 / values[0].numel() ** 0.5, generator=draw)
            elif name.endswith("bias"):
                values.normal_(std=0.1, generator=draw)
            else:
                values.uniform_(0.5, 1.5, generator=draw)
    return module.eval()


def scores(model: Model, module: Any) -> Any:
    """The module that takes what the model takes, in this order, and gives its scores."""
    import torch

    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *values: Any) -> Any:
            if not hasattr(self.model, "config"):
                return self.model(*values)
            options = {"use_cache": False} if getattr(self.model.config, "use_cache", False) else {}
            return self.model(**dict(zip(model.takes, values, strict=True)), **options).logits

    return Scores().eval()


def exported(model: Model, module: Any, export: Export, path: Path) -> None:
    """Write the file, for as many samples and tokens as one likes."""
    import torch

    given = tuple(torch.from_numpy(model.samples(LENGTHS, PADDING)[name]) for name in model.takes)
    named: dict[str, Any] = {"input_names": list(model.takes), "output_names": ["logits"]}
    with contextlib.redirect_stdout(io.StringIO()):
        if export.exporter == "old":
            free = {name: {0: "batch"} if model.size else {0: "batch", 1: "sequence"} for name in model.takes}
            named |= {"dynamic_axes": free, "opset_version": export.opset}
            torch.onnx.export(module, given, path, dynamo=False, **named)
        else:
            dim = torch.export.Dim
            axes = {0: dim("batch")} if model.size else {0: dim("batch"), 1: dim("sequence", min=2, max=60)}
            named |= {"dynamic_shapes": (tuple(axes for _ in model.takes),), "external_data": False, "verbose": False}
            torch.onnx.export(module, given, path, dynamo=True, **named)


# ------------------------------------------------------------------------------------------------------- what is asked


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """On one thread, without any rewriting, and silent."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(running: ort.InferenceSession, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Its outputs by name."""
    names = [value.name for value in running.get_outputs()]
    taken = {value.name for value in running.get_inputs()}
    return dict(zip(names, running.run(names, {name: value for name, value in feeds.items() if name in taken}), strict=True))


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference in units of the largest entry, of the worst sample; what is no number counts as infinite."""
    if found.shape != wanted.shape:
        return np.inf
    gap = np.abs(found - wanted).reshape(len(wanted), -1).max(1)
    size = np.abs(wanted).reshape(len(wanted), -1).max(1)
    return float(np.nan_to_num(gap / np.maximum(size, 1e-30), nan=np.inf).max())


def derivative(model: Model, module: Any) -> tuple[np.ndarray, np.ndarray]:
    """The scores, and the gradient of those that are explained: at the words that are looked up, or at the input."""
    import torch

    leaves: list[Any] = []

    def leaf(module: Any, inputs: Any, output: Any) -> Any:
        leaves.append(output.detach().requires_grad_(True))
        return leaves[-1]

    tables = [part for part in module.modules() if getattr(part, "num_embeddings", None) == model.rows]
    hooks = [table.register_forward_hook(leaf) for table in tables]
    values = [torch.from_numpy(model.samples(LENGTHS, PADDING)[name]) for name in model.takes]
    if model.size:
        leaves = [values[0].requires_grad_(True)]
    result = module(*values)
    for hook in hooks:
        hook.remove()
    chosen = result if model.position is None else result[:, model.position]
    chosen[torch.arange(len(TARGETS)), torch.from_numpy(TARGETS)].sum().backward()
    return result.detach().numpy(), leaves[0].grad.numpy() if leaves else np.zeros(0)


def words(graph: onnx.GraphProto, rows: int) -> str | None:
    """The tensor that ids look up in the table of so many rows."""
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    found = (node.output[0] for node in graph.node if node.op_type == "Gather" and sizes.get(node.input[0], [0])[0] == rows)
    return next(found, None)


@dataclass
class Row:
    """What was found out about one file; errors are None where there is nothing to compare."""

    model: str
    export: str
    nodes: int = 0
    gradient: float | None = None
    one: float | None = None  # of the relevance, beside that of the model's first file
    apart: float = 0.0  # of the same, beside that of a sample alone and of another batch
    trouble: list[str] = field(default_factory=list)
    refusal: str = ""

    def failures(self) -> list[str]:
        """What is not as it must be."""
        bounds = (("gradient", self.gradient, GRADIENT), ("other file", self.one, SAME), ("other batch", self.apart, SAME))
        return [*self.trouble, *(f"{name}: {found:.1e}" for name, found, most in bounds if found is not None and found > most)]


def rows(model: Model, folder: Path) -> Iterator[Row]:
    """Export the model in all its ways, compile and check each."""
    first: dict[tuple[str, str], np.ndarray] = {}
    for export in model.exports:
        row, path = Row(model.name, str(export)), folder / "model.onnx"
        try:
            module = scores(model, drawn(model.make(export.attention)))
            exported(model, module, export, path)
            proto = onnx.load(path)
            logits, gradient = derivative(model, module)
            row.nodes = len(proto.graph.node)
            source = run(session(proto), model.samples(LENGTHS, PADDING))
            if (gap := error(source["logits"], logits)) > GRADIENT:
                raise ValueError(f"the exported file does not predict what its model does, but differs by {gap:.1e}")
        except Exception as failure:  # of exporters, which raise what they like
            row.trouble.append(f"no file: {said(failure)}")
            yield row
            continue
        for preset in PRESETS:
            try:
                if model.refused:
                    refused(row, model, proto, preset)
                    continue
                explained(row, model, proto, preset, source, first)
                if preset == "gradient":
                    row.gradient = gradient_error(model, proto, gradient)
            except Exception as failure:
                row.trouble.append(f"{preset}: {said(failure)}")
        yield row


def compiled(model: Model, proto: onnx.ModelProto, preset: str, **more: Any) -> ort.InferenceSession:
    """The model with its relevance, of a class that is an input."""
    position = {} if model.position is None else {"position": [model.position]}
    return session(onnxdtd.compile(proto, preset, target="input", **position, **more))


def relevance(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By the names of outputs."""
    return {name: value for name, value in outputs.items() if name.split("/")[0] == "relevance"}


def gradient_error(model: Model, proto: onnx.ModelProto, wanted: np.ndarray) -> float | None:
    """How far the gradient at the words, or at the input, is from PyTorch's; None where nothing is looked up."""
    place = None if model.size else words(proto.graph, model.rows)
    if not model.size and (place is None or not wanted.size):
        return None
    running = compiled(model, proto, "gradient", **({} if place is None else {"from_": [place]}))
    found = next(iter(relevance(run(running, {**model.samples(LENGTHS, PADDING), "target": TARGETS})).values()))
    return error(found, wanted)


def explained(
    row: Row, model: Model, proto: onnx.ModelProto, preset: str, source: Mapping[str, np.ndarray], first: dict[Any, np.ndarray]
) -> None:
    """Ask of a preset all that PyTorch need not be asked."""
    running, given = compiled(model, proto, preset), model.samples(LENGTHS, PADDING)
    outputs = run(running, {**given, "target": TARGETS})
    for name, value in source.items():
        if not np.array_equal(value, outputs[name]):
            row.trouble.append(f"{preset}: the prediction has changed")
    found = relevance(outputs)
    if not all(np.isfinite(value).all() for value in found.values()):
        row.trouble.append(f"{preset}: what is no number")
    if model.masks:
        masked(row, model, running, preset, found)
    if preset != "gradient":
        row.apart = max(row.apart, *(apart(model, running, name, value) for name, value in found.items()))
    for name, value in found.items() if preset in ONE else ():
        if (preset, name) in first:
            row.one = max(row.one or 0.0, error(value, first[preset, name]))
        first.setdefault((preset, name), value)


def refused(row: Row, model: Model, proto: onnx.ModelProto, preset: str) -> None:
    """Ask that a preset names what it cannot explain, and that the way out works."""
    try:
        onnxdtd.compile(proto, preset)
    except onnxdtd.Unsupported as error:
        place = str(error).partition("--from ")[2].split()[0].rstrip(";")
        found = run(compiled(model, proto, preset, from_=[place]), {**model.samples(LENGTHS, PADDING), "target": TARGETS})
        if not all(np.isfinite(value).all() for value in relevance(found).values()):
            row.trouble.append(f"{preset}: what is no number")
        row.refusal = f"{error.problems[0].op} is refused, --from works"
    else:
        row.trouble.append(f"{preset}: is not refused")


def masked(row: Row, model: Model, running: ort.InferenceSession, preset: str, found: Mapping[str, np.ndarray]) -> None:
    """What is masked has nothing; rows that are masked as a whole have numbers, and change nothing in other rows."""
    given = model.samples(LENGTHS, PADDING)
    if any(value[given[MASK] == 0].any() for value in found.values()):
        row.trouble.append(f"{preset}: what is masked has relevance")
    given[MASK][1] = 0
    outputs = run(running, {**given, "target": TARGETS})
    known = np.isfinite(outputs["logits"]).reshape(len(TARGETS), -1).all(1)
    if not all(np.isfinite(value[known]).all() for value in relevance(outputs).values()):
        row.trouble.append(f"{preset}: a row that is masked as a whole has what is no number")


def apart(model: Model, running: ort.InferenceSession, name: str, found: np.ndarray) -> float:
    """How far relevance is from what each sample has alone, and all have in another order, with more padding."""
    more = PADDING + 3 if model.pads else PADDING
    turned = run(running, {**model.samples(LENGTHS[::-1], more), "target": TARGETS[::-1]})[name][::-1]
    errors = []
    for i, length in enumerate(LENGTHS):
        alone = 0 if model.pads else max(LENGTHS) + PADDING - length
        single = run(running, {**model.samples([length], alone), "target": TARGETS[i : i + 1]})[name][0]
        own = model.own(found[i], length)[None]
        errors += [error(model.own(other, length)[None], own) for other in (single, turned[i])]
    return max(errors)


def said(failure: Exception) -> str:
    """The beginning of what an exception says, on one line."""
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"


def table(found: Sequence[Row]) -> str:
    """The rows in Markdown, and what has failed."""
    number = lambda value: "-" if value is None else f"{value:.0e}"
    heads = ["model", "export", "nodes", "gradient beside autograd", "beside the first export", "alone and padded", ""]
    lines = [
        [
            r.model,
            r.export,
            r.nodes or "-",
            number(r.gradient),
            number(r.one),
            number(None if r.refusal else r.apart),
            "; ".join(r.failures()) or r.refusal or "right",
        ]
        for r in found
    ]
    return splice.table(heads, [[str(cell).replace("|", "\\|") for cell in line] for line in lines])


def summary(found: Sequence[Row]) -> str:
    """One sentence."""
    wrong, models = sum(bool(row.failures()) for row in found), len({row.model for row in found})
    return f"{len(found)} exports of {models} models, {len(PRESETS)} presets each: {wrong} with a failure."
