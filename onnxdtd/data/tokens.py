"""Texts as ids: what a tokenizer makes of a text, in the layout of a model's inputs, and which token stands where in the text.

The tokenizer is that of the library ``tokenizers``, from the file that models come with.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd import bounded
from onnxdtd.data.forms import Shape
from onnxdtd.data.texts import Text
from onnxdtd.errors import OnnxdtdError, RequestError

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
LARGEST_FILE = 2**27  # bytes of a tokenizer
MOST_TOKENS = 2**14  # of a text that nothing limits: attention over more fills any memory
FEW = 0.9  # a vocabulary of less than this share of the model's table belongs to another model, perhaps
PADDING = ("[PAD]", "<pad>", "<|pad|>", "<PAD>")
NEUTRAL = {  # tokens that say nothing, by what they are for
    "mask": ("[MASK]", "<mask>", "<|mask|>", "<MASK>"),
    "pad": PADDING,
    "unk": ("[UNK]", "<unk>", "<|unk|>", "<UNK>"),
}
BYTE_ROWS, BYTE = 256, "uint8"
# What inputs beside the ids are called, by how their names end, and what they hold.
ROLES = {
    "mask": ("attention_mask", "input_mask", "mask"),
    "types": ("token_type_ids", "input_type_ids", "segment_ids", "token_types"),
    "positions": ("position_ids", "positions"),
    "length": ("lengths", "length"),
}
# A word of a text that its tokenizer does not split into words: a run of letters, a sign, a letter of a script without spaces.
PANIC = "PanicException"  # of Rust, and none of Python's exceptions
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|\w+|\S")


@dataclass(frozen=True)
class Token:
    """An id, and where it stands: from ``start`` to ``end`` of the text, or of its pair (``part`` 1); ``text`` is what stands
    there, and of a ``special`` one, which the tokenizer added, and of ``padding`` its name. ``word``: the number of the word
    that it belongs to, None of one that was added.
    """

    text: str
    id: int
    start: int = 0
    end: int = 0
    part: int = 0
    word: int | None = None
    special: bool = False
    padding: bool = False
    kind: int = 0  # of its text among several, as the model is told


@dataclass(frozen=True)
class Passage:
    """A text with its ``tokens``, in the order of the ids; ``cut`` is how many more it has that the model does not take."""

    name: str
    texts: tuple[str, ...]
    tokens: tuple[Token, ...]
    cut: int = 0
    label: int | str | None = None

    @property
    def length(self) -> int:
        """How many tokens there are without padding."""
        return sum(not token.padding for token in self.tokens)


@dataclass(frozen=True)
class Taken:
    """What an input takes of a sample: its shape, its dtype by name, and of how many ``rows`` it looks up one, None where that
    is not known.
    """

    shape: Shape
    dtype: str
    rows: int | None = None


class Tokens:
    """Turns texts into what a model takes.

    Args:
        path: the file of a tokenizer, or the folder that has its ``tokenizer.json``; None for a model of bytes.
        inputs: what the model's inputs take, by name; ``rows`` of those that look something up.

    Raises:
        RequestError: the file is no tokenizer, or not of this model, or the model takes other things than ids.
        OnnxdtdError: the library is not installed.
    """

    def __init__(self, path: Path | None, inputs: Mapping[str, Taken]):
        self._inputs = inputs
        self.roles = _roles(inputs)
        self.ids = self.roles["ids"]
        taken = inputs[self.ids]
        self.length = _length(self.ids, taken.shape)  # what each sample has, None where that is open
        self._file, self._most = path, self.length
        if path is None:
            if not is_bytes(taken):
                raise RequestError("the model takes ids of tokens: give the tokenizer that it comes with, --tokenizer FILE")
            return
        self._tokenizer, own = _loaded(path)
        self._padding = self._tokenizer.padding or {}
        limits = [own, (self._tokenizer.truncation or {}).get("max_length"), self.length]
        self._most = min((int(limit) for limit in limits if limit), default=None)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._size = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if taken.rows and self._size > taken.rows:
            raise RequestError(
                f"{path}: has {self._size} tokens, but the model's input {self.ids!r} looks up one of {taken.rows}: it is not "
                "the tokenizer of this model"
            )

    def notes(self) -> Iterator[str]:
        """What to know of all texts."""
        rows = self._inputs[self.ids].rows
        if self._file is not None and rows and self._size < FEW * rows:
            yield f"the tokenizer has {self._size} tokens, the model {rows}: is it the tokenizer of this model?"
        if self.length is not None:
            yield f"the model takes {self.length} tokens: shorter texts are padded, of longer ones the rest is left out"

    @property
    def of_bytes(self) -> bool:
        """Are the tokens the bytes of a text?"""
        return self._file is None

    def name(self, number: int) -> str | None:
        """What a token is called, None where it has no name."""
        return None if self._file is None else self._tokenizer.id_to_token(number)

    def called(self, number: int) -> str:
        """What to call an id: its token, with its number."""
        name = self.name(number)
        return f"the id {number}" if name is None else f"{name} ({number})"

    def settings(self) -> dict[str, Any]:
        """What another library has to know beside the file: ``most`` tokens that are taken, None for any number; how many there
        are with padding (``pads``), by which token (``pad``), and whether it stands to the ``left``.
        """
        filling = self._filling() if self._pads and self._file is not None else {}
        pad = {"id": filling.get("pad_id", 0), "kind": filling.get("pad_type_id", 0), "name": filling.get("pad_token", "[PAD]")}
        return {"most": self._most, "pads": self._pads, "pad": pad, "left": filling.get("direction") == "left"}

    def digest(self) -> str:
        """The SHA-256 of the tokenizer, and how many tokens the model takes; of bytes only that."""
        told = "" if self._file is None else self._tokenizer.to_str()
        return hashlib.sha256(f"{self._most} {told}".encode()).hexdigest()

    def neutral(self, kind: str | None) -> tuple[int, str]:
        """The id and the name of a token that says nothing: of this ``kind``, or of the first kind that there is. Raises
        ``RequestError`` where the tokenizer has none.
        """
        if self._file is None:
            raise RequestError("--fill: bytes have no tokens for that; give the number of one, --fill 32 for spaces")
        for name in (name for key, names in NEUTRAL.items() if kind in (None, key) for name in names):
            number = self._tokenizer.token_to_id(name)
            if number is not None:
                return number, name
        what = "mask, padding or unknown" if kind is None else {"pad": "padding", "unk": "unknown"}.get(kind, kind)
        raise RequestError(f"{self._file}: has no {what} token to put in place of others; give the number of one, --fill ID")

    def limit(self, most: int) -> None:
        """Of longer texts leave the rest out."""
        self._most = most if self._most is None else min(most, self._most)

    def __call__(self, text: Text, most: int | None = None) -> Passage:
        """The tokens of a text, those that the model does not take left out, or all but the first ``most``. Raises
        ``RequestError`` where it has too many.
        """
        most = self._most if most is None else most
        passage = self._bytes(text, most) if self._file is None else self._tokens(text, most)
        if not passage.length:
            raise RequestError(f"{text.name}: has no tokens")
        return passage

    def values(self, passage: Passage) -> dict[str, np.ndarray]:
        """What the model takes of a text, by input, float64."""
        tokens = passage.tokens
        known: dict[str, Sequence[int]] = {
            "ids": [token.id for token in tokens],
            "mask": [not token.padding for token in tokens],
            "types": [token.kind for token in tokens],
            "positions": range(len(tokens)),
            "length": [passage.length],
        }
        return {
            name: np.asarray(known[role], np.float64).reshape(_sizes(self._inputs[name].shape, len(known[role])))
            for role, name in self.roles.items()
        }

    def _bytes(self, text: Text, most: int | None) -> Passage:
        """Each byte of a text in UTF-8 as a token, at the place of its letter; words have no spaces within."""
        if text.pair is not None:
            raise RequestError(f"{text.name}: is a pair, but the model takes the bytes of one text")
        self._check(text, len(text.text), most)
        letters = [(i, byte) for i, letter in enumerate(text.text) for byte in letter.encode("utf-8", "replace")]
        tokens = [Token(text.text[i], byte, i, i + 1) for i, byte in letters]
        kept = _worded(tokens[:most], (text.text,), whole=True)
        empty = [Token("", 0, padding=True)] * ((self.length or 0) - len(kept))
        return Passage(text.name, (text.text,), (*kept, *empty), max(0, len(tokens) - len(kept)), text.label)

    def _tokens(self, text: Text, most: int | None) -> Passage:
        """What the tokenizer makes of a text."""
        pair = (text.text,) if text.pair is None else (text.text, text.pair)
        encoded = self._encoded(pair, None)
        self._check(text, len(encoded), most)
        cut = 0
        if most is not None and len(encoded) > most:
            whole = len(encoded)
            encoded = self._encoded(pair, most)
            cut = whole - len(encoded)
        if self._pads and len(encoded) < self._pads:
            encoded.pad(self._pads, **self._filling())
        tokens = []
        for i, (start, end) in enumerate(encoded.offsets):
            padding = not encoded.attention_mask[i]
            added = padding or bool(encoded.special_tokens_mask[i])
            part = min(encoded.type_ids[i] if added else encoded.sequence_ids[i] or 0, len(pair) - 1)
            said, word = (encoded.tokens[i], None) if added else (pair[part][start:end], encoded.word_ids[i])
            place = start, end, part, word
            tokens.append(Token(said, encoded.ids[i], *place, added and not padding, padding, encoded.type_ids[i]))
        return Passage(text.name, pair, tuple(_worded(tokens, pair)), cut, text.label)

    def _check(self, text: Text, count: int, most: int | None) -> None:
        """Raises ``RequestError`` where a text that nothing limits has too many tokens."""
        if most is None and count > MOST_TOKENS:
            raise RequestError(f"{text.name}: has {count} tokens or more; split it into texts of at most {MOST_TOKENS}")

    def _encoded(self, pair: Sequence[str], most: int | None) -> Any:
        """The library's encoding, of at most so many tokens. Raises ``RequestError`` where there is none."""
        try:
            if most is None:
                self._tokenizer.no_truncation()
            else:
                self._tokenizer.enable_truncation(most)
            return self._tokenizer.encode(*pair)
        except BaseException as error:  # the library raises bare exceptions, and panics
            _check_whose(error)
            raise RequestError(f"{self._file}: cannot make tokens of this text ({_first_line(error)})") from None

    @property
    def _pads(self) -> int | None:
        """How many tokens each text has with padding: a model that has no mask may count on what its tokenizer was told."""
        if self._file is None:
            return self.length
        strategy = self._padding.get("strategy", self._padding.get("length"))
        own = strategy.get("Fixed") if isinstance(strategy, Mapping) else self._padding.get("length")
        return self.length or (own if "mask" not in self.roles else None)

    def _filling(self) -> dict[str, Any]:
        """The token that stands for none. Raises ``RequestError`` where there is none, and the model would not be told."""
        known = {key: self._padding[key] for key in ("direction", "pad_id", "pad_type_id", "pad_token") if key in self._padding}
        if known:
            return known
        name = next((name for name in PADDING if self._tokenizer.token_to_id(name) is not None), None)
        if name is None and "mask" not in self.roles:
            raise RequestError(f"{self._file}: has no token for padding, and each text must have {self._pads} tokens")
        return {} if name is None else {"pad_id": self._tokenizer.token_to_id(name), "pad_token": name}


