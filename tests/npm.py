"""What runs compiled files outside of Python: packages of npm, installed once for all who ask, and a browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

WEB = Path(__file__).resolve().parent / "web"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HEADLESS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
PATIENCE = 180  # seconds
QUIETLY = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline", "--loglevel=error")
AT_ONCE = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")  # without a network


class Missing(Exception):
    """Something is not here, and why."""


def node_modules(run: str = "", web: Path = WEB) -> Path:
    """The folder with the packages of ``web``/package.json. Who asks first installs them, others wait and take them; after a
    failure nobody of the same ``run`` tries again. Raises Missing.
    """
    folder, failed = web / "node_modules", web / "node_modules.failed"
    stamp, wanted = folder / ".installed", (web / "package.json").read_text(encoding="utf-8")
    if not shutil.which("node") or not shutil.which("npm"):
        raise Missing("Node.js is not installed: no node and npm on the path")
    try:
        with FileLock(web / "node_modules.lock"):
            if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
                return folder
            if run and failed.exists() and failed.read_text(encoding="utf-8").startswith(f"{run}\n"):
                raise Missing(failed.read_text(encoding="utf-8").partition("\n")[2])
            why = _install(web)
            if why:
                failed.write_text(f"{run}\n{why}", encoding="utf-8")
                raise Missing(why)
            stamp.write_text(wanted, encoding="utf-8")
            failed.unlink(missing_ok=True)
            return folder
    except OSError as error:
        raise Missing(f"npm packages cannot be installed in {web}: {error}") from error


def _install(web: Path) -> str:
    """Why it failed, or nothing"""
    command = ["npm", "install", *QUIETLY, *AT_ONCE]
    try:
        done = subprocess.run(command, cwd=web, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"npm install took more than {PATIENCE} seconds"
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return f"npm install failed: {' '.join(said[:3])}" if done.returncode else ""


def chromium() -> Path:
    """The browser. Raises Missing."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise Missing(f"no browser on the path: {', '.join(BROWSERS)}")
    return Path(found)
