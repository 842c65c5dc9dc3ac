"""Writing a file all or nothing: a temporary one beside it takes its name."""

from __future__ import annotations

import os
from pathlib import Path

from onnxdtd.errors import RequestError


def write(path: Path, data: bytes) -> None:
    """Write a file; a link is followed. Raises ``RequestError`` where that cannot be, and leaves what was there."""
    temporary = None
    try:
        target = path.resolve()  # replace the file, not a link to it
        if target.exists() and not target.is_file():
            raise RequestError(f"{path}: is no regular file; give the name of the file to write")
        temporary = target.parent / f".{target.name}.{os.getpid()}"
        temporary.write_bytes(data)
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        if temporary is not None and temporary.is_file():
            temporary.unlink()
        reason = error.strerror if isinstance(error, OSError) else error
        raise RequestError(f"{path}: cannot be written ({reason})") from None