def is_bytes(taken: Taken) -> bool:
    """Does an input take the bytes of a text as they are?"""
    return taken.rows == BYTE_ROWS or (taken.dtype == BYTE and (taken.rows or 0) >= BYTE_ROWS)


def _worded(tokens: Sequence[Token], texts: Sequence[str], whole: bool = False) -> list[Token]:
    """Tokens with the numbers of their words, from 0 on: those of the tokenizer where it makes no word of several (``whole``:
    it makes none), else what letters and signs the text has there.
    """
    spans: dict[tuple[int, int], list[int]] = {}
    for token in tokens:
        if token.word is not None:
            spans.setdefault((token.part, token.word), []).extend((token.start, token.end))
    inner = [texts[part][min(ends) : max(ends)].split() for (part, _), ends in spans.items()]
    if whole or any(len(words) > 1 for words in inner):
        starts = [np.array([match.start() for match in WORD.finditer(text)]) for text in texts]
        own = lambda token: np.searchsorted(starts[token.part], _first_letter(token), side="right")
    else:
        own = lambda token: token.word
    chosen = [None if token.special or token.padding else own(token) for token in tokens]
    keys = [None if word is None else (token.part, int(word)) for token, word in zip(tokens, chosen, strict=True)]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(key for key in keys if key is not None))}
    return [replace(token, word=None if key is None else numbers[key]) for token, key in zip(tokens, keys, strict=True)]


