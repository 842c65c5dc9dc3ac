"""What the commands of the command line have in common: the application, its consoles, the options of a request."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from onnxdtd.errors import RequestError
from onnxdtd.labels import read
from onnxdtd.request import CONTRASTS, Request

app = typer.Typer(
    help="Write the relevance pass of an ONNX classifier into its own file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

Model = Annotated[Path, typer.Argument(help="An exported classifier, .onnx.", metavar="MODEL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def option(flags: str, text: str, metavar: str | None = None) -> Any:
    """Shorthand for the many options below."""
    return typer.Option(*flags.split(), help=text, metavar=metavar)


Bound = float | list[float]


def select(
    preset: Annotated[
        str | None,
        option(
            "--preset",
            "A preset (see `onnxdtd rules`) or a TOML file. Default: dtd; lrp-epsilon for tables and signals without bounds.",
            "NAME|FILE",
        ),
    ] = None,
    settings: Annotated[list[str], option("--set", "A rule for the nodes whose name matches.", "NODE-GLOB=RULE")] = [],
    low: Annotated[
        list[str],
        option("--low", "Lower bound of the input: a number, or one a channel. Of one of several: INPUT=L.", "L|INPUT=L"),
    ] = [],
    high: Annotated[list[str], option("--high", "Upper bound of the input.", "H|INPUT=H")] = [],
    span: Annotated[
        tuple[float, float] | None,
        option("--range", "What pixels 0 and 255 become, before mean and std. Gives the bounds instead.", "LO HI"),
    ] = None,
    mean: Annotated[str | None, option("--mean", "What preprocessing subtracts: a number, or one a channel.", "M,M,M")] = None,
    std: Annotated[str | None, option("--std", "What it then divides by.", "S,S,S")] = None,
    bgr: Annotated[bool, option("--bgr", "The model takes blue first, as Caffe models do.")] = False,
    resize: Annotated[
        str | None,
        option("--resize", "Pixels of a picture's shorter side, or its size. Default: 256/224 of the model's.", "N|WxH"),
    ] = None,
    crop: Annotated[
        str | None,
        option("--crop", "What is then cut out of the centre; none squashes instead. Default: the model's size.", "N|WxH|none"),
    ] = None,
    target: Annotated[
        str | None,
        option(
            "--target",
            "The class to explain; `input` adds a required input `target` [batch], `optional` one with a default.",
            "argmax|LABEL|INDEX|input|optional",
        ),
    ] = None,
    contrast: Annotated[
        str | None,
        option(
            "--contrast", "Explain the logit minus that of the runner-up, or minus the mean of the rest.", "[runner-up|rest]"
        ),
    ] = None,
    output: Annotated[str | None, option("--output", "The output or inner tensor to explain.", "NAME")] = None,
    keep: Annotated[list[str], option("--keep", "Also output the relevance of this inner tensor.", "TENSOR")] = [],
    allow: Annotated[
        list[str], option("--allow", "Let relevance pass an operator or a node without a rule.", "OP|NODE=pass")
    ] = [],
    ledger: Annotated[bool, option("--ledger", "Also output what every layer took in, handed on and kept.")] = False,
    explain: Annotated[
        list[str], option("--explain", "An input to explain; the others count as constants. Default: all of floats.", "INPUT")
    ] = [],
    labels: Annotated[
        Path | None, option("--labels", "Names of the classes, one a line; shown instead of the model's own labels.", "FILE")
    ] = None,
) -> Request:
    """What to explain and how: the options that commands share."""
    if (low or high) and (span or mean or std):
        raise RequestError("give either --low and --high, or --range, --mean and --std")
    if bool(low) != bool(high):
        raise RequestError("give both --low and --high")
    low_, high_ = (_bound(flag, texts) if texts else None for flag, texts in (("--low", low), ("--high", high)))
    pictures = {
        "range": span,
        "mean": None if mean is None else _numbers("--mean", mean),
        "std": None if std is None else _numbers("--std", std),
        "colours": "bgr" if bgr else None,
        "resize": None if resize is None else _size("--resize", resize),
        "crop": crop if crop in (None, "none") else _size("--crop", crop),
    }
    preprocessing = {key: value for key, value in pictures.items() if value is not None} or None
    waivers = dict(entry.rpartition("=")[::2] if "=" in entry else (entry, "") for entry in allow)
    names = None if labels is None else read(labels)
    words = (preset, tuple(settings), low_, high_, target, contrast, output, tuple(keep), waivers, ledger)
    return Request(*words, explain=tuple(explain), labels=names, preprocessing=preprocessing)


def selects(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of ``select``, but those named, and their result as its argument ``request``."""
    options = {n: p for n, p in inspect.signature(select, eval_str=True).parameters.items() if n not in without}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters

        @wraps(command)
        def run(**values: Any) -> None:
            chosen = {name: values.pop(name) for name in options}
            command(request=select(**chosen), **values)

        merged = [*(p for name, p in own.items() if name != "request"), *options.values()]
        merged.sort(key=lambda p: p.default is not p.empty)
        run.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in merged}
        return run

    return decorate


def _bound(option: str, texts: Sequence[str]) -> Bound | dict[str, Bound]:
    """A bound for all inputs, or ``INPUT=BOUND`` for some."""
    named = [text.rpartition("=") for text in texts]
    if len(texts) == 1 and not named[0][1]:
        return _numbers(option, texts[0])
    if not all(name for name, _, _ in named) or len({name for name, _, _ in named}) < len(named):
        raise RequestError(f"{option} {' '.join(texts)}: write one bound for all inputs, or INPUT=BOUND once for each")
    return {name: _numbers(option, text) for name, _, text in named}


def _numbers(option: str, text: str) -> float | list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"{option} {text!r}: write a number, or numbers separated by commas") from None
    return values[0] if len(values) == 1 else values


def _size(option: str, text: str) -> int | list[int]:
    """A side in pixels, or width by height, as [height, width]."""
    if not re.fullmatch(r"[0-9]+(x[0-9]+)?", text):
        more = ", or none" if option == "--crop" else ""
        raise RequestError(f"{option} {text!r}: write a number of pixels, or WIDTHxHEIGHT{more}")
    sides = [int(side) for side in text.split("x")][::-1]
    return sides if len(sides) == 2 else sides[0]


def say(notes: Iterable[str]) -> None:
    """What a user should know, on standard error."""
    for note in filter(None, notes):
        err.print(f"note: {note}", markup=False)


def spelled(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value of a --contrast that stands alone, which click insists on."""
    return [
        f"--contrast={CONTRASTS[0]}" if word == "--contrast" and after not in CONTRASTS else word
        for word, after in zip(arguments, [*arguments[1:], ""], strict=True)
    ]


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output. Names are shown as they are: none is taken for markup, none is cut off."""
    table = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)
