"""One page that shows what was measured: everything in one HTML file, without network and without scripts.

``evaluate`` and ``audit`` give JSON. Here it becomes sections of sentences, charts and tables; the template lays them out.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
from matplotlib.colors import to_hex

from onnxdtd import atomic
from onnxdtd.data.scale import COLOURS
from onnxdtd.report.audit import audit_page
from onnxdtd.report.charts import LINES
from onnxdtd.report.evaluation import evaluation_page
from onnxdtd.report.page import Json, Page

EVALUATION, AUDIT = "evaluation", "audit"


def report(result: Json) -> str:
    """The page for the JSON of an evaluation or an audit; the same JSON gives the same bytes."""
    return rendered(audit_page(result) if result["kind"] == AUDIT else evaluation_page(result), result["version"])


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
