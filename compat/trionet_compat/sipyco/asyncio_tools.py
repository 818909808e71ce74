"""The former name of `trionet_compat.sipyco.tools`."""

from __future__ import annotations

import warnings

from trionet_compat.sipyco.tools import (
    HAS_SIGHUP,
    AsyncioServer,
    BackgroundTaskPool,
    Condition,
    SignalHandler,
    SimpleSSLConfig,
    TaskObject,
    atexit_register_coroutine,
)

__all__ = [
    "HAS_SIGHUP",
    "AsyncioServer",
    "BackgroundTaskPool",
    "Condition",
    "SignalHandler",
    "SimpleSSLConfig",
    "TaskObject",
    "atexit_register_coroutine",
]

warnings.warn(
    "the module asyncio_tools is deprecated: it is called tools now", DeprecationWarning, stacklevel=2
)
