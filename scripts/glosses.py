"""Definitions of nouns from WordNet 3.0, as Debian's package wordnet-base ships it: what train_text.py learns from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

WORDNET = Path("/usr/share/wordnet")
EDITION = "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2"  # SHA-256 of data.noun
FILES = {5: "animal", 6: "artifact", 8: "body part", 13: "food", 18: "person", 20: "plant"}  # WordNet's numbers of its files
CLASSES = sorted(FILES.values())
HELD_OUT = 0.2  # of the parents, and so about of the definitions


class Definition(NamedTuple):
    """What WordNet says of a thing, what kind of thing it is, and the number of what stands above it."""

    text: str
    label: str
    parent: str


def entries(folder: Path) -> Iterator[Definition]:
    """The definitions in the files of `FILES`, without examples. Names, of people or of a genus, are left out."""
    path = folder / "data.noun"
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != EDITION:
        raise SystemExit(f"{path} is not that of Debian's package wordnet-base=1:3.0-37; --wordnet names another folder")
    for line in data.decode("ascii").splitlines():
        head, _, gloss = line.partition(" | ")
        number, file, _, words, *fields = head.split() if gloss else ("", "0", "", "0")
        pointers = fields[2 * int(words, 16) + 1 :]
        above = [target for kind, target in zip(pointers[::4], pointers[1::4], strict=False) if kind == "@"]
        if int(file) in FILES and fields[0].islower() and "@i" not in pointers:
            yield Definition(plain(gloss), FILES[int(file)], min(above, default=number))


def plain(gloss: str) -> str:
    """Without quoted examples, and without the field in brackets in front, such as (anatomy).

    >>> plain('(botany) a leaf; "the leaves fell" ')
    'a leaf'
    """
    text = re.sub(r'"[^"]*"?', "", gloss)
    return " ".join(re.sub(r"^\s*(\([^)]*\)\s*)+", "", text).split()).strip(" ;")


def definitions(folder: Path) -> tuple[list[Definition], list[Definition]]:
    """(train, test), each text once, and none of several classes; those of siblings, which read alike, are on one side."""
    kinds: dict[str, set[str]] = {}
    first: dict[str, Definition] = {}
    for entry in entries(folder):
        letters = re.sub("[^a-z ]", "", entry.text.lower())
        kinds.setdefault(letters, set()).add(entry.label)
        first.setdefault(letters, entry)
    clear = [entry for letters, entry in first.items() if len(kinds[letters]) == 1 and len(letters.split()) >= 4]
    held_out = lambda entry: hashlib.sha256(entry.parent.encode()).digest()[0] < 256 * HELD_OUT
    return [entry for entry in clear if not held_out(entry)], [entry for entry in clear if held_out(entry)]
