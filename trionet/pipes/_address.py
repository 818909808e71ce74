"""How a child is told where its ends of the pipes are.

The address is that of sipyco's `pipe_ipc`: the numbers of two inherited descriptors, the one to read from
and the one to write to, such as ``5,8``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from typing import Final

_ADDRESS: Final = re.compile(r"([0-9]{1,9}),([0-9]{1,9})")


def require_posix() -> None:
    """Refuse to work where descriptors are not inherited by their numbers."""
    if sys.platform == "win32":
        raise NotImplementedError("pipes to child processes need POSIX; there are none on Windows")


def format_address(read_fd: int, write_fd: int) -> str:
    """The address of a child that reads from one descriptor and writes to the other."""
    return f"{read_fd},{write_fd}"


def take_descriptors(address: str) -> tuple[int, int]:
    """The descriptors of an address: to read from, to write to. They are not inherited any further.

    Raises:
        ValueError: if it is no address.
        OSError: if there are no pipes at these descriptors.
    """
    require_posix()
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[1]) == int(match[2]):
        raise ValueError(
            f"{address!r} is no address of a pipe: that is two descriptors such as '5,8', made by the parent"
        )
    descriptors = int(match[1]), int(match[2])
    for fd in descriptors:
        # Of a program that was started by hand, they may well be open, and something else.
        if not _is_pipe(fd):
            raise OSError(
                errno.EBADF,
                f"descriptor {fd} of address {address!r} is no open pipe: not started by a parent?",
            )
    for fd in descriptors:
        os.set_inheritable(fd, False)
    return descriptors


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False
