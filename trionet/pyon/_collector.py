"""Python's garbage collector while a large value is built."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused_collector() -> Iterator[None]:
    """Keep the collector of cycles from running in the block, if it would.

    It runs whenever some hundred containers have been made, and every now and then looks at all that the
    process has: for nothing, as nothing of what is being built is garbage. A structure of 2 MB with 18,000
    containers was read in 11 ms this way, and in 12 to 60 ms without. It is a setting of the process, so a
    thread that switches the collector off meanwhile, for itself, finds it on again.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
