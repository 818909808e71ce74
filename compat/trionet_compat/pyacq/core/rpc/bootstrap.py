"""What a process runs that a `ProcessSpawner` has started.

    python -m trionet_compat.pyacq.core.rpc.bootstrap [NAME]

Its settings are on standard input, as one JSON map.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final

from trionet.objects._bootstrap import report_status
from trionet_compat.portal import current_portal
from trionet_compat.pyacq.core.rpc import QtRPCServer, RPCServer, log

_SERVERS: Final[dict[str, type[RPCServer]]] = {"RPCServer": RPCServer, "QtRPCServer": QtRPCServer}


def main() -> None:
    """Serve objects until somebody ends the server."""
    settings = json.load(sys.stdin)
    logging.getLogger().setLevel(settings["loglevel"])
    if len(sys.argv) > 1:
        log.set_process_name(sys.argv[1])
    if settings["logaddr"] is not None:
        log.set_logger_address(settings["logaddr"])
    log.log_exceptions()
    status: Mapping[str, Any]
    application = None
    try:
        if settings["qt"]:
            application = _make_application()
        server = _SERVERS[settings["class_name"]](**settings["args"])
        status = {"address": server.address.decode()}
    except Exception:
        status = {"error": traceback.format_exc().splitlines(keepends=True)}
    current_portal().call(report_status, settings["bootstrap_addr"], status)
    if "address" in status:
        server.run_forever()
        if application is not None:
            application.exec()
            server.close()


def _make_application() -> Any:
    from trionet_compat.pyacq.core.rpc._qt import make_application

    return make_application()


if __name__ == "__main__":
    main()
