"""What classes are called, and which class a label or an index means."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxdtd.errors import RequestError
from onnxdtd.labels import MOST_PYTHON, Index, Labels, first_synonym, parsed, read

PETS = Labels(["cat", "dog", "eel"], None, 3)
NUMBERS = Labels([3, 7, 9], None, 3)
SHIFTED = Labels([1, 2, 3], None, 3)
SIGNS = Labels([-1, 1], None, 2)
PLAIN = Labels(None, None, 3)
IMAGENET = Labels(None, None, 6).named(
    ["n01 tench, Tinca", "tabby, tabby cat", "n02012849 crane", "Egyptian cat", "crane", "7"]
)


@pytest.mark.parametrize(
    ("labels", "target", "index"),
    [
        (PETS, "dog", 1),
        (PETS, "DOG", 1),
        (PETS, "2", 2),
        (PETS, 2, 2),
        (NUMBERS, 7, 1),
        (NUMBERS, "7", 1),
        (NUMBERS, 1, 1),
        (NUMBERS, Index(2), 2),
        (SHIFTED, 1, 0),
        (SHIFTED, "1", 0),
        (SHIFTED, Index(1), 1),
        (SHIFTED, 0, 0),
        (SIGNS, -1, 0),
        (SIGNS, "-1", 0),
        (SIGNS, 1, 1),
        (SIGNS, 0, 0),
        (PLAIN, 2, 2),
        (PLAIN, "2", 2),
        (IMAGENET, "tabby", 1),
        (IMAGENET, "tabby, tabby cat", 1),
        (IMAGENET, "egyptian cat", 3),
        (IMAGENET, "7", 5),
        (IMAGENET, 2, 2),
        (PETS.named(["chat", "chien", "anguille"]), "chien", 1),
        (PETS.named(["chat", "chien", "anguille"]), "dog", 1),
        (Labels(["1", "0"], None, 2), "1", 0),
        (Labels(["1", "0"], None, 2), 1, 1),
    ],
    ids=str,
)
def test_labels_before_indices(labels: Labels, target: int | str, index: int) -> None:
    found = labels.index(target)
    assert (found, type(found)) == (index, Index)


@pytest.mark.parametrize(
    ("labels", "target", "words"),
    [
        (PETS, "dgo", "'dgo' is no class of this model; did you mean 'dog'?"),
        (PETS, 3, "3 is no class of this model, which has classes 0 to 2, called cat, dog, eel"),
        (PETS, "-1", "-1 is no class"),
        (PETS, Index(-1), "-1 is no class"),
        (NUMBERS, 8, "8 is no class of this model, which has classes 0 to 2, called 3, 7, 9"),
        (NUMBERS, Index(7), "7 is no class"),
        (PLAIN, "dog", "it has no labels: give an index, or 'argmax', or names with --labels"),
        (IMAGENET, "taby", "did you mean 'tabby'"),
        (PLAIN.named(["crate", "tiger cat, Felis", "Persian Cat"]), "cat", "did you mean 'tiger cat', 'Persian Cat'?"),
        (Labels(None, None, None), 2**63, "is no class"),
        (Labels(["a", "b", "a"], None, 3), "a", "the classes 0, 2 are called so; give the index of one"),
        (IMAGENET.named(["crane, bird", "crane, machine", *"abcd"]), "crane", "the classes 0, 1 are called so"),
    ],
    ids=str,
)
def test_no_class(labels: Labels, target: int | str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        labels.index(target)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "target", "words"),
    [
        (PETS, "dog", "target dog: taken for a label, 'dog', of the class with the index 1"),
        (PETS, "1", "target 1: taken for an index, that of 'dog'"),
        (NUMBERS, "7", "target 7: taken for a label, '7', of the class with the index 1"),
        (NUMBERS, 2, "target 2: taken for an index, that of '9'"),
        (SHIFTED, 1, "target 1: taken for a label, '1', of the class with the index 0; the one with the index 1 is '2'"),
        (SHIFTED, 3, "target 3: taken for a label, '3', of the class with the index 2"),
        (PLAIN, 1, ""),
        (NUMBERS, Index(1), ""),
    ],
    ids=str,
)
def test_what_was_understood(labels: Labels, target: int | str, words: str) -> None:
    assert labels.understood(target) == words


def test_what_classes_are_called() -> None:
    assert [PETS[1], NUMBERS[1], PLAIN[1], IMAGENET[1]] == ["dog", "7", "class 1", "tabby, tabby cat"]
    named = PETS.named(["chat", "chien", "anguille"])
    assert named[1] == "chien"
    assert list(named.replaced()) == ["the labels given are shown in place of the model's own, cat, dog, eel"]
    assert list(PETS.named(["cat", "dog", "eel"]).replaced()) == list(PLAIN.named(["a", "b", "c"]).replaced()) == []
    assert PETS.named(None) is PETS


def test_labels_of_another_length() -> None:
    names = [f"name {i}" for i in range(1000)]
    with pytest.raises(RequestError, match="1001 labels for 1000 classes; take out the first one, 'background'"):
        Labels(None, None, 1000).named(["background", *names])
    with pytest.raises(RequestError, match=r"1000 labels for 1001 classes; .*class 0 for the background"):
        Labels(None, None, 1001).named(names)
    for count in (1, 2, 4, 1000):
        with pytest.raises(RequestError, match=f"3 labels for {count} classes"):
            Labels(None, None, count).named(["a", "b", "c"])
    assert Labels(None, None, None).named(["a"])[0] == "a", "the number is not known yet"


def test_what_a_model_says() -> None:
    assert [PETS.own_index(x) for x in ("eel", "emu", 1)] == [2, None, 1]
    assert [NUMBERS.own_index(x) for x in (9, "x")] == [2, None]
    assert PLAIN.own_index(2) == 2


def test_labels_of_data() -> None:
    """Where a model has integers for labels, numbers in a data set are never indices."""
    assert [SHIFTED.labelled(x) for x in (1, "2", 3)] == [0, 1, 2]
    assert [PETS.labelled(x) for x in ("cat", 1, "1")] == [0, 1, 1]
    assert [Labels(["1", "2"], None, 2).labelled(x) for x in (1, "1", 2)] == [0, 0, 1]
    for label in (0, "0"):
        with pytest.raises(RequestError, match="label 0 is none of the model's, 1, 2, 3"):
            SHIFTED.labelled(label)
    with pytest.raises(RequestError, match="label 'emu' is no class"):
        PETS.labelled("emu")


def test_synonyms() -> None:
    assert first_synonym("n01440764 tench, Tinca tinca") == "tench"
    assert first_synonym(" a ,b") == "a"
    assert first_synonym("n1 a") == "n1 a"


# ------------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("labels.txt", "cat\n dog \n\nfish\n\n\n", ["cat", "dog", "", "fish"]),
        ("labels.txt", "cat\r\ndog", ["cat", "dog"]),
        ("labels.txt", "猫\nñandú\n", ["猫", "ñandú"]),
        ("labels.txt", "\ufeffcat\ndog\n", ["cat", "dog"]),
        ("labels.txt", "3\n-1\n", ["3", "-1"]),
        ("labels.txt", "", []),
        ("labels.txt", "{0: 'tench, Tinca tinca',\n 1: 'goldfish'}\n", ["tench, Tinca tinca", "goldfish"]),
        ("labels.json", '["cat", "dog", 3]', ["cat", "dog", "3"]),
        ("labels.json", '{"0": "cat", "2": "dog"}', ["cat", "1", "dog"]),
        ("labels.json", '{"0": ["n01440764", "tench"]}', ["tench"]),
        ("labels.json", '{"dog": 1, "cat": 0}', ["cat", "dog"]),
        ("labels.json", "{}", []),
        ("labels.JSON", "[]", []),
    ],
)
def test_files_of_labels(name: str, text: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read(tmp_path / name) == tuple(names)


@pytest.mark.parametrize(
    "text", ["", "{", "7", "null", '{"cat": "dog"}', '{"cat": 1, "dog": 1}', '{"-1": "a"}', '{"99999999": 0}']
)
def test_files_without_labels(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(RequestError, match=r"labels\.json: no labels"):
        read(tmp_path / "labels.json")


def test_labels_as_python_writes_them_are_read_up_to_a_length() -> None:
    """Its parser takes hundreds of bytes of memory for each letter of some texts."""
    text = "[" + "1," * (MOST_PYTHON // 2) + "]"
    assert parsed(text) is None
    assert len(parsed(text[:1001] + "]") or ()) == 500
    assert len(parsed(text.replace(",]", "]")) or ()) == MOST_PYTHON // 2  # JSON


@pytest.mark.parametrize("text", ["cat", "(1", "[" * 100_000, "{1: 2", "[1, [2]", '{"x": nan'])
def test_other_text_is_no_list(text: str) -> None:
    assert parsed(text) is None


def test_of_two_classes_of_one_name_the_whole_label_is_shown() -> None:
    labels = Labels(names=["tabby, tabby cat", "crane, bird", "crane, machine"], where="row 3")
    assert [labels.brief(labels[i]) for i in range(3)] == ["tabby at row 3", "crane, bird at row 3", "crane, machine at row 3"]
    assert Labels(count=2).brief("class 1") == "class 1"


@pytest.mark.parametrize(
    "labels",
    [
        Labels(count=4),
        Labels(count=4, what="cell", where="(3, 4)"),
        Labels(names=["a", "b", "class 3", "3"], where="row 1"),
        Labels(own=[7, 3, 1, 0]),
    ],
)
def test_what_a_class_is_called_means_that_class(labels: Labels) -> None:
    assert [labels.index(labels[i]) for i in range(4)] == [0, 1, 2, 3]
    assert [labels.labelled(labels[i]) for i in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("labels", "said"),
    [(Labels(count=4), "class 4"), (Labels(count=4), "class x"), (Labels(count=4), "cell 1"), (Labels(own=[7, 3]), "class 0")],
)
def test_what_no_class_is_called_means_none(labels: Labels, said: str) -> None:
    """Whose classes have names may mean another list by a number."""
    with pytest.raises(RequestError, match=f"label '?{said}'? is no class of this model"):
        labels.labelled(said)
