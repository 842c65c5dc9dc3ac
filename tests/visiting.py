"""Pages in a folder, served on this machine and visited by a browser."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import npm

ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}  # threads share memory
PATIENCE = 180  # seconds


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word; ``more`` are headers."""

    more: ClassVar[Mapping[str, str]] = {}

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def end_headers(self) -> None:
        """With more of them."""
        for name, value in self.more.items():
            self.send_header(name, value)
        super().end_headers()


def visited(
    folder: Path,
    steps: Sequence[Any],
    modules: Path,
    chromium: Path,
    headers: Mapping[str, str] = {},
    width: int = 1200,
) -> dict[str, Any]:
    """What steps of web/visit.mjs give, with the ``url`` of the folder."""
    handler = type("Handler", (Quiet,), {"more": headers})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        given = {"modules": str(modules), "chromium": str(chromium), "flags": npm.HEADLESS[1:], "url": url, "steps": steps}
        command = ["node", str(npm.WEB / "visit.mjs")]
        asked = json.dumps({**given, "width": width})
        try:
            done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=PATIENCE)
        finally:
            server.shutdown()
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "url": url}