def _first_letter(token: Token) -> int:
    """Where a token has its first letter: spaces in front belong to the word behind them."""
    return token.start + len(token.text) - len(token.text.lstrip()) if token.text.strip() else token.start


def _roles(inputs: Mapping[str, Taken]) -> dict[str, str]:
    """Which input takes what of a text. Raises ``RequestError`` where that does not show, or one takes something else."""
    found: dict[str, str] = {}
    left = dict(inputs)
    for name in inputs:
        plain = name.lower().split(":")[0]
        for role, endings in ROLES.items():
            if role not in found and plain.endswith(endings) and "padding" not in plain:
                found[role] = name
                del left[name]
                break
    numbers = {name: taken for name, taken in left.items() if "int" in taken.dtype}
    looked = {name: taken for name, taken in numbers.items() if taken.rows is not None} or numbers
    takes = "; it takes " + ", ".join(f"{name} ({taken.dtype} {list(taken.shape)})" for name, taken in inputs.items())
    if not looked:
        strings = any("string" in taken.dtype for taken in left.values())
        way = ": give its strings in a .csv or an .npz, without --tokenizer" if strings else ""
        raise RequestError(f"the model takes no ids of tokens{takes}{way}")
    if len(left) > 1:
        raise RequestError(f"what of a text do {', '.join(left)} take? Only one input can have the ids of tokens{takes}")
    found["ids"] = next(iter(looked))
    return found


