"""The page at the end of ./scripts/demo: what was explained, by which command, and the pictures.

python scripts/demo_page.py demo
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment

FEW = 6  # pictures of each, spread over all
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What onnxdtd explains</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
pre { background: #f3f3f3; padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1rem }
.pictures img { width: 100%; height: auto; border: 1px solid #ddd }
section { margin-bottom: 3rem; break-inside: avoid-page }
</style>
<h1>What onnxdtd explains</h1>
<p>Red speaks for the class that is explained, blue against it, white is zero. A picture opens in full size.</p>
{% for part in parts %}
<section>
<h2>{{ part.title }}</h2>
<p>{{ part.text }}</p>
<pre>{{ part.command }}</pre>
<div class="pictures">
{% for picture, name in part.pictures %}
<a href="{{ picture }}"><img src="{{ picture }}" alt="explanation of {{ name }}" loading="lazy"></a>
{% endfor %}
</div>
<p>{{ part.count }} in all:
{% for link in part.links %}<a href="{{ link }}">{{ link }}</a>{{ ", " if not loop.last }}{% endfor %}</p>
</section>
{% endfor %}
</html>
"""


@dataclass(frozen=True)
class Part:
    """What is told of one run of ``explain`` into a ``folder``; ``more`` are files that it may have written besides."""

    folder: str
    title: str
    text: str
    more: tuple[str, ...] = field(default=())

    def told(self, root: Path) -> dict[str, Any]:
        """What the page shows."""
        results = json.loads((root / self.folder / "results.json").read_text(encoding="utf-8"))
        samples = results["samples"]
        shown = samples if len(samples) < FEW else [samples[i * len(samples) // FEW] for i in range(FEW)]
        more = [name for name in (*self.more, "results.json") if (root / self.folder / name).exists()]
        first = [(f"{self.folder}/{name}", name) for name in more if name.endswith(".png")]
        return {
            "title": self.title,
            "text": self.text,
            "command": results["provenance"]["run"]["command"],
            "pictures": first + [(f"{self.folder}/{sample['picture']}", sample["name"]) for sample in shown],
            "count": len(samples),
            "links": [f"{self.folder}/{name}" for name in more],
        }


PARTS = (
    Part(
        "digits",
        "Pictures",
        "Which pixels make this a seven? A convolutional network on scanned digits, deep Taylor decomposition.",
    ),
    Part(
        "tumours",
        "A table",
        "Which measurements say that a tumour is malignant? A network of scikit-learn, with its scaler inside, so that values "
        "are those that were measured. The first picture is of all rows.",
        ("summary.png", "features.csv"),
    ),
    Part("motions", "Signals", "When, and on which channel, does a watch feel that its wearer plays badminton?"),
    Part(
        "definitions",
        "Text",
        "Which words of a dictionary's definition say that it defines an animal? A small transformer.",
        ("texts.html", "words.csv"),
    ),
)


def main() -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="that ./scripts/demo wrote to")
    folder = parser.parse_args().folder
    page = Environment(autoescape=True).from_string(PAGE).render(parts=[part.told(folder) for part in PARTS])
    (folder / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
