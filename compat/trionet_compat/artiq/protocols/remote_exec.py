"""Running code in the process of a server; stands for ``artiq.protocols.remote_exec``.

**Whoever can connect to such a server can run any code with the rights of its process.**
"""

from __future__ import annotations

from typing import Any

from trionet_compat.artiq.protocols.pc_rpc import simple_server_loop
from trionet_compat.sipyco import remote_exec
from trionet_compat.sipyco.remote_exec import connect_global_rpc, rexec_targets

__all__ = ["RemoteExecServer", "connect_global_rpc", "simple_rexec_server_loop"]


class RemoteExecServer(remote_exec.RemoteExecServer):
    """As that of sipyco."""

    _module_name = "artiq.protocols.remote_exec"


def simple_rexec_server_loop(
    target_name: str, target: Any, host: str, port: int, description: str | None = None
) -> None:
    """As that of sipyco, with the `simple_server_loop` of that time."""
    simple_server_loop(rexec_targets(target_name, target, RemoteExecServer), host, port, description)
