"""Is a compiled model what it says it is? Everything is computed anew: the compile itself, the prediction, the balance.

Without the source, the predictor inside the compiled model stands in for it. Then nothing vouches for the weights but the
digests that the compiler wrote down, and whoever changes both is not found out.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data

import onnxdtd
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.inspect import equations
from onnxdtd.compiler.ondemand import MAYBE_NONE
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.compiler.record import predictor, told_request
from onnxdtd.contract import KEPT_BY, PARTS, PREFIX, WEIGHTS, entries, read_metadata
from onnxdtd.errors import ModelError, OnnxdtdError, counted
from onnxdtd.graph import digests, files
from onnxdtd.graph.slices import leading
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer, tried
from onnxdtd.study.accounts import checked, joined, table
from onnxdtd.study.checks import Check, Report
from onnxdtd.study.dossier import VERIFICATION, verification
from onnxdtd.study.draws import Draws
from onnxdtd.study.feeding import Feeding
from onnxdtd.study.trial import Run, Trial, by_definition, tolerance

GENERATED = 4  # random inputs
MANY = 20_000  # nodes, for which ONNX Runtime optimises ever longer: 30,000 take half a minute, 50,000 minutes

Feeds = dict[str, np.ndarray]
PathLike = str | os.PathLike[str]


def verify(
    compiled: PathLike,
    source: PathLike | None = None,
    inputs: PathLike | None = None,
    preset: PathLike | None = None,
    fitted: PathLike | None = None,
) -> Report:
    """Check a compiled model.

    Args:
        compiled: the model to check.
        source: the model that it was compiled from; by default the predictor inside it.
        inputs: an ``.npz`` or ``.npy`` file or picture to run it on; by default random inputs from a fixed seed.
        preset: where the TOML file of the preset lies now, if it was none of onnxdtd's own.
        fitted: where the file of relevance models lies now, if it was compiled with one.

    Raises:
        OnnxdtdError: a file cannot be read or does not fit, or the model was not compiled by onnxdtd. All else is a
            failed check.
    """
    compiled = Path(compiled)
    source, inputs, preset, fitted = (None if given is None else Path(given) for given in (source, inputs, preset, fitted))
    opened = files.read(compiled)
    have = opened.proto
    if "relevance" not in entries(have):
        raise ModelError(f"{compiled}: was not compiled by onnxdtd; run `onnxdtd compile` on it first")
    if KEPT_BY in entries(have):
        raise ModelError(f"{compiled}: is what ONNX Runtime has made of a compiled file, by onnxdtd.keep; verify that one")
    original = None if source is None else files.read(source)
    facts: dict[str, Any] = {}
    about = partial(_about, opened, source, inputs, facts)
    try:
        facts |= read_metadata(have)
        absent = [name for name in ("version", "predictor", "classes", "bounds") if name not in facts]
        if absent:
            raise ModelError(f"there is no entry {PREFIX + absent[0]!r}")
        if original is not None and original.sha256 != facts["source_sha256"]:
            return Report([_another_model(facts["source_sha256"], original)], [], about())
        found = predictor(stripped(have, facts["predictor"]))
        origin = stripped(have, facts["predictor"]) if original is None else original.proto
        request = _request(have, facts, preset, fitted)
        job = prepare(origin, request)
        job = _called(job, facts)
        fresh = _placed(build(job), have)
    except (OnnxdtdError, LookupError, AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        return Report([_not_compiled(facts.get("version"), error)], [], about())
    checks = [*_identity(facts, original, found), *_compared(facts["version"], have, fresh, original)]
    if WEIGHTS in facts:
        checks += _recorded(facts[WEIGHTS], opened, original)
    elif original is not None and source is not None:  # an older file
        checks += _files(have, original.proto, compiled.parent, source.parent)
    defined, unbooked = _defined(origin, request, job)
    model, folder = (origin, compiled.parent) if source is None else (str(source), source.parent)
    try:
        trial = partial(Trial, str(compiled), model, defined, job, folder)
        runs, remarks = _runs(trial, tolerance(job), inputs, len(defined.graph.node))
    except ModelError as error:
        return Report([*checks, Check("runs", False, str(error))], [], about(job))
    firm = all(check.name != "version" or check.passed is not False for check in checks)
    checks += [
        *_ran(runs, _misdeclared(have, job, facts["relevance"]), tolerance(job), firm, job.plan.method.adds_up),
        *remarks,
    ]
    if unbooked or not all(run.ledger for run in runs):
        return Report([*checks, *([Check("balance", None, unbooked)] if unbooked else ())], [], about(job, len(runs)))
    ledger = joined([run.ledger for run in runs if run.ledger is not None])
    opposite = sum(run.opposite for run in runs) / (sum(run.whole for run in runs) or 1.0)
    return Report([*checks, *checked(job, ledger, opposite)], table(job, ledger), about(job, len(runs)))


def _about(
    compiled: files.Source,
    source: Path | None,
    inputs: Path | None,
    facts: Mapping[str, Any],
    job: Prepared | None = None,
    samples: int = 0,
) -> dict[str, Any]:
    """What is known of the file besides the checks: of one that cannot be compiled anew only what it says itself."""
    told = {"kind": VERIFICATION, **verification(compiled, source, inputs, samples, facts)}
    return told | ({} if job is None else {"rules": equations(job), "notes": job.plan.notes})


def _called(job: Prepared, facts: Mapping[str, Any]) -> Prepared:
    """As if the files of the preset and of relevance models had the names that are recorded, and weights these digests."""
    names = {name: facts[name] for name in ("preset", "fitted", WEIGHTS) if name in facts}
    told: Any = {**job.addition.metadata, **names}
    named = {name: value for name, value in names.items() if name != WEIGHTS}
    return replace(job, request=replace(job.request, **named), addition=replace(job.addition, metadata=told))


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, OnnxdtdError) else f"{type(error).__name__}: {error}"


# ------------------------------------------------------------------------------------------------------ what it is made of


def stripped(compiled: onnx.ModelProto, sizes: Mapping[str, Any]) -> onnx.ModelProto:
    """The predictor without what the compiler added to it."""
    proto = leading(compiled, {name: int(sizes[name]) for name in PARTS if name in sizes})  # to others nothing was added
    kept = [entry for entry in proto.metadata_props if not entry.key.startswith(PREFIX)]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    return proto


def _placed(fresh: onnx.ModelProto, have: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its external weights where the other has them: a copy or a reference, as the user chose."""
    theirs = {t.name: t.external_data for t in have.graph.initializer}
    places = {files.location(t): t.name for t in fresh.graph.initializer if uses_external_data(t)}
    found = {place: [e.value for e in theirs.get(name, ()) if e.key == "location"] for place, name in places.items()}
    return files.relocated(fresh, {place: values[0] if values else place for place, values in found.items()})


