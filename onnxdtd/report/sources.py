"""Where the numbers of a page come from, as a section of it."""

from __future__ import annotations

from collections.abc import Iterator

from onnxdtd.report.page import Cell, Json, Section, Table
from onnxdtd.study.words import counted, number, said

TITLE = "Where this comes from"


def sources(result: Json) -> Section | None:
    """From the provenance in a result; what came without has none."""
    told = result.get("provenance")
    if told is None:
        return None
    rows = [*_models(told), *_method(told), *_given(told)]
    cells = [(head, "", [Cell(text, "code" if head == "command" else "")]) for head, text in rows]
    text = "Whoever has the same files and versions gets the same numbers by the same command."
    return Section(TITLE, [text], tables=[Table("Provenance", ["value"], cells, words=True, shown=True)])


def _models(told: Json) -> Iterator[tuple[str, str]]:
    for model in told["models"]:
        if model.get("compiled_sha256"):
            yield "compiled file", str(model["name"])
            yield "SHA-256 of the compiled file", str(model["compiled_sha256"])
            yield "SHA-256 of its source, as it says", str(model["source_sha256"])
        else:
            yield "model", str(model["name"])
            yield "SHA-256 of the model", str(model["source_sha256"])
        for location, digest in (model.get("weights") or {}).items():
            yield f"SHA-256 of {location}", str(digest)


def _method(told: Json) -> Iterator[tuple[str, str]]:
    yield "presets" if len(told["presets"]) > 1 else "preset", ", ".join(told["presets"])
    if told.get("settings"):
        yield "rules set by hand", ", ".join(told["settings"])
    yield "explained", which_score(told["explained"])
    yield "bounds of the input", _bounds(told["bounds"])
    if told.get("preprocessing"):
        yield "preprocessing", said(told["preprocessing"])


def _given(told: Json) -> Iterator[tuple[str, str]]:
    if data := told.get("data"):
        names = " … ".join(data.get("names", ()))
        files = counted(data["files"], "file") + (f", {names}" if names else "")
        counts = f"{counted(data['samples'], 'sample')} of {names if names and data['files'] == 1 else files}"
        stored = data.get("versions_sha256")
        yield "data", counts if data["sha256"] or stored else f"{counted(data['samples'], 'sample')}, standard input"
        if stored:
            yield "SHA-256 of the versions that stores tell", str(stored)
        if data["sha256"]:
            several = ", one file after the other" if data["files"] > 1 else ""
            yield f"SHA-256 of the data{several}", str(data["sha256"])
        if data.get("tokenizer_sha256"):
            yield "SHA-256 of the tokenizer", str(data["tokenizer_sha256"])
    yield "onnxdtd", str(told["version"])
    yield "ONNX Runtime", f"{told['runtime']['onnxruntime']}, {told['runtime']['provider']}"
    yield "date", str(told["run"]["date"]).replace("T", " ").replace("+00:00", " UTC")
    yield "command", str(told["run"]["command"])


def which_score(explained: Json) -> str:
    """The explained score in words.

    >>> which_score({"output": "p", "logits": "z", "stepped_back": ["Softmax 'p'"], "target": "argmax"})
    "the score of the predicted class in 'z', in front of Softmax 'p'"
    """
    target, contrast = explained.get("target", "argmax"), explained.get("contrast")
    kinds = {"argmax": "the score of the predicted class", "score": "a sum of scores with weights that are fed"}
    kinds |= dict.fromkeys(("input", "optional"), "the score of the class that is asked for")
    words = kinds.get(target) if isinstance(target, str) else f"the score of class {said(target)}"
    words = words or f"the score of class {target}"
    words += f" in {explained['logits']!r}" if explained.get("logits") else ""
    words += f" at position {said(explained['position'])}" if explained.get("position") else ""
    before = " and ".join(explained.get("stepped_back") or ())
    words += f", in front of {before}" if before else ""
    against = {"rest": "the mean of all other classes", "runner-up": "the best other class", True: "the best other class"}
    words += f", less {against[contrast]}" if contrast else ""
    words += f", less {number(explained['reference'])}" if explained.get("reference") is not None else ""
    words += f", compared with {said(explained['baseline'])}" if explained.get("baseline") is not None else ""
    return words + (f"; relevance is that of {said(explained['explain'])}" if explained.get("explain") else "")


def _bounds(bounds: Json | None) -> str:
    if not bounds:
        return "none"
    if "low" in bounds:
        return f"{said(bounds['low'])} to {said(bounds['high'])}"
    return "; ".join(f"{name}: {said(ends['low'])} to {said(ends['high'])}" for name, ends in bounds.items())
