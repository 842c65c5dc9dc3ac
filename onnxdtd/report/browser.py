"""What a browser has to know of a compiled model to run and explain it, as plain data, with examples to try.

The page of ``static`` reads it: what is known here of samples, classes and colours is not known there a second time.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onnxdtd import __version__
from onnxdtd.cells import PLACES
from onnxdtd.contract import SCORE, Metadata
from onnxdtd.data import maps, scale
from onnxdtd.data.features import Entry, Features
from onnxdtd.data.forms import MODES, Form
from onnxdtd.data.look import USUAL
from onnxdtd.data.pixels import picture
from onnxdtd.data.preprocessing import DEFAULTS, MARGIN, MOST_PIXELS, SQUASHED, UNSCALED, place
from onnxdtd.data.read import SUFFIXES
from onnxdtd.data.readings import DARK, LUMINANCE
from onnxdtd.data.tables import NO_ROLES, Roles
from onnxdtd.data.texts import Text, texts
from onnxdtd.data.tokens import FILE, MOST_TOKENS
from onnxdtd.errors import RequestError
from onnxdtd.graph import files
from onnxdtd.labels import Labels, first_synonym
from onnxdtd.runtime.explainer import Explainer, numpy_type
from onnxdtd.study.feeding import Feeding
from onnxdtd.study.presenter import ROUNDING, called

PICTURE, TEXT, ROW = "picture", "text", "row"
LEADS = {
    PICTURE: "Give it a picture: it says what it sees, and which pixels spoke for that.",
    TEXT: "Give it a text: it says of what kind it is, and which words spoke for that.",
    ROW: "Give it a row of a table: it says of what kind it is, and which values spoke for that.",
}
PICTURES = [suffix for suffix in SUFFIXES if suffix not in (".npy", ".npz", ".wav")]
UNSEEN = (".tif", ".tiff")  # by most browsers
MOST_BYTES = 2**30  # of a model: once loaded it takes some three times as much, and WebAssembly has 4 GiB
MOST_FIELDS, MOST_FEATURES, MOST_CLASSES, MOST_LETTERS = 400, 20_000, 100_000, 200_000
TRIED = 1024  # tokens of a text, where nothing says how many the model takes
MOST_EXAMPLES, MOST_EXAMPLE = 24, 2**23  # how many, and bytes of one
ANY_CLASS = "onnxdtd compile --target input makes a file that explains any class"
PROBES = (  # texts of which browsers must make the same tokens: signs, accents, scripts, lines, what is written together
    "Hello, WORLD! It's 3.14 % of 1,000 well-known things; don't ask (or do?).",
    "naïve café – „Straße“ “quoted” ½ ﬁ Ⅷ",
    "a\tb\nc  d\u00a0e",
    "日本語 и русский, עברית 😀",
    "https://example.org/a_b?c=d#e f@g.hi",
)


@dataclass
class Contents:
    """``page`` is what the browser is told; ``copied`` are the files that it loads by their name on the page, ``made`` bytes
    likewise.
    """

    page: dict[str, Any]
    copied: dict[str, Path] = field(default_factory=dict)
    made: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Taking:
    """A compiled model, how it takes samples, the file of its tokenizer, and files of examples."""

    explainer: Explainer
    feeding: Feeding
    tokenizer: Path | None
    examples: Sequence[Path]


def described(
    compiled: Path, tokenizer: Path | None = None, examples: Sequence[Path] = (), roles: Roles = NO_ROLES
) -> Contents:
    """All of that. Raises ``OnnxdtdError`` where a browser cannot explain the file, or it does not take the examples."""
    source = files.read(compiled)
    explainer = Explainer(compiled)
    feeding = Feeding(explainer, tokenizer, roles)
    _check(explainer, feeding)
    taking = Taking(explainer, feeding, tokenizer, examples)
    kind = _kind(taking)
    mark = source.sha256[:12]  # browsers keep files: others have other names
    weights = [{"path": name, "name": f"weights/{i}-{mark}"} for i, name in enumerate(files.locations(source.proto))]
    copied = {f"model-{mark}.onnx": compiled} | {entry["name"]: compiled.parent / entry["path"] for entry in weights}
    whole = sum(path.stat().st_size for path in copied.values())
    if whole > MOST_BYTES:
        raise RequestError(
            f"{compiled}: has {whole >> 20} MiB with its weights; browsers have memory for at most {MOST_BYTES >> 20} MiB"
        )
    said = f"{compiled.name}: preset {explainer.metadata['preset']}; made by onnxdtd {__version__}, run by ONNX Runtime Web"
    page = {
        "title": compiled.name.partition(".")[0],
        "lead": LEADS[kind],
        "about": said,
        "kind": kind,
        "model": f"model-{mark}.onnx",
        "weights": weights,
        "look": _look(),
        **_run(explainer, feeding),
    }
    found = Contents(page, copied)
    KINDS[kind](found, taking)
    return found


def _check(explainer: Explainer, feeding: Feeding) -> None:
    """Raises ``RequestError`` for what the page does not know how to ask for."""
    said, taken = explainer.metadata, {node.name for node in explainer.session.get_inputs()}
    wrong = {
        "explains a sum of scores that it is fed; compile it with --target input": said.get("target") == SCORE,
        "compares with a baseline that it is fed; compile it with another --baseline": bool(said.get("baseline_inputs")),
        "explains one of several positions; use `onnxdtd explain`": bool(set(PLACES) & {*said.get("axes", ())}),
        "is asked by an optional input, which browsers do not have; compile it with --on-demand": explainer.asks is not None
        and explainer.asks not in taken,
    }
    for reason, is_so in wrong.items():
        if is_so:
            raise RequestError(f"the file {reason}")
    for name, layout in feeding.layouts.items():
        if (layout.batch or 1) > 1:
            raise RequestError(f"the model takes {layout.batch} samples at once ({name!r}); export it with an open batch")


def _kind(taking: Taking) -> str:
    """What the model takes. Raises ``RequestError`` where that is nothing that the page can ask for."""
    explainer, feeding = taking.explainer, taking.feeding
    ids = explainer.metadata.get("ids", {})
    if taking.tokenizer is not None or (ids and len(explainer.inputs) == 1):
        _ = feeding.tokens  # which says what is missing
        return TEXT
    if ids:
        raise RequestError("the model takes ids of tokens: give the tokenizer that it comes with, --tokenizer FILE")
    widths = [feeding.width(name) for name in {*explainer.inputs, *feeding.explained}]
    if None not in widths:
        return ROW
    form = feeding.form
    if feeding.inner or len(explainer.inputs) > 1 or len(form.space) != 2 or (form.channels or 3) not in MODES:
        shapes = ", ".join(f"{name} {list(feeding.layouts[name].shape)}" for name in explainer.inputs)
        raise RequestError(f"the page takes pictures, texts and rows of tables, and the model {shapes}; use `onnxdtd explain`")
    return PICTURE


def _run(explainer: Explainer, feeding: Feeding) -> dict[str, Any]:
    """What goes in and comes out of a run, and what that means: what ``onnxdtd.runtime`` looks at."""
    said, labels = explainer.metadata, explainer.labels
    taken = {node.name: node for node in explainer.session.get_inputs()}
    types = {node.name: node.type for node in explainer.session.get_outputs() if node.type.startswith("tensor")}
    score, label = (said.get(key, said["output"]) for key in ("score_output", "label_output"))
    is_real = {name: numpy_type(kind).kind == "f" for name, kind in types.items()}
    score = score if is_real.get(score or "") is True else None
    label = label if is_real.get(label or "") is False else None
    explained = {*explainer.inputs, *said.get("values", ()), *said.get("apart", ())}
    relevance = {name: output for name, output in said["relevance"].items() if name in explained}
    logit, there = said.get("logit"), said.get("logit_at_baseline")
    always: list[dict[str, Any]] = [{"name": explainer.asks, "type": "bool", "fill": True, "sizes": []}] * bool(explainer.asks)
    for name in explainer.masks.values():
        always.append({"name": name, "type": _type(taken[name].type), "fill": 1, "sizes": [1, taken[name].shape[1]]})
    return {
        "inputs": {name: {"type": _type(node.type), "sizes": _sizes(feeding, name)} for name, node in explainer.inputs.items()},
        "always": always,
        "fetched": list(dict.fromkeys(name for name in (score, label, *relevance.values(), logit, there) if name)),
        "relevance": relevance,
        "shown": feeding.explained,
        "logit": logit,
        "logitThere": there,
        "derivative": bool(said["derivative"]),
        "score": {
            "name": called(said),
            "output": score,
            "squashed": said.get("squashed", True),
            "likely": score != said["logits"],
            "rounding": ROUNDING,
        },
        "labelOutput": label,
        "classes": _classes(labels),
        "own": said.get("labels"),
        "quantity": labels.is_quantity,
        "target": _target(said, said.get("target_input") in taken, labels),
    }


def _type(onnx_type: str) -> str:
    """A type as JavaScript's ONNX Runtime calls it."""
    kind = numpy_type(onnx_type)
    return "string" if kind.kind == "O" else kind.name


