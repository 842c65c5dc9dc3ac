"""One page that shows what was measured: everything in one HTML file, without network and without scripts.

Commands give JSON. Here it becomes sections of sentences, charts and tables; the template lays them out.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
from matplotlib.colors import to_hex

from onnxdtd import __version__, atomic
from onnxdtd.data.scale import COLOURS
from onnxdtd.report.audit import audit_page
from onnxdtd.report.charts import LINES
from onnxdtd.report.evaluation import evaluation_page
from onnxdtd.report.filed import inspection_page, verification_page
from onnxdtd.report.page import Json, Page
from onnxdtd.study.dossier import INSPECTION, VERIFICATION

EVALUATION, AUDIT = "evaluation", "audit"
PAGES = {
    EVALUATION: evaluation_page,
    AUDIT: audit_page,
    INSPECTION: inspection_page,
    VERIFICATION: verification_page,
}


def report(result: Json) -> str:
    """The page for the JSON of ``evaluate``, ``audit``, ``inspect`` or ``verify``; the same JSON gives the same bytes."""
    return rendered(PAGES[result["kind"]](result), result.get("version", __version__))


def rendered(page: Page, version: str) -> str:
    """A page as HTML, by this version of the package."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("page.html.j2")
    scale = [to_hex(COLOURS(place)) for place in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return template.render(page=page, lines=LINES, scale=scale, version=version)


def write(path: Path, result: Json) -> None:
    """Write the page, all or nothing. Raises ``RequestError`` where the file cannot be written."""
    atomic.write(path, report(result).encode("utf-8", "replace"))
