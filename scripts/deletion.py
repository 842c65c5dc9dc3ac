"""Do the words that decide stand out? Words are deleted in the order of their relevance and in random order.

    python scripts/deletion.py --write
    python scripts/deletion.py --also MODEL TOKENIZER TEXTS   # a classifier of one's own beside the bundled one

A word's relevance is the sum of its tokens'. It is deleted by masking (its tokens become [MASK], or the unknown token)
or by removal (the text closes up). What the tokenizer added, as [CLS], is never deleted. AOPC: by how much the logit of
the predicted class is lower, on average over the first 1 to 10 words deleted; with the standard error over the texts.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import splice
from tokenizers import Tokenizer

import onnxdtd
from onnxdtd.data.texts import texts
from onnxdtd.data.tokens import Passage, Taken, Tokens

MODELS = splice.ROOT / "models"
BUNDLED = tuple(MODELS / f"definitions{end}" for end in (".onnx", "_tokenizer.json", "_test.csv"))
PRESETS = ("attnlrp", "cp-lrp", "gradient-x-input", "lrp-epsilon", "dtd", "integrated-gradients")
MOST = 10  # words deleted
TOP = 3
RANDOM = 5  # orders a text
SHOWN = 20  # texts on the page
SEED = 0


@dataclass(frozen=True)
class Classifier:
    """A text classifier with its texts, as tokens."""

    name: str
    path: Path
    tokens: Tokens
    passages: Sequence[Passage]
    filler: int  # the id of a deleted token
    session: ort.InferenceSession

    def feeds(self, passages: Sequence[Passage]) -> dict[str, np.ndarray]:
        """What the model takes of texts, padded."""
        longest = max(len(passage.tokens) for passage in passages)
        rows = [self.tokens.values(passage) for passage in passages]
        return {
            name: np.stack([np.pad(row[name], (0, longest - row[name].size)) for row in rows]).astype(int) for name in rows[0]
        }

    def logits(self, passages: Sequence[Passage]) -> np.ndarray:
        """[texts, classes]"""
        names = [value.name for value in self.session.get_inputs()]
        found = []
        for i in range(0, len(passages), 256):
            feeds = self.feeds(passages[i : i + 256])
            found.append(self.session.run(None, {name: feeds[name] for name in names})[0])
        return np.concatenate(found)

    def relevance(self, preset: str) -> list[np.ndarray]:
        """Of the words of each text."""
        explainer = onnxdtd.Explainer(onnxdtd.compile(self.path, preset=preset))
        found = []
        for i in range(0, len(self.passages), 32):
            batch = self.passages[i : i + 32]
            rows = explainer(self.feeds(batch)).relevance[self.tokens.ids]
            found += [worded(row, passage) for row, passage in zip(rows, batch, strict=True)]
        return found


def classifier(model: Path, tokenizer: Path, samples: Path) -> Classifier:
    """A model with its tokenizer and its texts."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    tokens = Tokens(tokenizer, {value.name: Taken((None,), "int64") for value in session.get_inputs()})
    library = Tokenizer.from_file(str(tokenizer))
    ids = [library.token_to_id(name) for name in ("[MASK]", "<mask>", "[UNK]", "<unk>")]
    filler = next(i for i in ids if i is not None)
    return Classifier(model.stem, model, tokens, [tokens(text) for text in texts(samples)], filler, session)


def count(passage: Passage) -> int:
    """Of the words of a text."""
    return 1 + max((token.word for token in passage.tokens if token.word is not None), default=-1)


def worded(relevance: np.ndarray, passage: Passage) -> np.ndarray:
    """The sum over the tokens of each word."""
    sums = np.zeros(count(passage))
    for value, token in zip(relevance, passage.tokens, strict=False):
        if token.word is not None:
            sums[token.word] += value
    return sums


def masked(passage: Passage, words: set[int], filler: int) -> Passage:
    """With other tokens in place of words."""
    tokens = tuple(replace(token, id=filler) if token.word in words else token for token in passage.tokens)
    return replace(passage, tokens=tokens)


def removed(passage: Passage, words: set[int], filler: int) -> Passage:
    """Without words."""
    return replace(passage, tokens=tuple(token for token in passage.tokens if token.word not in words))


DELETIONS: dict[str, Callable[[Passage, set[int], int], Passage]] = {"masked": masked, "removed": removed}


