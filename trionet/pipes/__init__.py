"""Pipes between a parent and its child process: lines both ways over inherited file descriptors.

The parent's end is in `parent`, the child's in `child`; what they have in common in `_lines`.
"""

from trionet.pipes.child import BlockingParentPipe, ParentPipe, open_parent_pipe
from trionet.pipes.parent import GRACE, ChildDied, PipedProcess, open_piped_process

__all__ = [
    "GRACE",
    "BlockingParentPipe",
    "ChildDied",
    "ParentPipe",
    "PipedProcess",
    "open_parent_pipe",
    "open_piped_process",
]
