"""What tasks of iblrig tell other computers, and the lines that they read."""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import trio

from trionet_compat import guest


def _rig_version() -> str:
    """The version of iblrig; empty if that is not installed."""
    try:
        return importlib.metadata.version("iblrig")
    except importlib.metadata.PackageNotFoundError:
        return ""


@dataclass
class ExpInfo:
    """What a rig tells about itself in EXPINFO. Stands for iblrig's class of this name.

    Attributes:
        exp_ref: The reference of the experiment.
        main_sync: Whether this computer has the main clock.
        experiment_description: What else there is to know.
        master: Whether it is the one that starts the others.
        rig_version: By default that of iblrig, empty if that is not installed.
        spec_version: The version of this table.
    """

    exp_ref: str
    main_sync: bool
    experiment_description: dict[str, Any] = field(default_factory=dict)
    master: bool = False
    rig_version: str = field(default_factory=_rig_version)
    spec_version: str = "1.0.0"

    def to_dict(self) -> dict[str, Any]:
        """The fields by name: not a copy."""
        return self.__dict__


async def read_stdin(loop: asyncio.AbstractEventLoop | None = None) -> AsyncIterator[str]:
    """The lines of the standard input, until it ends; each is waited for in a thread.

    A thread that still waits at the end of the program does not hold it up, unlike upstream's.

    Args:
        loop: Not needed.
    """
    read = functools.partial(trio.to_thread.run_sync, sys.stdin.readline, abandon_on_cancel=True)
    while line := await guest.run(read):
        yield line
