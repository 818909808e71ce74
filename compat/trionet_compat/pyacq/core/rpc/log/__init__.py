"""Log records of several processes in one place, with the names of host, process and thread."""

from trionet_compat.pyacq.core.rpc.log.handler import RPCLogHandler
from trionet_compat.pyacq.core.rpc.log.names import (
    get_host_name,
    get_process_name,
    get_thread_name,
    set_host_name,
    set_process_name,
    set_thread_name,
)
from trionet_compat.pyacq.core.rpc.log.remote import (
    LogSender,
    LogServer,
    get_logger_address,
    log_exceptions,
    set_logger_address,
    start_log_server,
)

__all__ = [
    "LogSender",
    "LogServer",
    "RPCLogHandler",
    "get_host_name",
    "get_logger_address",
    "get_process_name",
    "get_thread_name",
    "log_exceptions",
    "set_host_name",
    "set_logger_address",
    "set_process_name",
    "set_thread_name",
    "start_log_server",
]