def _request(have: onnx.ModelProto, facts: Mapping[str, Any], preset: Path | None, fitted: Path | None) -> Request:
    """What was asked for when the model was compiled."""
    data = told_request(facts, {value.name for value in have.graph.input})
    if data["target"] == "input" and facts["target_input"] in {tensor.name for tensor in have.graph.initializer}:
        data["target"] = "optional"
    data["baseline"] = _given(have, data.get("baseline"))
    return Request.from_data(data | {"preset": preset or facts["preset"], "fitted": fitted or facts.get("fitted")})


def _given(have: onnx.ModelProto, said: Any) -> Any:
    """What was compared with, as it was given: of arrays the metadata have the digest, and the constant that they are."""
    if not isinstance(said, Mapping):
        return said
    constants = {tensor.name: tensor for tensor in have.graph.initializer}
    array = lambda entry: onnx.numpy_helper.to_array(constants[entry["constant"]]).tolist() if "constant" in entry else entry
    if "constant" in said:
        return array(said)
    return {name: array(entry) if isinstance(entry, Mapping) else entry for name, entry in said.items()}


def _another_model(recorded: object, given: files.Source) -> Check:
    return Check(
        "source",
        False,
        f"this file was compiled from another model: SHA-256 {str(recorded)[:16]}, that of {given.path} is"
        f" {given.sha256[:16]}; give the one that it was compiled from, or none to check the file by itself",
    )


