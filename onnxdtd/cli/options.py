"""What the commands of the command line have in common: the application, the options of a request."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from onnxdtd.data.look import Look, named
from onnxdtd.errors import RequestError, suggestion
from onnxdtd.labels import read
from onnxdtd.request import CONTRASTS, DEMANDS, DRAWN, EXPLAINED, FURTHER, INPUTS, PICTURES, RULES, Request


def _bare(parameters: list[Any]) -> list[Any]:
    """Parameters, of which help says nothing where it would say that a flag takes a <bool>."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class Application(TyperGroup):
    """All commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As typer has them."""
        return _bare(super().get_params(ctx))


app = typer.Typer(
    cls=Application,
    epilog="""`onnxdtd COMMAND --help` says more. Several numbers are written with commas: --range 0,1.
`onnxdtd --install-completion` lets the shell complete commands, options and presets.""",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

PRESET = "NAME|FILE"  # a metavar

USAGE: type[Exception] = typer.BadParameter.__bases__[0]  # whatever typer has against a command line

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.I)

Model = Annotated[Path, typer.Argument(help="An exported classifier, .onnx.", metavar="MODEL")]


# Under which heads help lists the commands, in this order, and the options that are none of a request.
EXPLAIN, CHECK, CHOOSE = "Explain", "Check", "Choose and fit rules"
REPLACED, TEXTS, TABLES, RUNNING = "How regions are replaced", "Texts", "Tables", "How it is run"
OPTIONS = (None, EXPLAINED, RULES, DRAWN, INPUTS, REPLACED, TABLES, TEXTS, FURTHER, RUNNING)


