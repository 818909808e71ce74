"""Settings of the tests of the compat layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trionet_compat.iblutil.io.net.app import EchoProtocol
from trionet_compat.portal import Portal, open_portal
from trionet_compat.pyacq.core.rpc import RPCClient, _connections, processspawner
from trionet_compat.pyacq.core.rpc import server as pyacq_server
from trionet_compat.pyacq.core.rpc.log import remote as pyacq_logs

#: Seconds for what has to succeed over real sockets.
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give what has to succeed more than the second of upstream: a busy machine may stand still for longer.

    Tests that are about upstream's times undo it.
    """
    monkeypatch.setattr(_connections, "CONNECT_TIMEOUT", PATIENCE)
    monkeypatch.setattr(RPCClient.close_server, "__defaults__", ("sync", PATIENCE))
    monkeypatch.setattr(pyacq_server, "_CLOSE_TIMEOUT", PATIENCE)
    monkeypatch.setattr(pyacq_logs, "_FLUSH_TIMEOUT", PATIENCE)
    monkeypatch.setattr(processspawner, "BOOTSTRAP_TIMEOUT", 2 * PATIENCE)
    monkeypatch.setattr(EchoProtocol, "default_echo_timeout", PATIENCE)


@pytest.fixture
def own_portal() -> Iterator[Portal]:
    """A portal for the blocking objects of one test. It ends with it, and what is left in it as well."""
    with open_portal() as portal:
        yield portal