def _not_compiled(version: object, error: Exception) -> Check:
    if version in (None, onnxdtd.__version__):
        return Check("metadata", False, f"what it says cannot be compiled: {_text(error)}")
    return Check("version", False, f"{_versions(version)} cannot compile what it says: {_text(error)}; {_way_out(version)}")


def _versions(version: object) -> str:
    return f"compiled by onnxdtd {version}, this is {onnxdtd.__version__}, which"


def _way_out(version: object) -> str:
    return f"verify with onnxdtd {version}, or compile the source again"


def _identity(facts: Mapping[str, Any], original: files.Source | None, found: Mapping[str, Any]) -> Iterator[Check]:
    """The digests."""
    if original is None:
        external = "" if WEIGHTS in facts else ", and nothing for external ones"
        yield Check("source", None, f"not given: only the digests in the file vouch for the weights{external}")
    else:
        yield Check("source", True, f"SHA-256 {original.sha256[:16]}, as recorded")
    same = found == facts["predictor"]
    yield Check("digest", same, f"nodes and weights of the predictor are {'' if same else 'not '}those recorded")


def _compared(version: object, have: onnx.ModelProto, fresh: onnx.ModelProto, original: files.Source | None) -> Iterator[Check]:
    """The model against a fresh compile, part by part.

    Another version may have other rules, so that a difference proves nothing: it is a remark, and the version fails.
    """
    taken = ("source_sha256", "changes") if original is None else ("source_sha256",)  # the digest of the file is as recorded
    mine = {entry.key: entry.value for entry in have.metadata_props}
    for entry in fresh.metadata_props:
        if entry.key.removeprefix(PREFIX) in taken:
            entry.value = mine.get(entry.key, "")
    sizes = read_metadata(fresh)["predictor"]
    ours = version == onnxdtd.__version__
    added = _parts("relevance pass", have, fresh, {name: slice(sizes[name], None) for name in PARTS})
    told = _entries(have, fresh, ours)
    same = ours or bool(added.passed and told.passed)
    words = f"{_versions(version)} compiles {'the same' if same else 'another'} relevance pass"
    if not same:
        words += f", so that only what it gives can be compared, not its nodes; {_way_out(version)}"
    yield Check("version", ours or (None if same else False), f"compiled by onnxdtd {version}" if ours else words)
    if original is not None:
        yield _parts("predictor", have, fresh, {name: slice(0, sizes[name]) for name in PARTS})
    for check in (added, told):
        yield check if same or check.passed else replace(check, passed=None, finding=f"of another version: {check.finding}")
    if ours:
        same = have.SerializeToString(deterministic=True) == fresh.SerializeToString(deterministic=True)
        yield Check("compiled anew", same, "gives the same bytes" if same else "gives another file")


def _parts(title: str, have: onnx.ModelProto, fresh: onnx.ModelProto, cuts: Mapping[str, slice]) -> Check:
    """Are these parts of both graphs the same?"""
    wrong, counts = [], []
    for name, cut in cuts.items():
        mine, theirs = (getattr(proto.graph, name)[cut] for proto in (have, fresh))
        wrong += [f"{name} {_named(a, b)}" for a, b in zip_longest(mine, theirs) if a != b]
        if theirs:
            counts.append(counted(len(theirs), name).replace("value_info", "declared shape"))
    return Check(title, not wrong, _listed(wrong) if wrong else ", ".join(counts))


def _entries(have: onnx.ModelProto, fresh: onnx.ModelProto, ours: bool) -> Check:
    """The metadata; of another version only what both write."""
    mine, theirs = entries(have), entries(fresh)
    keys = mine.keys() | theirs.keys() if ours else (mine.keys() & theirs.keys()) - {"version"}
    wrong = sorted(key for key in keys if mine.get(key) != theirs.get(key))
    return Check("metadata", not wrong, _listed(wrong) if wrong else f"{len(keys)} entries")