def _length(name: str, shape: Shape) -> int | None:
    """How many ids a sample has, None where that is open. Raises ``RequestError`` where they do not lie in a row."""
    long = [size for size in shape if size != 1]
    if len(long) > 1:
        raise RequestError(f"the input {name!r} takes samples of {list(shape)}, not a row of ids")
    size = long[0] if long else 1
    return size if isinstance(size, int) else None


def _sizes(shape: Shape, count: int) -> list[int]:
    """The shape of so many numbers in a sample of ``shape``."""
    sizes = [1 if size == 1 else count for size in shape]
    return sizes if int(np.prod(sizes)) == count else [count]


def files_of(path: Path) -> list[Path]:
    """The file of a tokenizer that is one, or the folder of one, and the settings beside it, where there are any."""
    file = path / FILE if path.is_dir() else path
    return [each for each in (file, file.with_name(SETTINGS)) if each == file or each.is_file()]


def _loaded(path: Path) -> tuple[Any, int | None]:
    """A tokenizer, and how many tokens its model takes where the settings beside it say so."""
    try:
        import tokenizers
    except ImportError:
        raise OnnxdtdError("tokenizers is not installed: pip install 'onnxdtd[text]'") from None
    file = files_of(path)[0]
    try:
        found = tokenizers.Tokenizer.from_str(bounded.text(file, LARGEST_FILE))
    except OSError as error:
        raise RequestError(f"{file}: no tokenizer can be read from it ({error.strerror or error})") from None
    except BaseException as error:  # the library raises bare exceptions, and panics
        _check_whose(error)
        why = "is no text" if isinstance(error, UnicodeDecodeError) else _first_line(error)
        raise RequestError(f"{file}: is no tokenizer; give the {FILE} that the model comes with ({why})") from None
    try:
        most = json.loads(bounded.text(file.with_name(SETTINGS)))["model_max_length"]
        return found, int(most) if 0 < most < 2**31 else None
    except (OSError, ValueError, KeyError, TypeError):
        return found, None


def _check_whose(error: BaseException) -> None:
    """Raise what is not the library's, but came while it was at work: somebody wants to end."""
    if not isinstance(error, Exception) and type(error).__name__ != PANIC:
        raise error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
