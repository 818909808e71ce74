"""``python -m trionet.pyon FILE...``: convert files from PYON v1 to v2, in place.

The old content stays beside the new one as ``FILE_v1``. A file that is v2 already, which all JSON is, is
left alone. Whatever happens, each file holds either its old content or its new one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from trionet.pyon import PyonDecodeError, decode, encode, v1
from trionet.pyon._files import write_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert the files named on the command line.

    Returns:
        The exit status: 0, or 1 if one of the files could not be converted. The others are, all the same.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trionet.pyon",
        description="Convert files from PYON v1 to PYON v2 in place, keeping FILE_v1 as a backup.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a PYON file")
    status = 0
    for file in parser.parse_args(arguments).files:
        try:
            report = convert(Path(file))
        except (OSError, ValueError, TypeError) as error:
            _say(sys.stderr, f"{file}: {_reason(error)}")
            status = 1
        else:
            _say(sys.stdout, f"{file}: {report}")
    return status


def convert(file: Path) -> str:
    """Convert one file, and say what was done.

    Raises:
        PyonDecodeError: if it is neither PYON v1 nor v2.
        TypeError: if it holds a value without a form in v2; ValueError likewise.
        OSError: from the file system; FileExistsError if there is a backup already.
    """
    old = file.read_bytes()
    try:
        decode(old)
    except PyonDecodeError:
        pass
    else:
        return "is PYON v2 already, left alone"
    new = encode(v1.decode(old), pretty=True)
    backup = file.with_name(f"{file.name}_v1")
    _store_new(backup, old, file.stat().st_mode & 0o777)
    try:
        write_atomically(file, new)
    except OSError:  # and the file is what it was
        backup.unlink()
        raise
    return f"converted, the old content is in {backup}"


def _store_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist, with no more permissions than `mode` from the first moment on."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink()
            raise


def _reason(error: Exception) -> str:
    if isinstance(error, FileExistsError):
        return f"not converted, the backup {error.filename} exists"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"not PYON v1: {error}" if isinstance(error, PyonDecodeError) else f"no PYON v2 form: {error}"


def _say(stream: TextIO, message: str) -> None:
    """Write one line, whatever characters the name of a file has."""
    line = " ".join(message.splitlines())
    encoding = stream.encoding or "ascii"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


if __name__ == "__main__":
    sys.exit(main())
