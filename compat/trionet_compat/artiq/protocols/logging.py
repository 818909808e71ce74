"""Log forwarding; stands for ``artiq.protocols.logging``. It gives the level 5 the name ``TRACE``."""

from __future__ import annotations

from trionet_compat.sipyco import logs
from trionet_compat.sipyco.logs import (
    LogForwarder,
    LogParser,
    Server,
    SourceFilter,
    log_with_name,
    parse_log_message,
)

__all__ = ["LogForwarder", "LogParser", "Server", "SourceFilter", "log_with_name", "parse_log_message"]

_fwd_logger = logs._fwd_logger  # programs and their tests use it
