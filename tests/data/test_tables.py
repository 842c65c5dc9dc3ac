"""Which columns of a table a model takes, which have labels and names of samples, and what is said of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from onnxdtd.data.sheets import sheet
from onnxdtd.data.tables import NO_ROLES, Filled, Intake, Roles, rows
from onnxdtd.errors import RequestError

ROW = [Intake("X", 2)]
NAMED = [Intake("age", 1, None, True), Intake("hue", 1, ["red", "NA"]), Intake("size", 2)]


def made(folder: Path, text: str, intakes: Sequence[Intake] = ROW, roles: Roles = NO_ROLES) -> Filled:
    (folder / "a.csv").write_text(text)
    return rows(sheet(folder / "a.csv"), intakes, roles, ["species"])


def test_a_row_of_numbers_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = made(tmp_path, "b,a\n1,2\n3,4\n")
    assert found.values["X"].tolist() == [[1, 2], [3, 4]]
    assert found.names == {"X": ("b", "a")}
    assert (found.called, found.labels, found.notes) == (["a_000", "a_001"], None, [])
    assert made(tmp_path, "1,2\n").called == ["a"]
    assert made(tmp_path, "1,2\n").names == {"X": ()}


def test_columns_are_found_by_name_whatever_their_order(tmp_path: Path) -> None:
    """The model itself replaces what is missing of age; NA is a hue that it knows."""
    found = made(tmp_path, "size[1],hue,more,age,size[0]\n1,NA,9,,2\n3,red,9,4,5\n", NAMED)
    assert str(found.values["age"].tolist()) == "[[nan], [4.0]]"
    assert found.values["hue"].tolist() == [["NA"], ["red"]]
    assert found.values["size"].tolist() == [[2, 1], [5, 3]]
    assert found.names == {"age": ("age",), "hue": ("hue",), "size": ("size[0]", "size[1]")}
    assert found.notes == ["a.csv: left out, since the model takes no such input: more"]


def test_labels_and_names_of_samples(tmp_path: Path) -> None:
    """Named, they are taken; else only what is left over and called so."""
    text = "who,a,b,kind\nAnn,1,2,7\n,3,4,cat\n"
    found = made(tmp_path, text, roles=Roles("kind", "who"))
    assert found.values["X"].tolist() == [[1, 2], [3, 4]]
    assert (found.called, found.labels) == (["Ann", "a_001"], [7, "cat"])
    for name in ("label", "Target", "class", "y", "species"):
        found = made(tmp_path, f"a,{name},b\n1,7,2\n")
        assert (found.values["X"].tolist(), found.labels) == ([[1, 2]], [7])
        assert found.notes == [f"a.csv: the column {name!r} is taken for the label, and is no feature"]
    found = made(tmp_path, ",a,b\nx,1,2\n")
    assert (found.called, found.notes) == (["x"], ["a.csv: the column '' is taken for the names of the samples"])
    assert made(tmp_path, "x,y\n1,2\n").labels is None, "a feature may be called y"


def test_the_classes_to_explain_are_a_column_of_their_own_or_the_label(tmp_path: Path) -> None:
    for roles, labels in ((Roles(target="target"), None), (Roles("target", target="target"), [7, "cat", None])):
        found = made(tmp_path, "a,target,b\n1,7,2\n3,cat,4\n5,,6\n", roles=roles)
        assert found.values["X"].tolist() == [[1, 2], [3, 4], [5, 6]]
        assert (found.targets, found.labels, found.notes) == ([7, "cat", None], labels, [])


@pytest.mark.parametrize(
    ("text", "intakes", "roles", "words"),
    [
        ("a,b,kind\n1,2,cat\n", ROW, NO_ROLES, "has 3 columns of features, but the model takes 2; say which are none, for "
         "example --label kind, or take them out; it has a, b, kind"),
        ("a,b,kind\n1,2,r1\n3,4,r2\n", ROW, NO_ROLES, "say which are none, for example --id kind, or take them out; it has"),
        ("a,b,c,r\n1,2,cat,r1\n3,4,cat,r2\n", ROW, Roles(label="c"), "say which are none, for example --id r, or take"),
        ("a,b,c\n1,2,3\n", ROW, NO_ROLES, "say which are none, by --label or --id, or take them out; it has a, b, c"),
        ("a,b,c,d\n1,2,3,4\n", ROW, Roles(id="c"), "say which are none, by --label, or take them out; it has a, b, d"),
        ("a,b,c,d,e,f\n1,2,3,4,5,6\n", ROW, Roles(id="c"), "has 5 columns of features, but the model takes 2: take out 3 of "
         "a, b, d, e, f, and leave the others in the order that the model takes"),
        ("a\n1\n", ROW, NO_ROLES, "has 1 column of features, but the model takes 2"),
        ("1,2,3\n", ROW, NO_ROLES, "names in its first line would tell which"),
        ("a,b\n1,2\n", ROW, Roles("kind"), "--label kind: .* has no column 'kind'; it has a, b"),
        ("a,b,c\n1,2,3\n", ROW, Roles("c", "c"), "--label and --id: both are the column 'c'"),
        ("age,hue,size[0],size[1]\n1,red,2,3\n", NAMED, Roles("hue"), "--label hue: the model takes this column"),
        ("age,size[0],size[1]\n1,2,3\n", NAMED, NO_ROLES, "has no column 'hue', which the model takes"),
        ("age,hue,size[0]\n1,red,2\n", NAMED, NO_ROLES, "has 1 of the columns size.0., size.1. ..., but the model takes 2"),
        ("age,hue,size[0],size[1]\n1,red,,3\n", NAMED, NO_ROLES, "line 2, column 'size.0.': has no value"),
    ],
)  # fmt: skip
def test_what_does_not_fit(text: str, intakes: Sequence[Intake], roles: Roles, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        made(tmp_path, text, intakes, roles)
