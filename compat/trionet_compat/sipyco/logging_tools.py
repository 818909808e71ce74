"""The former name of `trionet_compat.sipyco.logs`."""

from __future__ import annotations

import warnings

from trionet_compat.sipyco import logs
from trionet_compat.sipyco.logs import (
    LogForwarder,
    LogParser,
    MultilineFormatter,
    Server,
    SourceFilter,
    log_with_name,
    multiline_log_config,
    parse_log_message,
)

__all__ = [
    "LogForwarder",
    "LogParser",
    "MultilineFormatter",
    "Server",
    "SourceFilter",
    "log_with_name",
    "multiline_log_config",
    "parse_log_message",
]

_fwd_logger = logs._fwd_logger  # programs and their tests use it

warnings.warn(
    "the module logging_tools is deprecated: it is called logs now", DeprecationWarning, stacklevel=2
)
