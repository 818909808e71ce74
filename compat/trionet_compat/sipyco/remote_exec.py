"""Running code in the process of a server, next to its driver; stands for ``sipyco.remote_exec``.

**Whoever can connect to such a server can run any code with the rights of its process.** That is what it is
for, upstream as here: serve it where nobody else can connect.

Code that was written for upstream's servers imports `sipyco`, or `artiq.protocols`. Where these are not
installed, it gets the modules of this package in their place.
"""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trionet.rpc.remote_exec import global_rpc_code
from trionet_compat.sipyco.pc_rpc import simple_server_loop

__all__ = ["RemoteExecServer", "connect_global_rpc", "simple_rexec_server_loop"]

_SUFFIX: Final = "_rexec"
_UPSTREAM: Final = ("sipyco", "artiq")


class RemoteExecServer:
    """A target that executes code. Stands for sipyco's class of that name.

    Args:
        initial_namespace: Names that the code finds. The mapping itself is not changed.

    Attributes:
        namespace: What the code runs in.
    """

    # Clients see it in the names of the exceptions that remote code defines.
    _module_name = "sipyco.remote_exec"

    def __init__(self, initial_namespace: Mapping[str, Any]) -> None:
        self.namespace: dict[str, Any] = {
            **initial_namespace,
            "__name__": self._module_name,
            "__builtins__": {**vars(builtins), "__import__": _import},
        }

    def add_code(self, code: str) -> None:
        """Execute the text of a module in the namespace. Raises SyntaxError, and what the code raises."""
        # Otherwise it would have the __future__ imports of this module.
        exec(compile(code, "<string>", "exec", dont_inherit=True), self.namespace)

    def call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """Call what the namespace has under this name; KeyError if there is nothing."""
        return self.namespace[function](*args, **kwargs)


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """Import as Python does, and in place of upstream's packages, if they are missing, those here."""
    try:
        return __import__(name, globals, locals, fromlist or (), level)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if package not in _UPSTREAM or error.name != package:
            raise
        module = importlib.import_module(f"trionet_compat.{name}")
        return module if fromlist else importlib.import_module(f"trionet_compat.{package}")


def rexec_targets(
    target_name: str, target: Any, make_server: type[RemoteExecServer] = RemoteExecServer
) -> dict[str, Any]:
    """The targets of a server of `target` that executes code, too: in a new namespace for each connection."""
    shared: dict[str, Any] = {"controller_driver": target}
    shared["controller_initial_namespace"] = shared
    return {target_name: target, target_name + _SUFFIX: lambda: make_server(shared)}


def simple_rexec_server_loop(
    target_name: str, target: Any, host: str, port: int, description: str | None = None
) -> None:
    """Serve a target until it is terminated, as `simple_server_loop` does, and execute code beside it.

    Args:
        target_name: What the target is called. What executes code is called that with ``_rexec`` behind.
        target: The driver. Code finds it as ``controller_driver``; and the names that later connections will
            find from their beginning as ``controller_initial_namespace``.
        host: Where to listen.
        port: Likewise.
        description: Free text about the server.
    """
    simple_server_loop(rexec_targets(target_name, target), host, port, description)


def connect_global_rpc(
    controller_rexec: Any,
    host: str | None = None,
    port: int = 3251,
    target: str = "master_dataset_db",
    name: str = "dataset_db",
) -> None:
    """Give remote code a client of a third server, by default of the datasets of an ARTIQ master.

    Args:
        controller_rexec: A client of the server that executes code, with its ``_rexec`` target selected.
        host: Name or address of the third server, as that one can reach it; None for this computer, by the
            address that it has in the connection of `controller_rexec`.
        port: Its port.
        target: Name of its target.
        name: What remote code calls the client. If there is one of that name already, it stays.

    On servers of sipyco and of this package it is a blocking ``pc_rpc.Client``; on servers of trionet itself
    a `trionet.GlobalRpc`, whose methods are to be awaited.

    Raises:
        ValueError: if `name` cannot be a name in Python, or `target` is not one word.
        Exception: what goes wrong over there, and what the client raises.
    """
    host = controller_rexec.get_local_host() if host is None else host
    code = global_rpc_code(host, port, target, name)
    controller_rexec.add_code(code)
