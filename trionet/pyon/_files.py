"""Files: written whole or not at all, and read with errors that name them."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trionet.pyon._errors import PyonDecodeError

StrPath = str | os.PathLike[str]


def decode_file(path: StrPath, decode: Callable[[bytes], Any]) -> Any:
    """What `decode` makes of a file; its PyonDecodeError gets the name of the file."""
    try:
        return decode(Path(path).read_bytes())
    except PyonDecodeError as error:
        raise PyonDecodeError(f"{path}: {error.reason}", error.where) from error.__cause__


def write_atomically(path: StrPath, content: str) -> None:
    """Replace the content of a file, so that a crash at any moment leaves the old or the new one whole.

    The content goes to a new file beside it, which is synchronised to the disk and then renamed. A
    symbolic link is followed, and the permissions of a file that is replaced are kept.

    Raises:
        OSError: from the file system; the old file is untouched and the new one removed.
    """
    target = Path(os.path.realpath(path))
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(unfinished, "x", encoding="utf-8", newline="\n") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            unfinished.chmod(target.stat().st_mode & 0o7777)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    """Make a rename durable. Windows cannot open directories and needs no such step.

    Some network file systems refuse; the new file is in place and whole by now, so that is no error.
    """
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