def _sizes(feeding: Feeding, name: str) -> list[int | None]:
    """The sizes of one sample with the axis of samples, None where open."""
    layout = feeding.layouts[name]
    sizes = [size if isinstance(size, int) else None for size in layout.shape]
    return sizes if layout.axis is None else [*sizes[: layout.axis], 1, *sizes[layout.axis :]]


def _classes(labels: Labels) -> list[dict[str, str]]:
    """What each is called, and in brief. Raises ``RequestError`` where there are too many for a page."""
    if (labels.count or 0) > MOST_CLASSES:
        raise RequestError(f"the model has {labels.count} classes, more than the {MOST_CLASSES} of which a page can let choose")
    names = [labels[i] for i in range(labels.count or 0)]
    short = Counter(map(first_synonym, names))
    brief = [first_synonym(name) if short[first_synonym(name)] == 1 else name for name in names]
    return [{"name": name, "brief": first or name} for name, first in zip(names, brief, strict=True)]


def _target(said: Metadata, chosen: bool, labels: Labels) -> dict[str, Any]:
    """Which class is explained: one that an input says, or a ``fixed`` one, or where that is None the predicted one."""
    fixed = said.get("target")
    if chosen or not isinstance(fixed, int):
        told = f"The file explains the class that it predicts; {ANY_CLASS}."
        return {"input": said.get("target_input") if chosen else None, "fixed": None, "told": told}
    return {"input": None, "fixed": fixed, "told": f"The file explains “{labels[fixed]}” alone; {ANY_CLASS}."}