def _recorded(recorded: Mapping[str, str], compiled: files.Source, original: files.Source | None) -> Iterator[Check]:
    """External weights, by their digests when the file was written: what source and compiled file share may have changed."""
    wrong, count = [], 0
    for model in (compiled, original):
        if model is None or model.path is None:
            continue
        try:
            found = digests.of_weights(model.path, model.proto)
        except ModelError as error:
            yield Check("external weights", False, str(error))
            return
        count = count or len(found)
        wrong += [str(model.path.parent / name) for name, digest in found.items() if digest not in recorded.values()]
    was = ", ".join(f"{digest[:16]} of {name}" for name, digest in recorded.items())
    told = f"not those of when it was compiled: {', '.join(dict.fromkeys(wrong))}; recorded is SHA-256 {was}"
    yield Check("external weights", not wrong, told if wrong else f"{counted(count, 'file')}, SHA-256 {was}, as recorded")


def _files(have: onnx.ModelProto, original: onnx.ModelProto, folder: Path, home: Path) -> Iterator[Check]:
    """External weights, byte by byte: random inputs do not show every change."""
    theirs = {t.name: files.location(t) for t in have.graph.initializer if uses_external_data(t)}
    ours = {t.name: files.location(t) for t in original.graph.initializer if uses_external_data(t)}
    pairs = sorted({(home / place, folder / theirs[name]) for name, place in ours.items() if name in theirs})
    try:
        wrong = [str(copy) for place, copy in pairs if not filecmp.cmp(place, copy, shallow=False)]
    except OSError as error:
        yield Check("external weights", False, _text(error))
        return
    if pairs:
        count = counted(len(pairs), "file")
        yield Check("external weights", not wrong, _listed(wrong) if wrong else f"{count}, those of the source byte for byte")


def _name(part: Any) -> str:
    return part.name or next(iter(part.output), part.op_type)  # only nodes may lack a name


def _named(mine: Any, theirs: Any) -> str:
    """What differs, by its own name and by the one that it should have."""
    names = [_name(part) for part in (mine, theirs) if part is not None]
    return repr(names[0]) + (f" in place of {names[1]!r}" if names[1:] and names[1] != names[0] else "")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"differs in {', '.join(names[:3])}{more}"


# --------------------------------------------------------------------------------------------------------------- what it does


def _defined(origin: onnx.ModelProto, request: Request, job: Prepared) -> tuple[onnx.ModelProto, str]:
    """The model without shortcuts, with a ledger, or why it has none."""
    reason = f"none: the preset {job.request.preset!r} is a derivative"
    if job.plan.method.conserves:
        try:
            return by_definition(prepare(origin, replace(request, ledger=True, portable=False))), ""
        except ModelError as error:  # the ledger cannot tell the samples apart
            reason = str(error)
    return by_definition(prepare(origin, replace(request, ledger=False, portable=False))), reason


def _runs(trial: Callable[..., Trial], most: float, inputs: Path | None, nodes: int) -> tuple[list[Run], list[Check]]:
    """What the inputs show. Where that is more than rounding, but without ONNX Runtime's optimisations predictions are the same
    to the last bit and all else to rounding, what they show without, and a remark: it fuses nodes, but not where the relevance
    pass reads a tensor between them. It takes minutes for that where there are many.
    """
    if nodes > MANY:
        words = f"compared without those of ONNX Runtime, which take minutes for {nodes:,} nodes"
        return _tried(trial(optimise=False), inputs), [Check("optimisations", None, words)]
    runs = _tried(trial(), inputs)
    if np.max([run.off for run in runs]) <= most:
        return runs, []
    plain = _tried(trial(optimise=False), inputs)
    if _most(plain, "prediction") != 0 or not np.max([run.off for run in plain]) <= most:
        return runs, []
    far = {what: _most(runs, what) for what in ("prediction", "heatmap")}
    words = " and ".join(f"the {what} differs by {by:.1e}" for what, by in far.items() if not by <= most)
    reason = "where it fuses nodes of one model and not of the other"
    return plain, [Check("optimisations", None, f"compared without those of ONNX Runtime; with them {words}, {reason}")]


def _tried(trial: Trial, inputs: Path | None) -> list[Run]:
    """What every input shows; with the first is noted what it shows when classes are asked for, and in a batch of two."""
    runs: list[Run] = []
    first: Mapping[str, np.ndarray] = {}
    for feeds in _inputs(trial.file, trial.plain, inputs):
        fitting = trial.file.feeds(feeds)
        runs.append(trial(fitting))
        if runs[0].misshapen:
            continue
        if len(runs) == 1:
            first = fitting
            runs[0] = replace(runs[0], asked=trial.asked(first))
        elif len(runs) == 2:
            runs[0] = replace(runs[0], mixing=trial.mixing(first, fitting))
    return runs


