"""Pipes between a parent and its child process; stands for ``artiq.protocols.pipe_ipc``."""

from __future__ import annotations

from trionet_compat.sipyco.pipe_ipc import AsyncioChildComm, AsyncioParentComm, ChildComm

__all__ = ["AsyncioChildComm", "AsyncioParentComm", "ChildComm"]
