"""What a measurement of an audit is: how it is measured, how it is said, what of it is shown at a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxdtd.study.measures import Measure

if TYPE_CHECKING:
    from onnxdtd.study.audit.auditor import Auditor

Row: TypeAlias = dict[str, float | None]
Entry: TypeAlias = Mapping[str, Any]  # of ``presets`` in an audit


@dataclass(frozen=True)
class Task:
    """What to measure, of which preset; ``layer`` is the place in the list of layers for what draws weights anew."""

    preset: str
    measure: str
    layer: int | None = None


@dataclass(frozen=True)
class Finding:
    """What a unit found, the numbers of single samples behind it, and why there is nothing where there is nothing."""

    found: Any
    samples: dict[str, list[float | None]] = field(default_factory=dict)
    left_out: str = ""


@dataclass(frozen=True)
class Glance(Measure):
    """A row of the table of all presets side by side: the number ``of`` an entry, or a mean with its error; None where there is
    none.
    """

    of: Callable[[Entry], Any] = field(kw_only=True)


def mean_of(name: str) -> Callable[[Entry], Any]:
    """The mean over the samples of the numbers called ``name``."""
    return lambda entry: (entry.get("means") or {}).get(name)


def unsaid(entry: Entry) -> Iterator[str]:
    """Nothing."""
    yield from ()


@dataclass(frozen=True)
class Measurement:
    """One of the things that an audit measures of every preset; what it finds goes by ``name``.

    ``say`` puts the numbers of an entry into sentences; those of heatmaps that show nothing go unsaid, unless they are said
    ``always``. ``glance`` are its rows of the table of presets. A measurement ``for_rules`` is one of rules that
    divide, and one ``of_the_network`` none of presets with relevance models, which are fitted to it: their entry is ``empty``
    there. A ``layered`` one is a list, an element for each layer. A ``thorough`` one is left out of quick audits, which say so
    in these words.
    """

    name: str
    measure: Callable[[Auditor, Task], Finding]
    say: Callable[[Entry], Iterator[str]] = unsaid
    glance: Mapping[str, Glance] = field(default_factory=dict)
    always: bool = False
    for_rules: bool = False
    of_the_network: bool = False
    layered: bool = False
    thorough: str = ""
    empty: Callable[[], Any] = lambda: None