def _most(runs: Sequence[Run], what: str) -> float:
    every = [run for each in runs for run in (each, *each.asked)]
    return float(np.max([getattr(run, what) for run in every]))  # NaN if one is


def _inputs(explainer: Explainer, plain: Any, file: Path | None) -> Iterator[Feeds]:
    """The inputs in a file, or random ones."""
    if file is None:
        rng, draws = np.random.default_rng(0), Draws(explainer, lambda feeds: tried(plain, feeds))
        for _ in range(GENERATED):
            yield draws(rng)
    else:
        feeding = Feeding(explainer)
        for _, values in feeding.rows(file):
            yield feeding.feeds(values)


def _misdeclared(have: onnx.ModelProto, job: Prepared, relevance: Mapping[str, str]) -> list[str]:
    """What is wrong with the shape or type that relevance is declared with: both are those of what it explains."""
    declared, tensors, wrong = {value.name: value.type.tensor_type for value in have.graph.output}, job.graph.tensors(), []
    for name, output in relevance.items():
        if name not in tensors or tensors[name].dtype is None or output not in declared:  # nothing is said of one of them
            continue
        dtype, shape = np.dtype(tensors[name].dtype), None if (known := tensors[name].shape) is None else list(known)
        if shape and job.request.on_demand is not None:
            shape[0] = MAYBE_NONE
        found = declared[output].shape.dim if declared[output].HasField("shape") else None
        sizes = None if found is None else [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in found]
        kind = onnx.helper.tensor_dtype_to_np_dtype(declared[output].elem_type)
        if sizes != shape or (kind != dtype if dtype.kind == "f" else kind.kind != "f"):
            wrong.append(f"that of {name!r} is declared {sizes} {kind}, and {name!r} is {shape} {dtype}")
    return wrong


def _ran(runs: Sequence[Run], misdeclared: Sequence[str], most: float, firm: bool, adds_up: bool) -> Iterator[Check]:
    """What was seen while the model ran; not ``firm`` where another version may rightly give other relevance. ``adds_up``: is
    all of a difference shared out?
    """
    what = f"that of the predictor alone on {counted(len(runs), 'input')}"
    yield _agreement("prediction", what, _most(runs, "prediction"), "the largest output", most, firm=True)
    misshapen = sorted({text for run in runs for text in run.misshapen})
    wrong = "; ".join([*misshapen, *misdeclared])
    yield Check("shapes", not wrong, wrong or "relevance has shape and type of what it explains")
    if misshapen:
        return
    if runs[0].score is not None:
        yield _agreement("score", "what the logits say", _most(runs, "score"), "the largest logit", most, firm=True)
    finite = all(run.finite for run in runs)
    yield Check("finite", finite, "relevance has " + ("no NaN and no infinite value" if finite else "NaN or infinite values"))
    if runs[0].mixing is not None:
        yield _agreement("samples", "the same whatever else is in the batch", runs[0].mixing, "the largest", most, firm=True)
    if not any(run.whole or run.heatmap for run in runs):
        yield Check("relevance", None, "zero everywhere, so that there was nothing to compare; give other --inputs")
        return
    yield _agreement("relevance", "what the rules give without shortcuts", _most(runs, "heatmap"), "the largest", most, firm)
    if runs[0].complete is not None:
        far, what = _most(runs, "complete"), "all that the score is more than at the baseline"
        yield _agreement("complete", what, far, "all relevance", most, firm and adds_up)
    if runs[0].total is not None:
        yield _agreement("sum", "what the ledger says that arrives", _most(runs, "total"), "all relevance", most, firm)


def _agreement(name: str, what: str, far: float, of: str, most: float, firm: bool) -> Check:
    if far <= most:
        return Check(name, True, f"{what}, " + (f"within {far:.1e} of {of}" if far else "exactly"))
    return Check(name, False if firm else None, f"not {what}, but {far:.1e} of {of} apart")