def _look() -> dict[str, Any]:
    """Colours, and how they lie on pictures."""
    return {
        "colours": np.rint(scale.COLOURS(np.arange(scale.COLOURS.N))[:, :3] * 255).astype(int).tolist(),
        "many": scale.MANY_PIXELS,
        "percentile": scale.MOST_PERCENT,
        "light": maps.LIGHT.tolist(),
        "dim": maps.DIM,
        "bright": maps.BRIGHT,
        "opacity": maps.OPACITY,
        "luminance": LUMINANCE,
        "dark": DARK,
        "features": USUAL.features,
    }


# ------------------------------------------------------------------------------------------------------ pictures, texts, rows


def _pictures(found: Contents, taking: Taking) -> None:
    """How a picture becomes an input, and pictures to try."""
    form = taking.feeding.form
    if form.low is None or form.high is None:
        raise RequestError(UNSCALED)
    asked, axis = form.preprocessing or DEFAULTS, taking.feeding.layouts[form.name].axis
    sides = [size if isinstance(size := form.shape[i], int) else None for i in form.space]
    place((1024, 1024), (sides[0], sides[1]), asked)
    channels = form.channels or 3
    if any(end.size not in (1, channels) or end.size != max(end.shape, default=1) for end in (form.low, form.high)):
        raise RequestError("the bounds differ from pixel to pixel; give one for all, or one a channel")
    with_samples = lambda i: None if i is None else i + (axis is not None and axis <= i)
    row, column = map(with_samples, form.space)
    found.page["picture"] = {
        "sides": sides,
        "resize": asked["resize"],
        "crop": None if asked["crop"] == SQUASHED else asked["crop"],
        "squashed": asked["crop"] == SQUASHED,
        "margin": MARGIN,
        "most": MOST_PIXELS,
        "channels": channels,
        "bgr": form.is_bgr,
        "axes": {"row": row, "column": column, "channel": with_samples(form.channel)},
        "low": form.low.ravel().tolist(),
        "high": form.high.ravel().tolist(),
        "sizes": found.page["inputs"][form.name]["sizes"],
    }
    shown = list(islice(_shown(taking, form), MOST_EXAMPLES))
    found.made |= {f"examples/{i}": data for i, (_, data, _) in enumerate(shown)}
    found.page["examples"] = [{"name": name, "file": f"examples/{i}", "size": size} for i, (name, _, size) in enumerate(shown)]


def _shown(taking: Taking, form: Form) -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    """Examples by name as files of pictures, with width and height: as they are, or arrays and what browsers lack as PNGs."""
    for path in taking.examples:
        if path.suffix.lower() in PICTURES:
            image = picture(path, MODES[form.channels or 3])
            yield path.stem, _png(image) if path.suffix.lower() in UNSEEN else _read(path), image.size
            continue
        for sample in taking.feeding.read(path):
            pixels = np.rint(form.shown(sample.x) * 255).astype(np.uint8)
            if form.channel is not None:
                pixels = np.moveaxis(pixels, form.channel, -1)
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 and pixels.ndim == 3 else pixels)
            yield sample.name, _png(image), image.size


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def _read(path: Path) -> bytes:
    """A file that is shown as it is. Raises ``RequestError`` where it is too large for that."""
    if path.stat().st_size > MOST_EXAMPLE:
        raise RequestError(f"{path}: is larger than {MOST_EXAMPLE >> 20} MiB, which is much for an example")
    return path.read_bytes()