def drops(model: Classifier, orders: Sequence[np.ndarray], deletion: str, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how much the logit of the predicted class falls, [texts, MOST] for 1 to MOST words deleted in an order (shorter texts
    stay as their last), and whether another class is predicted.
    """
    delete = DELETIONS[deletion]
    variants = [
        delete(passage, set(order[:k].tolist()), model.filler)
        for passage, order in zip(model.passages, orders, strict=True)
        for k in range(1, MOST + 1)
    ]
    logits = model.logits(variants).reshape(len(orders), MOST, -1)
    predicted = start.argmax(1)
    rows = np.arange(len(orders))
    fallen = start[rows, predicted][:, None] - logits[rows, :, predicted]
    return fallen, logits.argmax(2) != predicted[:, None]


def told(values: np.ndarray, digits: int = 2) -> str:
    """Mean and standard error."""
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}"


def measured(model: Classifier, found: dict[str, list[np.ndarray]], deletion: str) -> Iterator[list[str]]:
    """A row a preset, the first one random order."""
    start = model.logits(model.passages)
    rng = np.random.default_rng(SEED)
    random = [[rng.permutation(count(passage)) for passage in model.passages] for _ in range(RANDOM)]
    fallen, changed = (np.mean(both, 0) for both in zip(*(drops(model, o, deletion, start) for o in random), strict=True))
    yield ["random order", told(fallen.mean(1)), "-", "-", told(fallen[:, TOP - 1]), f"{changed[:, TOP - 1].mean():.0%}"]
    for preset, relevances in found.items():
        first, turned = drops(model, [np.argsort(-r, kind="stable") for r in relevances], deletion, start)
        last, _ = drops(model, [np.argsort(r, kind="stable") for r in relevances], deletion, start)
        aopc = first.mean(1)
        cells = [told(aopc), told(last.mean(1)), told(aopc - fallen.mean(1)), told(first[:, TOP - 1])]
        yield [f"`{preset}`", *cells, f"{turned[:, TOP - 1].mean():.0%}"]


def marked(passage: Passage, relevance: np.ndarray) -> str:
    """A text with its most relevant words in bold, as far as they speak for the class."""
    top = {int(word) for word in np.argsort(-relevance)[:TOP] if relevance[word] > 0}
    [text] = passage.texts
    for word in sorted(top, reverse=True):
        ends = [(token.start, token.end) for token in passage.tokens if token.word == word]
        start, end = min(ends)[0], max(ends, key=lambda pair: pair[1])[1]
        start += len(text[start:end]) - len(text[start:end].lstrip())
        text = f"{text[:start]}**{text[start:end]}**{text[end:]}"
    return text.replace("|", "\\|")


def shown(model: Classifier, found: dict[str, list[np.ndarray]]) -> str:
    """Some texts, evenly spaced, with the words that decide by the first preset."""
    preset, relevances = next(iter(found.items()))
    labels = onnxdtd.Explainer(onnxdtd.compile(model.path, preset=preset)).labels
    logits = model.logits(model.passages)
    rows = []
    for i in np.linspace(0, len(model.passages) - 1, SHOWN).astype(int):
        predicted = int(logits[i].argmax())
        probability = 1 / np.exp(logits[i] - logits[i].max()).sum()
        rows.append(
            [f"{labels[predicted]} ({probability:.0%})", model.passages[i].label, marked(model.passages[i], relevances[i])]
        )
    heads = ["predicted", "true", f"the {TOP} most relevant words, `{preset}`"]
    return splice.table(heads, rows)


def page(model: Classifier, presets: Sequence[str]) -> str:
    """All of one classifier; texts of its own are shown of the bundled one only."""
    found = {preset: model.relevance(preset) for preset in presets}
    words = np.mean([count(passage) for passage in model.passages])
    lines = [f"## {model.name}", f"{len(model.passages)} texts of {words:.1f} words on average."]
    heads = [
        "order",
        "AOPC, most relevant first",
        "least relevant first",
        "better than random by",
        f"top {TOP} deleted",
        "class changed",
    ]
    for deletion in DELETIONS:
        lines += [f"### Words {deletion}", splice.table(heads, list(measured(model, found, deletion)))]
    if model.path == BUNDLED[0]:
        lines += [f"### {SHOWN} texts", shown(model, found)]
    return "\n\n".join(lines)


def main() -> None:
    """Read the command line, delete, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=PRESETS, metavar="PRESET")
    parser.add_argument("--also", nargs=3, type=Path, action="append", default=[], metavar=("MODEL", "TOKENIZER", "TEXTS"))
    splice.option(parser, "deletion")
    asked = parser.parse_args()
    logging.getLogger("onnxdtd").setLevel(logging.ERROR)
    text = "\n\n".join(page(classifier(*files), asked.presets) for files in (BUNDLED, *asked.also))
    print(text)
    if asked.write:
        splice.write(asked.write, "deletion", text, ["tokenizers"])


if __name__ == "__main__":
    main()
