"""The upstream names over trionet, for blocking scripts and asyncio programs.

    sipyco  artiq  iblutil  iblrig  pyacq      modules named as upstream names them
        |
    portal      Trio in a background thread, for blocking code
    guest       Trio in the loop of asyncio, for asyncio code

Existing code moves by changing its import line: ``sipyco.pc_rpc`` becomes ``trionet_compat.sipyco.pc_rpc``.
What is used most can be imported from here, too: ``from trionet_compat import Client``. There is no protocol
in here: all of it drives `trionet`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trionet_compat.iblrig.net import Auxiliaries
    from trionet_compat.iblutil.io.net.app import EchoProtocol
    from trionet_compat.sipyco.fire_and_forget import FFProxy
    from trionet_compat.sipyco.pc_rpc import AsyncioClient, BestEffortClient, Client
    from trionet_compat.sipyco.sync_struct import Publisher, Subscriber

__all__ = [
    "AsyncioClient",
    "Auxiliaries",
    "BestEffortClient",
    "Client",
    "EchoProtocol",
    "FFProxy",
    "Publisher",
    "Subscriber",
]

# A script with one blocking client need not wait for the imports of all the others.
_MODULES: Final = {
    "AsyncioClient": "sipyco.pc_rpc",
    "Auxiliaries": "iblrig.net",
    "BestEffortClient": "sipyco.pc_rpc",
    "Client": "sipyco.pc_rpc",
    "EchoProtocol": "iblutil.io.net.app",
    "FFProxy": "sipyco.fire_and_forget",
    "Publisher": "sipyco.sync_struct",
    "Subscriber": "sipyco.sync_struct",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
