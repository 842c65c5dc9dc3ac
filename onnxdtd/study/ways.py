"""The ways to explain a sample that are asked for: several presets, several classes, or those with the highest scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxdtd.cells import PLACES, SAMPLES
from onnxdtd.contract import SCORE, Metadata
from onnxdtd.data.tables import TARGET
from onnxdtd.errors import RequestError
from onnxdtd.labels import Index
from onnxdtd.request import AT_RUN_TIME, NO_CLASSES, Request
from onnxdtd.runtime.explainer import Explainer, fixed_target
from onnxdtd.study.gallery import View
from onnxdtd.study.presenter import Presenter

Say = Callable[[str], object]


@dataclass(frozen=True)
class Ways:
    """What is explained in several ways, with the rest of the ``request``, which has what there is one of. ``presets`` and
    ``targets`` are those of ``Request``; ``top``: so many classes, from the highest score on; ``told``: the class of which a
    sample says that it shall be explained.
    """

    request: Request
    presets: tuple[str | None, ...]
    targets: tuple[Any, ...] = ()
    top: int | None = None
    told: bool = False

    @classmethod
    def of(
        cls,
        request: Request,
        presets: Sequence[Any] = (),
        targets: Sequence[Any] = (),
        top: int | None = None,
        told: bool = False,
    ) -> Ways:
        """What a caller asks for. Raises ``RequestError`` where that is two things."""
        if presets and request.preset is not None:
            raise RequestError(f"preset {request.preset!r} and others in presets: give all of them in presets")
        if targets and request.target is not None:
            raise RequestError(f"target {request.target!r} and others in targets: give all of them in targets")
        several = dict.fromkeys(replace(request, preset=preset).preset for preset in presets or [request.preset])
        classes = tuple(dict.fromkeys(replace(request, target=target).target for target in targets))
        if len(classes) == 1:
            request, classes = replace(request, target=classes[0]), ()
        for target in classes:
            if not isinstance(target, str | int) or target in (*AT_RUN_TIME, SCORE):
                raise RequestError(f"--target {target}: of several, each is 'argmax', or a label or an index of a class")
        if top is not None and (top < 1 or classes or request.target is not None):
            raise RequestError(f"--top {top}: " + ("give at least 1" if top < 1 else "give either that or --target"))
        if told and (classes or request.target is not None or top is not None):
            raise RequestError(f"{TARGET} says which class is explained of each sample; leave out --target and --top")
        return cls(replace(request, preset=next(iter(several))), tuple(several), classes, top, told)

    def views(
        self, compiled: Metadata | None, made: Callable[[Request], tuple[Presenter, Index | None]], say: Say
    ) -> Iterator[View]:
        """Each of the ways; ``compiled`` is what a compiled file says, ``made`` compiles or takes that. Raises ``RequestError``
        where such a file can be explained in one way only.
        """
        if compiled is not None and len(self.presets) > 1:
            raise RequestError(
                f"several presets: this file is compiled under {compiled['preset']!r} alone; give the source model instead"
            )
        for preset in self.presets:
            request = replace(self.request, preset=preset)
            if not self.targets and self.top is None and not self.told:
                yield View(*made(request))
                continue
            presenter, _ = made(request if compiled is not None else replace(request, target="input"))
            explainer = presenter.explainer
            if self.told and (explainer.metadata["target_input"] is None or explainer.weights is not None):
                raise RequestError(f"{TARGET}: {fixed_target(explainer.metadata['target'], explainer.labels)}")
            if self.told:
                yield View(presenter)
            for target in self.targets:
                yield View(presenter, target_of(explainer, replace(request, target=target), say))
            known = explainer.labels.count
            if self.top is not None and known is not None and self.top > known:
                raise RequestError(f"--top {self.top}: the model has {known} classes")
            if self.top is not None and self.top > 1 and explainer.metadata["target_input"] is None:
                raise RequestError(fixed_target(explainer.metadata["target"], explainer.labels))
            for rank in range(self.top or 0):
                yield View(presenter, None, rank)


def target_of(explainer: Explainer, request: Request, say: Say) -> Index | None:
    """The class to ask a compiled model for at run time; None for the arg-max."""
    labels = explainer.labels.named(request.labels)
    for note in labels.replaced():
        say(note)
    fixed = explainer.metadata["target"]
    if request.target is None or request.target in NO_CLASSES:
        open_ = fixed == SCORE if request.target == SCORE else request.target != "argmax" or fixed in ("argmax", *AT_RUN_TIME)
        if not open_:
            raise RequestError(fixed_target(fixed, explainer.labels))
        return None
    if not isinstance(request.target, int | str):
        if request.target != _entry(explainer.metadata):
            raise RequestError(fixed_target(fixed, explainer.labels))
        return None
    if understood := labels.understood(request.target):
        say(understood)
    index = labels.index(request.target)
    if explainer.metadata["target_input"] is None and index != fixed:
        raise RequestError(fixed_target(fixed, explainer.labels))
    return index


def _entry(metadata: Metadata) -> tuple[Any, ...]:
    """The index of the entry that a file explains, along all axes of the scores but that of the samples."""
    fixed, position = metadata["target"], iter(metadata.get("position", ()))
    if isinstance(fixed, list):
        return tuple(fixed)
    own = [name for name in metadata.get("axes", ()) if name != SAMPLES]
    return tuple(next(position, 0) if name in PLACES else 0 if metadata["squashed"] else fixed for name in own)