class Once(TyperCommand):
    """A command that refuses an option given twice where it takes one: the last would win, and nobody would hear of it."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As typer has them."""
        return _bare(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does."""
        words = [word.partition("=")[0] for word in args if word.startswith("-")]
        for parameter in self.get_params(ctx):
            single = parameter.param_type_name == "option" and not (parameter.multiple or getattr(parameter, "is_flag", False))
            if single and sum(word in parameter.opts for word in words) > 1:
                raise RequestError(f"{parameter.opts[0]} is given twice, and `{ctx.command_path}` takes one")
        return super().parse_args(ctx, args)


def command(name: str, head: str, *examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command of the application; its help ends with examples that work in a checkout."""
    lines = ["Example:" if len(examples) == 1 else "Examples:", *(f"onnxdtd {example}" for example in examples)]
    return app.command(name, cls=Once, rich_help_panel=head, epilog=escape("\n".join(lines)))


def option(flags: str, text: str, metavar: str | None = None, head: str | None = None) -> Any:
    """Shorthand for the options of the commands. Shells complete presets, and the words that the metavar lists."""
    words = [word for word in re.split(r"[|\[\]]", metavar or "") if word.islower()]
    complete = known_names("preset") if metavar == PRESET else (lambda: words) if words else None
    shell = None if complete is None else completion(complete)
    return typer.Option(*flags.split(), help=escape(text), metavar=metavar, rich_help_panel=head, autocompletion=shell)


def known_names(*kinds: str) -> Callable[[], list[str]]:
    """What there is of some kinds, to be read when a shell asks."""

    def read_names() -> list[str]:
        from onnxdtd.method.folder import defined

        return [name for kind in kinds for name in defined(kind)]

    return read_names


def completion(known: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Those that begin as what is typed already."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in known() if name.startswith(incomplete)]

    return complete


AsJson = Annotated[bool, option("--json", "Print JSON.")]
Label = Annotated[str | None, option("--label", "The column of the true classes, which is no feature.", "COLUMN", TABLES)]
Id = Annotated[str | None, option("--id", "The column of the names of the samples.", "COLUMN", TABLES)]


def offer(name: str, more: str) -> Any:
    """The option of the field ``name`` of a request, which a command takes several times: ``more`` says what for."""
    (spelled,) = (entry.metadata["option"] for entry in fields(Request) if entry.name == name)
    return option(spelled.flag, f"{spelled.help} {more}", spelled.metavar, spelled.head)


Bound = float | list[float]


def select(**given: Any) -> Request:
    """What to explain and how, from what typer read of ``PARAMETERS``."""
    chosen = {name: value for name, value in given.items() if value != PARAMETERS[name].default}
    if chosen.keys() & {"low", "high"} and chosen.keys() & {"range", "mean", "std"}:
        raise RequestError("give either --low and --high, or --range, --mean and --std")
    if ("low" in chosen) != ("high" in chosen):
        raise RequestError("give both --low and --high")
    meant = {name: SPELLINGS[name][1](value) if name in SPELLINGS else value for name, value in chosen.items()}
    preprocessing = {key: meant.pop(key) for key in PICTURES if key in meant}
    return Request(**meant, preprocessing=preprocessing or None)


def selects(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of its arguments that are made of options, a request or a look, but those named."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        made = {name: OFFERED[p.annotation] for name, p in own.items() if p.annotation in OFFERED}
        options = {name: [option for option in offers if option not in without] for name, (offers, _) in made.items()}

        @wraps(command)
        def run(**values: Any) -> None:
            given = {name: {option: values.pop(option) for option in chosen} for name, chosen in options.items()}
            command(**{name: make(**given[name]) for name, (_, make) in made.items()}, **values)

        merged = [p for name, p in own.items() if name not in made]
        merged += [made[name][0][option] for name, chosen in options.items() for option in chosen]
        merged = [p.replace(kind=p.KEYWORD_ONLY) for p in merged]
        merged.sort(key=lambda p: (p.default is not p.empty, _head(p)))
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


def _range(text: str) -> list[float]:
    """What pixels 0 and 255 become."""
    found = _numbers("--range", text)
    if not isinstance(found, list) or len(found) != 2:
        raise RequestError(f"--range {text!r}: write two numbers with a comma between them, like 0,1")
    return found


def _baseline(texts: Sequence[str]) -> Any:
    """A word, a number, one a channel or a file for all inputs, or ``INPUT=...`` for some."""
    named = [text.partition("=") for text in texts]
    if len(texts) == 1 and not named[0][1]:
        return _said(texts[0])
    if not all(sign for _, sign, _ in named) or len({name for name, _, _ in named}) < len(named):
        raise RequestError(f"--baseline {' '.join(texts)}: write one for all inputs, or INPUT=... once for each")
    return {name: _said(text) for name, _, text in named}


def _said(text: str) -> Any:
    """Numbers, or what is none"""
    return _numbers("--baseline", text) if re.fullmatch(r"[-+0-9.,eE]+", text) else text


def _size(option: str, text: str) -> int | list[int]:
    """A side in pixels, or width by height, as [height, width]."""
    if not re.fullmatch(r"[0-9]+(x[0-9]+)?", text):
        more = ", or none" if option == "--crop" else ""
        raise RequestError(f"{option} {text!r}: write a number of pixels, or WIDTHxHEIGHT{more}")
    sides = [int(side) for side in text.split("x")][::-1]
    return sides if len(sides) == 2 else sides[0]


def _waivers(texts: Sequence[str]) -> dict[str, str]:
    """OP=pass; what has no sign of equality is refused by its name."""
    return dict(text.rpartition("=")[::2] if "=" in text else (text, "") for text in texts)


# What typer reads where the command line spells a field, or a key of the preprocessing, in its own way, and what that means.
SPELLINGS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "low": (list[str], partial(_bound, "--low")),
    "high": (list[str], partial(_bound, "--high")),
    "range": (str | None, _range),
    "mean": (str | None, partial(_numbers, "--mean")),
    "std": (str | None, partial(_numbers, "--std")),
    "colours": (bool, lambda _: "bgr"),
    "resize": (str | None, partial(_size, "--resize")),
    "crop": (str | None, lambda text: text if text == "none" else _size("--crop", text)),
    "baseline": (list[str], _baseline),
    "target": (str | None, str),
    "position": (str | None, str),
    "allow": (list[str], _waivers),
    "labels": (Path | None, read),
    "channels": (str | None, named),
}


def _parameters(made: type[Request] | type[Look]) -> Iterator[inspect.Parameter]:
    """The fields of what is made of options, and the keys of the preprocessing, as typer wants them."""
    hints = get_type_hints(made)
    for entry in fields(made):
        spelled = entry.metadata["option"]
        for name, shown in spelled.items() if isinstance(spelled, Mapping) else ((entry.name, spelled),):
            kind = SPELLINGS[name][0] if name in SPELLINGS else list[str] if hints[name] == Sequence[str] else hints[name]
            default: Any = [] if kind == list[str] else False if kind is bool else None if name in SPELLINGS else entry.default
            annotation: Any = Annotated[kind, option(shown.flag, shown.help, shown.metavar, shown.head)]
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _head(parameter: inspect.Parameter) -> int:
    """Where help lists it."""
    return OPTIONS.index(get_args(parameter.annotation)[1].rich_help_panel)


PARAMETERS, LOOKS = (
    {parameter.name: parameter for parameter in sorted(_parameters(made), key=_head)} for made in (Request, Look)
)
OFFERED: dict[Any, tuple[Mapping[str, inspect.Parameter], Callable[..., Any]]] = {
    Request: (PARAMETERS, select),
    Look: (LOOKS, Look),
}


ALONE = {"--contrast": CONTRASTS, "--on-demand": DEMANDS}  # what may stand alone, and means the first then


def spelled(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value of a --contrast or --on-demand that stands alone, which click insists on, and with a comma
    between the two numbers of a --range.
    """
    left, made = list(arguments), []
    while left:
        word = left.pop(0)
        if (choices := ALONE.get(word)) and left[:1] not in ([name] for name in choices):
            word = f"{word}={choices[0]}"
        if word == "--range" and len(left) > 1 and all(map(NUMBER.fullmatch, left[:2])):
            left[:2] = [",".join(left[:2])]
        made.append(word)
    return made


def whole_numbers(option: str, texts: Sequence[str]) -> list[int]:
    """What is given once with commas, or several times."""
    try:
        return [int(part) for text in texts for part in text.split(",")]
    except ValueError:
        raise RequestError(f"{option} {' '.join(texts)!r}: write whole numbers with commas between them, like 1,8") from None


def misuse(error: Any) -> str:
    """What typer has against a command line, in one line that says where to read on."""
    message = error.format_message().rstrip(".").replace(". Did you mean", "; did you mean")
    if wrong := getattr(error, "option_name", None) if hasattr(error, "possibilities") else None:
        known = [flag for parameter in error.ctx.command.params for flag in parameter.opts if flag.startswith("-")]
        message = f"no such option {wrong!r}{suggestion(wrong, known, 0.8)}"
    see = "" if error.ctx is None else f" (`{error.ctx.command_path} --help` says more)"
    return f"{message[:1].lower()}{message[1:]}{see}"
