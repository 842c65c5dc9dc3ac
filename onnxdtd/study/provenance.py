"""Where numbers come from: of which file, by which rules, on what data, by which runtime, when, by which command."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnxdtd
from onnxdtd import bounded
from onnxdtd.contract import Metadata
from onnxdtd.data.remote import Place, Remote
from onnxdtd.data.texts import STDIN

PIECE = 1 << 20  # bytes that are read at once
# What a compiled file says of the score that it explains, in the order in which it is told.
EXPLAINED = ("output", "logits", "stepped_back", "target", "position", "contrast", "reference", "baseline", "explain")

TYPED: ContextVar[Sequence[str]] = ContextVar("TYPED", default=())


@contextmanager
def typed(arguments: Sequence[str]) -> Iterator[None]:
    """While the command line runs with these arguments."""
    token = TYPED.set(tuple(arguments))
    try:
        yield
    finally:
        TYPED.reset(token)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """All that numbers depend on, as plain data.

    ``models`` are as ``modelled`` tells them, ``presets`` names or files and ``rules`` theirs by step, ``settings`` the rules
    that were set by hand; ``bounds`` and ``preprocessing`` as a compiled file has them; ``explained`` says which score is,
    ``runtime`` which ONNX Runtime on which ``provider``; ``data`` is as ``taken`` tells it. Runs of the same differ in ``run``
    alone: the date (UTC, ISO 8601) and the command as it was typed, or the function that was called.
    """

    version: str
    models: Sequence[Mapping[str, Any]]
    presets: Sequence[str]
    rules: Mapping[str, Mapping[str, str]]
    settings: Sequence[str]
    bounds: Mapping[str, Any] | None
    preprocessing: Mapping[str, Any] | None
    explained: Mapping[str, Any]
    runtime: Mapping[str, str]
    data: Mapping[str, Any] | None
    run: Mapping[str, str]

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def provenance(
    call: str,
    models: Sequence[Mapping[str, Any]],
    metadata: Metadata,
    provider: str,
    data: Mapping[str, Any] | None = None,
    rules: Mapping[str, Mapping[str, str]] | None = None,
) -> Provenance:
    """Of what the function ``call`` gives.

    Args:
        call: as a caller writes it, ``"onnxdtd.explain"``; the command line is told instead where that is what runs.
        models: see ``modelled``.
        metadata: of the compiled model, or of one of several that differ in what is told apart; of a damaged one what is left.
        provider: of ONNX Runtime, that the session runs on.
        data: see ``taken``.
        rules: by preset and step, where there are several presets, or they are told elsewhere; by default those of the model.
    """
    own = {metadata["preset"]: metadata["rules"]} if rules is None and "preset" in metadata else rules or {}
    return Provenance(
        version=onnxdtd.__version__,
        models=list(models),
        presets=list(own),
        rules={preset: found for preset, found in own.items() if found},
        settings=metadata.get("settings", []),
        bounds=metadata.get("bounds"),
        preprocessing=metadata.get("preprocessing"),
        explained={name: told for name in EXPLAINED if (told := metadata.get(name)) not in (None, [])},
        runtime={"onnxruntime": runtime(), "provider": provider},
        data=data,
        run=run(call),
    )


def run(call: str) -> dict[str, str]:
    """What differs from run to run: when it is, and the command, quoted so that a shell takes it as it was."""
    arguments = TYPED.get()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": now, "command": shlex.join(["onnxdtd", *arguments]) if arguments else call}


def runtime() -> str:
    """The version of ONNX Runtime."""
    import onnxruntime

    return str(onnxruntime.__version__)


def modelled(path: Path, source: str | None = None) -> dict[str, Any]:
    """A model by its file: its name and digests, and those of files of external weights by where they lie. Of one that is
    compiled, ``source`` is the SHA-256 of the file it was compiled from. Raises ``ModelError`` where weights cannot be read.
    """
    own, weights = digest([path]), weight_digests(path)
    told = {"name": path.name, "source_sha256": source or own, "compiled_sha256": own if source else None}
    return told | ({"weights": weights} if weights else {})


def weight_digests(model: Path) -> dict[str, str]:
    """The SHA-256 of every file of external weights, by where it lies. Raises ``ModelError`` where one cannot be read."""
    from onnxdtd.graph import digests, files

    return digests.of_weights(model, files.read(model).proto)


def taken(
    paths: Sequence[Place], samples: int, tokenizer: str | None = None, versions: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What was read, by its files in their order, of which the first and the last are named, and how many samples were taken of
    it; of texts also the SHA-256 of the tokenizer. Of files in stores ``versions`` are what these tell, and the SHA-256 is that
    of a line for each, ``URL version``, sorted.
    """
    names = list(dict.fromkeys(path.name for path in (*paths[:1], *paths[-1:])))
    stored = "".join(f"{url} {version}\n" for url, version in sorted((versions or {}).items()))
    told = {"files": len(paths), "names": names, "sha256": digest(paths), "samples": samples}
    told |= {"versions_sha256": hashlib.sha256(stored.encode()).hexdigest()} if stored else {}
    return told if tokenizer is None else {**told, "tokenizer_sha256": tokenizer}


def digest(paths: Iterable[Place]) -> str | None:
    """The SHA-256 of the bytes of files one after the other, as ``cat FILE... | sha256sum`` has it; None of what came from
    standard input, or lies in a store: it is read once. One that cannot be read adds nothing: nothing is measured on it either.
    """
    whole = hashlib.sha256()
    for path in paths:
        if path == STDIN or isinstance(path, Remote):
            return None
        with suppress(OSError), bounded.opened(path) as file:
            while piece := file.read(PIECE):
                whole.update(piece)
    return whole.hexdigest()
