"""What WordNet's lines become."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import glosses
import pytest

LINES = """\
  1 a line of the licence
00000010 05 n 02 dog 0 hound 0 002 @ 00000099 n 0000 ~ 00000098 n 0000 | (zoology) an animal that barks; "the dog barked"
00000011 05 n 01 Canis 0 001 @ 00000099 n 0000 | type genus of the Canidae family
00000012 18 n 01 smith 0 001 @i 00000097 n 0000 | an economist who wrote of nations
00000013 18 n 01 baker 0 001 @ 00000096 n 0000 | someone who bakes bread and cakes
00000014 13 n 01 bun 0 001 @ 00000095 n 0000 | a small round cake
00000015 06 n 01 press 0 001 @ 00000094 n 0000 | something that is told twice
00000016 20 n 01 bush 0 001 @ 00000093 n 0000 | something that is told twice
00000017 18 n 01 cook 0 001 @ 00000092 n 0000 | someone, who bakes bread and cakes!
00000018 13 n 01 roll 0 000 | a short one
00000019 03 n 01 thing 0 000 | of another file and long enough
"""


def test_lines_become_definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.noun").write_text(LINES, encoding="ascii")
    monkeypatch.setattr(glosses, "EDITION", sha256(LINES.encode()).hexdigest())
    train, test = glosses.definitions(tmp_path)
    assert sorted([*train, *test]) == [
        ("a small round cake", "food", "00000095"),
        ("an animal that barks", "animal", "00000099"),
        ("someone who bakes bread and cakes", "person", "00000096"),
    ]
    monkeypatch.setattr(glosses, "HELD_OUT", 1.0)
    assert glosses.definitions(tmp_path)[0] == []
    monkeypatch.setattr(glosses, "EDITION", "0")
    with pytest.raises(SystemExit, match="is not that of Debian"):
        glosses.definitions(tmp_path)