def _texts(found: Contents, taking: Taking) -> None:
    """How a text becomes ids, texts to try, and ids that a browser must find as well."""
    tokens = taking.feeding.tokens
    if tokens.settings()["most"] is None:  # of how many the model knows the positions
        long = Text("a probe", " ".join([PROBES[0]] * (TRIED // 8)))
        taking.feeding.limit(long, tokens(long, TRIED).length)
    given = list(islice((text for path in taking.examples for text in texts(path)), MOST_EXAMPLES))
    if any(text.pair is not None for text in given):
        raise RequestError("the page takes single texts, and the examples are pairs")
    name = None if taking.tokenizer is None else f"tokenizer-{tokens.digest()[:12]}.json"
    probes = (
        [] if name is None else [{"whole": whole, "ids": ids} for whole, ids in _probed(taking, [text.text for text in given])]
    )
    found.page["text"] = {
        **tokens.settings(),
        "tokenizer": name,
        "roles": tokens.roles,
        "limit": MOST_TOKENS,
        "letters": MOST_LETTERS,
        "probes": probes,
    }
    found.page["examples"] = [{"text": text.text} for text in given]
    if name is not None:
        assert taking.tokenizer is not None
        path = taking.tokenizer / FILE if taking.tokenizer.is_dir() else taking.tokenizer
        found.copied[name] = path


def _probed(taking: Taking, given: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Texts with the ids that Python finds; what the tokenizer takes nothing of is left out."""
    for whole in (*PROBES, *given):
        try:
            passage = taking.feeding.tokens(Text("a probe", whole), MOST_TOKENS)
        except RequestError:
            continue
        yield whole, [token.id for token in passage.tokens if not token.padding]


def _rows(found: Contents, taking: Taking) -> None:
    """A field for each column, features, and rows to try."""
    explainer, feeding = taking.explainer, taking.feeding
    given = list(islice((sample for path in taking.examples for sample in feeding.read(path)), MOST_EXAMPLES))
    features = (given[0].features if given else None) or feeding.features({}) or _plain(feeding)
    places = [(name, i) for name in explainer.inputs for i in range(feeding.width(name) or 0)]
    if len(places) > MOST_FIELDS or len(features.names) > MOST_FEATURES:
        many = f"{len(places)} numbers of a sample, which gives {len(features.names)} features"
        raise RequestError(f"the model takes {many}; the page asks for at most {MOST_FIELDS}, and shows {MOST_FEATURES}")
    names = {entry.place: entry.name for entry in features.entries if entry.place is not None}
    found.page["row"] = {
        "fields": [_field(taking, name, i, names.get((name, i))) for name, i in places],
        "features": [
            {"name": entry.name, "field": places.index(entry.place) if entry.place in places else None}
            for entry in (features.entries[first] for first in features.firsts)
        ],
        "member": features.member.tolist(),
    }
    found.page["examples"] = []
    for sample in given:
        values = {**feeding.given(sample.x), **sample.others}
        cells = [values[name].ravel()[i] for name, i in places]
        found.page["examples"].append({"name": sample.name, "values": [_cell(cell) for cell in cells]})


def _plain(feeding: Feeding) -> Features:
    """Features that nobody has named."""
    return Features(
        tuple(Entry(f"{name}[{i}]", (name, i)) for name in feeding.explained for i in range(feeding.width(name) or 0))
    )


def _cell(value: Any) -> str | float | None:
    """A value as JSON has it, None where it is missing."""
    return str(value) if isinstance(value, str) else None if np.isnan(value) else float(value)


def _field(taking: Taking, name: str, i: int, called_so: str | None) -> dict[str, Any]:
    """What a column is called, and what it takes: numbers, or ``words``, some or any. ``value`` is what it begins with."""
    said, form = taking.explainer.metadata, taking.feeding.forms[name]
    words = list(said.get("strings", {}).get(name, ())) if taking.explainer.inputs[name].type == "tensor(string)" else None
    value: Any = 0
    if words is not None:
        value = words[0] if words else ""
    elif form.low is not None and form.high is not None:
        value = float(
            np.broadcast_to((form.low + form.high) / 2, [size for size in form.shape if isinstance(size, int)]).ravel()[i]
        )
    plain = name if (taking.feeding.width(name) or 0) == 1 else f"{name}[{i}]"
    return {
        "name": called_so or plain,
        "input": name,
        "words": words,
        "missing": name in said.get("imputed", ()),
        "value": value,
    }


KINDS: dict[str, Callable[[Contents, Taking], None]] = {PICTURE: _pictures, TEXT: _texts, ROW: _rows}
