"""Rules, presets and methods from TOML files, ours and a user's: what can be said in them, and every mistake."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import Session, model, node

import onnxdtd
from onnxdtd.compiler import compile as compiler
from onnxdtd.errors import RequestError, RuleError
from onnxdtd.method.preset import LayerFacts
from onnxdtd.method.toml import Library
from onnxdtd.request import Request

LIBRARY = Library()

# ---- the rules that come with onnxdtd --------------------------------------------------------------------------------


def test_every_preset_has_a_title_and_a_rule_for_every_layer():
    for preset in LIBRARY.presets.values():
        assert preset.title
        assert preset.source
        assert preset.selectors[-1].matches(LayerFacts("any", "Conv", "conv", False, False))


PARAMETERS = ["epsilon(epsilon=1e-9)", "epsilon(epsilon=0)", "gamma(gamma=0.1)", "gamma(gamma=1234567)"]
PARAMETERS += ["gamma(gamma=0.3333333333333333)", "alpha-beta(alpha=1.0000001, beta=0.0000001)"]
PARAMETERS += ["z+ else w2", "gamma(gamma=0.1)  else  w2 else flat", "epsilon(epsilon=0) else w2"]


@pytest.mark.parametrize("reference", [*LIBRARY.rules, *PARAMETERS])
def test_a_rule_in_words_selects_it_again(reference):
    rule = LIBRARY.rule(reference)
    assert LIBRARY.rule(str(rule)) == rule


@pytest.mark.parametrize("reference", [" gamma ", "gamma()", "gamma( gamma = 0.25 )", "gamma(gamma=25e-2,)"])
def test_spaces_and_empty_parentheses_do_not_matter(reference):
    assert LIBRARY.rule(reference) == LIBRARY.rule("gamma")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", "no rule"),
        ("zplus", "no rule 'zplus'; there are w2, z, z+"),
        ("gamma(gamma=0.1", "no rule"),
        ("gamma(0.1)", "name=number"),
        ("gamma(gamma=big)", "name=number"),
        ("gamma(epsilon=1)", "no parameter 'epsilon'; it has gamma"),
        ("z(gamma=1)", "no parameter 'gamma'; it has none"),
        ("gamma(gamma=-1)", "not negative"),
        ("epsilon(epsilon=-1e-6)", "not negative"),
        ("epsilon(epsilon=nan)", "finite"),
        ("epsilon(epsilon=inf)", "finite"),
        ("alpha-beta(alpha=2)", None),
        ("alpha-beta(alpha=3)", "must be 1"),
        ("alpha-beta(alpha=2, beta=0)", "must be 1"),
        ("z+ else", "no rule 'z+ else'"),
        ("z+ else zplus", "no rule 'zplus'"),
        ("z+ else gradient", "gradient divides by nothing; else is for rules whose denominator may be 0"),
        ("gradient else w2", "gradient divides by nothing"),
        ("epsilon else w2", "leaves nothing to w2, since epsilon has an ε"),
        ("z+ else w2 else z+", "has a rule twice"),
    ],
)
def test_a_reference_to_a_rule_that_is_wrong(reference, message):
    if message is None:
        LIBRARY.rule(reference)
        return
    with pytest.raises(RuleError, match=re.escape(message)) as caught:
        LIBRARY.rule(reference, "--set conv1=...")
    assert str(caught.value).startswith("--set conv1=...")


# ---- a user's own file -----------------------------------------------------------------------------------------------


@pytest.fixture
def library() -> Library:
    return Library()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


SAME = [  # spelled out by a user, built in
    ('terms = ["x w"]', "z"),
    ('direction = "x"', "z"),
    ('terms = ["1 w2"]', "w2"),
    ('direction = ["1 w"]', "w2"),
    ('terms = ["x+ w+", "x- w-"]', "z+"),
    ('terms = ["x-l w+", "x-h w-"]', "zB"),
    ('direction = ["1 1/w"]', "flat"),
    ('terms = ["x w"]\nbias = "b"\nepsilon = 1e-6', "epsilon"),
    ('terms = ["x w"]\nbias = "b"\nepsilon = "e"\nparams = { e = 1e-6 }', "epsilon"),
    ('branches = [{ terms = ["x w"] }]', "z"),
    (
        'branches = [{ scale = 2, terms = ["x+ w+", "x- w-"], bias = "b+" },\n'
        '            { scale = -1, terms = ["x+ w-", "x- w+"], bias = "b-" }]',
        "alpha-beta",
    ),
]


@pytest.mark.parametrize(("text", "built_in"), SAME)
def test_a_rule_of_a_file_that_says_the_same_is_the_same(text, built_in, library, tmp_path):
    library.load(write(tmp_path, f"[rule.mine]\n{text}\n"))
    mine, ours = library.rule("mine"), library.rule(built_in)
    assert (mine.branches, mine.epsilon) == (ours.branches, ours.epsilon)


def test_a_file_with_several_presets(library, tmp_path):
    first = '[preset.a]\ntitle = "A"\nlayers = [{ rule = "z" }]\n'
    path = write(tmp_path, first + '[preset.b]\nlayers = [{ first = true, rule = "w2" }, { rule = "z+" }]\n')
    assert library.preset(f"{path}:b").selectors[0].rule.name == "w2"
    assert Library().preset(f"{path}:a").title == "A"
    with pytest.raises(RuleError, match=r"has 2 presets \(a, b\); choose one as .*mine.toml:NAME"):
        Library().preset(str(path))
    with pytest.raises(RuleError, match=r"no preset 'c' in it; there are a, b"):
        Library().preset(f"{path}:c")


def test_what_comes_with_onnxdtd_is_read_once_and_what_a_file_adds_is_not_shared(tmp_path, monkeypatch):
    before = set(Library().presets)
    path = tmp_path / "mine.toml"
    path.write_text('[preset.mine]\ntitle = "mine"\nsource = "here"\nlayers = [{ rule = "z" }]\n')
    assert Library().preset(str(path)).title == "mine"
    monkeypatch.setattr(Library, "load", lambda *_: pytest.fail("read again"))
    assert set(Library().presets) == before


def test_settings_come_before_the_preset_and_the_last_wins(library):
    preset = library.overridden(library.preset("dtd"), ["conv*=z", "conv1=gamma(gamma=0.1)"])
    facts = lambda name: LayerFacts(name, "Conv", "conv", False, False)
    assert [str(preset.rule(facts(name))) for name in ("conv1", "conv2", "fc")] == ["gamma(gamma=0.1)", "z", "z+"]


LAYERS = "layers = [{ rule = 'z' }]"
BAD = [  # file, what the message says, the entry that it names
    ("[rule.a", "not a TOML file", ""),
    ("\udcff", "not a TOML file", ""),
    ("rule = 1", "write [rule.NAME] tables", ""),
    ("[rule]\na = 1", "write [rule.NAME] tables", ""),
    ("[[preset]]", "write [preset.NAME] tables", ""),
    ("[rules.a]", "rules", ""),
    ("[rule.a]", "needs either terms or direction", "[rule.a]"),
    ("[rule.a]\nterm = ['x w']", "term", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\ndirection = ['x']", "needs either terms or direction", "[rule.a]"),
    ("[rule.a]\nterms = []", "no terms", "[rule.a]"),
    ("[rule.a]\nterms = 1", "terms is a string or a list of strings", "[rule.a]"),
    ("[rule.a]\nterms = [1]", "terms is a string or a list of strings", "[rule.a]"),
    ("[rule.a]\nterms = ['y w']", "cannot read 'y w'", "[rule.a]"),
    ("[rule.a]\nterms = ['x v']", "cannot read 'x v'", "[rule.a]"),
    ("[rule.a]\nterms = ['x']", "cannot read 'x'", "[rule.a]"),
    ("[rule.a]\nterms = ['w x']", "cannot read 'w x'", "[rule.a]"),
    ("[rule.a]\nterms = ['x w>0']", "cannot read 'x w>0'", "[rule.a]"),
    ("[rule.a]\ndirection = ['x w+']", "cannot read 'x w+'", "[rule.a]"),
    ("[rule.a]\nterms = ['x w~+']", "needs a parameter gamma", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nbias = 'c'", "bias is one of b, b+, b-", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = 'e'", "'e' is neither a number nor a parameter", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = -1", "epsilon", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\ndivide = 1", "divide is true or false", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = 1", "params maps names to numbers", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = 'x' }", "params maps names to numbers", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = -1 }", "not negative", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = inf }", "finite", "[rule.a]"),
    ("[rule.a]\nbranches = 'x'", "branches is a list of tables", "[rule.a]"),
    ("[rule.a]\nbranches = [1]", "branches is a list of tables", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nbranches = [{ terms = ['x w'] }]", "branches", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], sign = 1 }]", "sign", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], when = 'x>0' }]", "when is one of y>0, y<0", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], scale = 's' }]", "'s' is neither a number nor a parameter", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], scale = 2 }]", "must be 1", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], scale = 2 }, { terms = ['x w'], scale = 1 }]", "must be 1", "[rule.a]"),
    ("[rule.z]\nterms = ['x w']", "there is a rule of this name already", "[rule.z]"),
    ("[rule.a]\nterms = ['x w']\n[rule.a]\nterms = ['x w']", "not a TOML file", ""),
    (f"[preset.dtd]\n{LAYERS}", "there is a preset of this name already", "[preset.dtd]"),
    ("[preset.p]", "needs layers", "[preset.p]"),
    ("[preset.p]\nlayers = []", "needs layers", "[preset.p]"),
    ("[preset.p]\nlayers = ['z']", "needs layers", "[preset.p]"),
    ("[preset.p]\nlayers = { rule = 'z' }", "needs layers", "[preset.p]"),
    (f"[preset.p]\nname = 'p'\n{LAYERS}", "name", "[preset.p]"),
    ("[preset.p]\nlayers = [{ rule = 'z' }, { first = true }]", "needs a rule", "[preset.p], entry 2"),
    ("[preset.p]\nlayers = [{ rule = 1 }]", "needs a rule", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'zz' }]", "no rule 'zz'", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'gamma(gamma=-1)' }]", "not negative", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'alpha-beta(alpha=3)' }]", "must be 1", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', first = 1 }]", "first is true or left out", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', bounds = 'yes' }]", "bounds is true or left out", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', family = 'convolution' }]", "no layer has family", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', op = ['Relu'] }]", "no layer has op 'Relu'", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', op = 1 }]", "op is a string or a list of strings", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', name = 1 }]", "name is a string", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', kind = 'conv' }]", "kind", "[preset.p], entry 1"),
    (
        f"[preset.p]\nderivative = 'x g'\n{LAYERS}",
        'instead of derivative write method = "gradient" and finish = "x g"',
        "[preset.p]",
    ),
    ("[rule.'a b']\nterms = ['x w']", "cannot be chosen", "[rule.a b]"),
    (f"[rule.a]\nterms = ['x w']\nepsilon = 1{'0' * 400}", "is neither a number nor a parameter", "[rule.a]"),
    (f"[rule.a]\nterms = ['x w']\nparams = {{ g = 1{'0' * 400} }}", "params maps names to numbers", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = true }", "params maps names to numbers", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = 1 }", "the parameter 'g' is used nowhere", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { gamma = 1 }", "the parameter 'gamma' is used nowhere", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = nan", "nan is not finite", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = true", "True is neither a number nor a parameter", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = 1e-40", "epsilon = 1e-40 is neither 0 nor between 1e-30", "[rule.a]"),
    ("[rule.a]\nterms = ['x w~+']\nparams = { gamma = 1e39 }", "gamma = 1e+39 is neither 0 nor", "[rule.a]"),
    ("[rule.a]\nterms = ['x w', '-x w']", "x w is both added and taken off", "[rule.a]"),
    ("[rule.a]\nbranches = []", "branches is a list of tables", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], scale = nan }]", "nan is not finite", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = 'x w', when = 'y>0' }]", "has no branch where y<0", "[rule.a]"),
    (
        "[rule.a]\nbranches = [{ terms = 'x w' }, { terms = 'x w+', when = 'y>0' }, { terms = 'x w-', when = 'y<0' }]",
        "1 + 1 must be 1 where y>0",
        "[rule.a]",
    ),
    ("[rule.a]\nbranches = [{ terms = 'x w', scale = 0.5 }, { terms = 'x', scale = 0.5 }]", "read 'x'", "[rule.a], branch 2"),
    ("[rule.a]\nterms = ['x w']\ndivide = false\nbias = 'b'", "divide = false leaves no denominator", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\ndivide = false\nepsilon = 1", "divide = false leaves no denominator", "[rule.a]"),
    ("[rule.a]\ndirection = ['x']\ndivide = false", "divide = false leaves no denominator", "[rule.a]"),
    ("[preset.p]\nlayers = [{ rule = 'z', rule = 'z' }]", "not a TOML file", ""),
    ("[preset.p]\nlayers = [{ rule = 'gamma(gamma=1, gamma=2)' }]", "has gamma twice", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'gamma(gamma=1e-39)' }]", "gamma = 1e-39 is neither 0 nor", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', first = false }]", "first is true or left out", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', bounds = true }]", "bounds = true needs first = true", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', op = [] }]", "op is empty", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', name = '' }]", "name is empty", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z' }, { rule = 'z+', op = 'Conv' }]", "is never reached", "[preset.p], entry 2"),
    (
        "[preset.p]\nlayers = [{ rule = 'z', op = ['Gemm', 'Conv'] }, { rule = 'w2' , name = 'a', op = 'Conv' }]",
        "is never reached, since entry 1 takes every layer that it matches",
        "[preset.p], entry 2",
    ),
    ("[preset.p]\nlayers = [{ rule = 'w2', first = true }, { rule = 'gradient' }]", "does not divide", "[preset.p], entry 2"),
    (
        "[preset.p]\nmethod = 'gradient'\nlayers = [{ rule = 'gradient', first = true }, { rule = 'z' }]",
        "divides",
        "[preset.p], entry 2",
    ),
    ("[preset.p]\ntitle = 1\nlayers = [{ rule = 'z' }]", "title", "[preset.p]"),
]


@pytest.mark.parametrize(("text", "message", "entry"), BAD, ids=[text for text, _, _ in BAD])
def test_a_mistake_in_a_file(text, message, entry, library, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RuleError, match=re.escape(message)) as caught:
        library.load(path)
    assert str(caught.value).startswith(f"{path}, {entry}" if entry else f"{path}")


NET = model(
    [node("Gemm", "x w1", "a"), node("Relu", "a", "r"), node("Gemm", "r w2", "y")],
    {"x": ["n", 3]},
    ["y"],
    {"w1": np.ones((3, 4), np.float32), "w2": np.ones((4, 2), np.float32)},
)


@pytest.mark.parametrize("entry", ["name = 'conv*'", "op = 'Conv'", "op = 'Gemm', name = 'b'", "op = 'LayerNormalization'"])
def test_an_entry_that_matches_nothing_is_a_note(entry, tmp_path):
    """A file is for many models."""
    path = write(
        tmp_path, f"[preset.p]\nlayers = [{{ rule = 'w2', {entry} }}, {{ rule = 'z', family = 'conv' }}, {{ rule = 'z' }}]"
    )
    job = compiler.prepare(NET, Request(preset=str(path)))
    assert job.plan.notes == [f"{path}, [preset.p], entry 1: matches no layer of this model"]
    assert [str(step.rule) for step in job.plan.steps if step.rule] == ["z", "z"]


def test_a_setting_in_the_shadow_of_others_is_a_note():
    job = compiler.prepare(NET, Request(settings=["a_node=z", "*=epsilon"]))
    assert job.plan.notes == ["--set a_node=z: decides on no layer of this model, since others that match come first"]


def test_what_matches_is_not_noted(tmp_path):
    path = write(tmp_path, "[preset.p]\nlayers = [{ rule = 'w2', name = 'y_*' }, { rule = 'z+', op = 'Gemm' }]")
    assert compiler.prepare(NET, Request(preset=str(path))).plan.notes == []
    assert compiler.prepare(NET, Request(preset="dtd", low=0.0, high=1.0)).plan.notes == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [("conv1=z", "; its layers are 'a_node', 'y_node'"), ("ynode=z", "; did you mean 'y_node', 'a_node'?"), ("r_*=z", None)],
)
def test_a_setting_that_matches_nothing(setting, message):
    with pytest.raises(RuleError, match=re.escape(f"--set {setting}: matches no layer of this model" + (message or ""))):
        onnxdtd.compile(NET, settings=[setting])


def test_a_name_with_brackets_means_itself():
    """As names of layers in lists have them; a glob would take them for a set of letters."""
    net = onnx.ModelProto()
    net.CopyFrom(NET)
    net.graph.node[0].name = "layers[0]"
    steps = compiler.prepare(net, Request(settings=["layers[0]=z"])).plan.steps
    assert [str(step.rule) for step in steps if step.rule] == ["z", "z+"]


NORMED = model(
    [node("LayerNormalization", "x g", "n"), node("Gemm", "n w", "y")],
    {"x": ["n", 3]},
    ["y"],
    {"g": np.ones(3, np.float32), "w": np.ones((3, 2), np.float32)},
)


HELD = "method = 'gradient'\ntreatments = { LayerNormalization = 'constant' }"


@pytest.mark.parametrize("method", ["", HELD], ids=["lrp", "gradient"])
def test_every_operator_that_a_rule_decides_can_be_chosen(method, tmp_path):
    rule = "gradient" if method else "flat"
    path = write(
        tmp_path, f"[preset.p]\n{method}\nlayers = [{{ rule = '{rule}', op = 'LayerNormalization' }}, {{ rule = '{rule}' }}]"
    )
    assert compiler.prepare(NORMED, Request(preset=str(path))).plan.notes == []


@pytest.mark.parametrize(("method", "op"), [("", "LRN"), ("method = 'gradient'", "LayerNormalization"), (HELD, "Relu")])
def test_no_operator_can_be_chosen_that_no_rule_decides(method, op, tmp_path):
    path = write(tmp_path, f"[preset.p]\n{method}\nlayers = [{{ rule = 'z', op = '{op}' }}, {{ rule = 'z' }}]")
    with pytest.raises(RuleError, match=rf"\[preset.p\], entry 1: no layer has op '{op}'"):
        Library().preset(str(path))


DIVISION = [  # a preset, what --set asks for in it, what the message says
    (
        "gradient",
        "a_node=z",
        "the rule z divides, but the preset gradient (method gradient) walks a gradient and takes rules that do not",
    ),
    ("sensitivity", "*=epsilon", "the rule epsilon divides"),
    (
        "dtd",
        "a_node=gradient",
        "the rule gradient does not divide, but the preset dtd (method lrp) walks relevance and takes rules that do",
    ),
]


@pytest.mark.parametrize(("preset", "setting", "message"), DIVISION)
def test_a_setting_of_the_other_kind(preset, setting, message):
    with pytest.raises(RuleError, match=re.escape(f"--set {setting}: {message}")):
        onnxdtd.compile(NET, preset, settings=[setting])


def test_the_way_out_of_rules_that_do_not_divide():
    """Presets that walk a gradient take them, as the message says."""
    compiled = onnxdtd.compile(NET, "gradient", settings=["a_node=gradient"])
    x = np.asarray([[1, 2, 3]], np.float32)
    np.testing.assert_array_equal(Session(compiled)(x=x)["relevance"], np.full((1, 3), 4.0))


def test_a_layer_that_no_selector_matches(tmp_path):
    path = write(tmp_path, "[preset.p]\nlayers = [{ rule = 'z', name = 'a*' }]")
    with pytest.raises(RuleError, match=r"preset p: no entry matches the layer 'y_node' \(Gemm\)"):
        onnxdtd.compile(NET, str(path))


@pytest.mark.parametrize(
    ("preset", "settings", "bounds", "message"),
    [
        ("dtd", ["y_node=zB"], {"low": 0, "high": 1}, "only the first layer has them"),
        ("dtd", ["a_node=zB"], {}, "give --low and --high"),
        ("dtd", [], {"low": 1, "high": 1}, "must be below high"),
        ("dtd", [], {"low": 0}, "both bounds"),
        ("dtd", [], {"low": 0, "high": "x"}, "neither a number"),
        ("dtd", [], {"low": 0, "high": float("nan")}, "finite"),
        ("dtd", [], {"low": [0, 0], "high": 1}, "2 values"),
        ("dtd", [], {"low": np.zeros((3, 3)), "high": 1}, "shape"),
    ],
)
def test_bounds_that_do_not_fit(preset, settings, bounds, message):
    with pytest.raises(RequestError, match=message):
        onnxdtd.compile(NET, preset, settings=settings, **bounds)


@pytest.mark.parametrize("setting", ["z", "=z", "a_node=", ""])
def test_a_setting_that_cannot_be_read(setting):
    with pytest.raises(RuleError, match="write NODE-GLOB=RULE"):
        onnxdtd.compile(NET, settings=[setting])


@pytest.mark.parametrize("preset", ["nosuch", "nosuch.toml", "nosuch.toml:a"])
def test_a_preset_that_is_not_there(preset):
    with pytest.raises(RuleError, match="nosuch"):
        onnxdtd.compile(NET, preset)
