"""Blocking clients over TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.compat.served import Instrument, port_of, serving
from tests.network.certificates import Certificates
from trionet_compat.sipyco.pc_rpc import AutoTarget, BestEffortClient, Client
from trionet_compat.sipyco.tools import SimpleSSLConfig

HOST = "127.0.0.1"


def _config(certificates: Certificates, own: str, peer: str) -> SimpleSSLConfig:
    identity = certificates.identity(own, peer)
    return SimpleSSLConfig(str(identity.cert), str(identity.key), str(identity.peer_cert))


def test_who_is_trusted_and_who_is_not(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    ours = _config(certificates, "client", "server")
    with serving({"laser": Instrument()}, ssl_context=certificates.identity("server", "client")) as (
        _,
        server,
    ):
        port = port_of(server)
        client = Client(HOST, port, AutoTarget, None, ours)
        assert client.echo(1) == 1
        assert client.get_local_host() == HOST
        client.close_rpc()
        best_effort = BestEffortClient(HOST, port, "laser", 30, ssl_config=ours)
        assert best_effort.echo(1) == 1
        best_effort.close_rpc()
        with pytest.raises(ssl.SSLCertVerificationError):
            Client(HOST, port, ssl_config=_config(certificates, "client", "stranger"))
        with pytest.raises((EOFError, ConnectionResetError)):  # told at the first use, as TLS 1.3 is
            Client(HOST, port, ssl_config=_config(certificates, "stranger", "server"))
        with pytest.raises(EOFError):
            Client(HOST, port)
        with pytest.raises(FileNotFoundError):
            Client(HOST, port, ssl_config=SimpleSSLConfig("a", "b", "c"))
