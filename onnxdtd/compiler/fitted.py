"""The file of relevance models that ``onnxdtd fit`` writes: what is in it, and whether it is of this model and this request."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxdtd import atomic, bounded
from onnxdtd.compiler.minmax import RelevanceModel, Spot, spots, with_models
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.steps import Step
from onnxdtd.errors import RequestError
from onnxdtd.request import Request

if TYPE_CHECKING:
    from onnxdtd.compiler.prepared import Planned

MOST_BYTES = 2**31  # an ONNX file holds no more
KINDS = {"model": str, "rules": dict, "score": dict, "layers": dict, "target": str}  # of what a file must say
SAID = "said"  # the array with all that is no weight, as JSON


@dataclass(frozen=True)
class Fitted:
    """Relevance models by the name of their step, what the file ``said`` of them, its ``sha256`` and where it lies."""

    models: Mapping[str, RelevanceModel]
    said: Mapping[str, Any]
    sha256: str = ""
    path: str = ""

    def summary(self) -> dict[str, Any]:
        """What a compiled file tells of them."""
        told = {key: self.said[key] for key in ("preset", "target", "samples", "seed", "layers")}
        return {"sha256": self.sha256, **told}


def write(path: Path, fitted: Fitted) -> None:
    """Write the file. Raises ``RequestError`` where that cannot be."""
    arrays = {SAID: np.array(json.dumps(fitted.said, ensure_ascii=False))}
    for i, model in enumerate(fitted.models.values()):
        arrays |= {f"{i}/v": model.v, f"{i}/d": model.d}
        arrays |= {f"{i}/above/{j}": u for j, u in enumerate(model.above)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    atomic.write(path, file.getvalue())


def read(path: Path) -> Fitted:
    """What is in a file. Raises ``RequestError`` where it is none that ``write`` wrote."""
    try:
        data = bounded.data(path, MOST_BYTES)
    except OSError as error:
        raise RequestError(f"--fitted {path}: cannot be read ({error.strerror})") from None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            for entry in file.zip.infolist():
                bounded.check_packing(entry.filename, entry.file_size, entry.compress_size)
            arrays = {name: file[name] for name in file.files}
        said = json.loads(str(arrays[SAID]))
        models = {}
        for i, (name, layer) in enumerate(said["layers"].items()):
            above = tuple(arrays[f"{i}/above/{j}"] for j in range(int(layer["above"])))
            models[name] = RelevanceModel(int(layer["units"]), arrays[f"{i}/v"], arrays[f"{i}/d"], above)
        fitted = Fitted(models, said, hashlib.sha256(data).hexdigest(), str(path))
        fitted.summary()
        if not all(isinstance(said[key], kind) for key, kind in KINDS.items()):
            raise ValueError
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile, RecursionError):
        raise RequestError(f"--fitted {path}: is no file that `onnxdtd fit` has written") from None
    return fitted


def chosen(plan: Plan, request: Request, digest: Callable[[], str]) -> Fitted | None:
    """The relevance models that the preset asks for, where a file of them was given; None where none is asked for, or none was
    given. ``digest`` gives that of what the model computes. Raises ``RequestError`` where the file is of something else.
    """
    if request.fitted is None:
        return None
    wanted = spots(plan)
    if not wanted:
        plan.notes.append(f"the preset {plan.preset} asks for no relevance models: --fitted {request.fitted} is not used")
        return None
    fitted, rules = read(Path(request.fitted)), rules_of(plan)
    said, score = fitted.said, score_of(plan, request)
    if said["model"] != digest():
        raise _refused(fitted, plan, "its relevance models were fitted to another model")
    for name in sorted(rules.keys() | said["rules"].keys()):
        mine, theirs = (known.get(name) or "none" for known in (rules, said["rules"]))
        if mine != theirs:
            raise _refused(fitted, plan, f"was fitted where the rule of {name!r} was {theirs}, and not {mine}")
    for name, value in score.items():
        if said["score"].get(name) != value:
            raise _refused(fitted, plan, f"was fitted where the {name} was {said['score'].get(name)!r}, and not {value!r}")
    for spot in wanted:
        _check(spot, fitted, plan)
    if target_of(request) != said["target"]:
        plan.notes.append(f"the relevance models were fitted with --target {said['target']}: for others they may be off")
    return fitted


def _refused(fitted: Fitted, plan: Plan, why: str) -> RequestError:
    return RequestError(f"--fitted {fitted.path}: {why}; fit anew with `{command(plan.preset)}` and the options given here")


def _check(spot: Spot, fitted: Fitted, plan: Plan) -> None:
    """Is there a relevance model of a layer, of the right shapes?"""
    name, model = spot.step.name, fitted.models.get(spot.step.name)
    if model is None:
        raise _refused(fitted, plan, f"has no relevance model of {name!r}")
    v, above = spot.shapes(model.units)
    arrays = [model.v, model.d, *model.above]
    sound = all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays)
    if [a.shape for a in arrays] != [v, (model.units * spot.size,), *above] or not sound:
        raise _refused(fitted, plan, f"its relevance model of {name!r} does not fit this layer")


def command(preset: str) -> str:
    """How relevance models are fitted."""
    return f"onnxdtd fit MODEL --preset {preset} --data DATA -o FILE.npz"


def rules_of(plan: Plan) -> dict[str, str]:
    """What the relevance that models are fitted to depends on: the rules above the first layers."""
    above = [step for step in plan.steps if step.chosen is not None and not (step.facts is not None and step.facts.first)]
    return {step.name: f"{step.chosen}, {step.fit}" if step.fit else str(step.chosen) for step in above}


def score_of(plan: Plan, request: Request) -> dict[str, Any]:
    """What is explained, apart from the class, and in terms of what."""
    return {
        "output": plan.output,
        "position": None if request.position is None else list(request.position),
        "contrast": request.contrast,
        "reference": request.reference,
        "explained tensors": [t.name for t in plan.inputs],
    }


def target_of(request: Request) -> str:
    """The class that is explained, as one writes it."""
    return "argmax" if request.target is None else str(request.target)


def ruled(planned: Planned) -> Sequence[Step]:
    """The steps of a plan, relevance models where the preset asks for them. Raises ``RequestError`` where none were given."""
    plan = planned.plan
    asking = [step.name for step in plan.steps if step.fit]
    if not asking:
        return plan.steps
    if planned.request.mask:
        raise RequestError(
            f"--mask {planned.request.mask[0]!r}: relevance models, as {plan.preset} has them, give relevance of their own, "
            "whatever a mask lets pass; choose another --preset"
        )
    if planned.fitted is None:
        more = f" and {len(asking) - 1} more" if len(asking) > 1 else ""
        raise RequestError(
            f"the preset {plan.preset} asks for a relevance model of {asking[0]!r}{more}: run `{command(plan.preset)}`, then "
            "give the file as --fitted FILE.npz"
        )
    return with_models(planned.emit, plan, planned.fitted.models, planned.request.keep)
