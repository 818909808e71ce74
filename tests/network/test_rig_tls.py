"""Rigs over TLS: who is let in, and what happens to those who are not."""

from __future__ import annotations

import gc
import ssl
from typing import Any

import pytest
import trustme

import trionet
from tests.network.certificates import Certificates
from tests.network.rigs import (
    LOOPBACK,
    address_of,
    loopback,
    open_communicator,
    open_listener,
    open_raw_client,
    open_services,
    unused_port,
)
from trionet import RigEvent


async def test_both_ways_with_pinned_certificates(certificates: Certificates) -> None:
    server = certificates.identity("server", "client")
    async with open_listener(loopback("wss"), ssl_context=server) as rig:

        async def answer(event: RigEvent) -> None:
            await rig.respond(event, "answer")

        rig.assign_callback("EXPINIT", answer)
        identity = certificates.identity("client", "server")
        uris = {"rig": loopback("wss", rig.port)}
        async with open_services(uris, ssl_context=identity, echo_timeout=30) as services:
            assert await services.init() == {"rig": ["answer"]}
            address = await address_of(services["rig"], rig)
            await rig.status("RUNNING", address=address)
            await services["rig"].info("RUNNING", "x" * 1_000_000)


async def test_contexts_of_the_standard_library() -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with open_listener(loopback("wss"), ssl_context=server) as rig:
        uri = f"wss://localhost:{rig.port}"
        async with open_communicator(uri, ssl_context=client) as communicator:
            assert communicator.uri.host == "localhost"  # what the certificate is about
            await communicator.init()
        with pytest.raises(ssl.SSLCertVerificationError):  # an authority that the system does not know
            async with open_communicator(uri):
                pass
        with pytest.raises(ssl.SSLCertVerificationError):  # not the name that was certified
            async with open_communicator(loopback("wss", rig.port), ssl_context=client):
                pass


async def test_a_stranger_gets_no_message_through(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    server = certificates.identity("server", "client")
    async with open_listener(loopback("wss"), ssl_context=server) as rig:
        stranger = certificates.identity("stranger", "server")
        uri = loopback("wss", rig.port)
        # With TLS 1.3, it finds out with the first message.
        with pytest.raises((OSError, trionet.ConnectionLost)):
            async with open_communicator(uri, ssl_context=stranger) as client:
                await client.init()
        async with open_raw_client("tcp", rig.port) as raw:
            await raw.send([1, 1])
            assert not (await raw.receive()).startswith(b"[")
        friend = certificates.identity("client", "server")
        async with open_communicator(uri, ssl_context=friend) as client:
            await client.init()
        assert rig.statistics().received == 1
    assert sum("no TLS connection" in record.getMessage() for record in caplog.records) == 2


async def test_a_server_that_is_not_the_right_one_is_told_nothing(certificates: Certificates) -> None:
    wrong = certificates.identity("stranger", "client")
    async with open_listener(loopback("wss"), ssl_context=wrong) as rig:
        identity = certificates.identity("client", "server")
        with pytest.raises(ssl.SSLCertVerificationError):
            async with open_communicator(loopback("wss", rig.port), ssl_context=identity):
                pass
        assert rig.statistics().received == 0


async def test_a_connection_that_is_lost_is_made_anew_with_tls(certificates: Certificates) -> None:
    server = certificates.identity("server", "client")
    identity = certificates.identity("client", "server")
    with unused_port("tcp") as port:
        uri = loopback("wss", port)
        async with open_communicator(
            uri, ssl_context=identity, echo_timeout=30, connect_first=False
        ) as client:
            for number in range(3):
                async with open_listener(uri, ssl_context=server) as rig:
                    await client.init(number)
                    assert rig.statistics().received == 1
                with pytest.raises((ConnectionRefusedError, trionet.ConnectionLost)):
                    await client.init("nobody is there")


@pytest.mark.parametrize("scheme", ["udp", "tcp", "ws"])
async def test_a_context_is_for_wss(scheme: str, certificates: Certificates) -> None:
    context: Any = certificates.identity("server", "client")
    for opened in (
        open_communicator(loopback(scheme, 1), ssl_context=context),
        open_listener(loopback(scheme), ssl_context=context),
    ):
        with pytest.raises(ValueError, match=f"{scheme}://.* is not encrypted"):
            async with opened:
                pass


async def test_a_listener_needs_a_certificate_for_wss() -> None:
    with pytest.raises(ValueError, match=f"wss://{LOOPBACK}:0 needs an ssl_context"):
        async with open_listener(loopback("wss")):
            pass


async def test_files_that_cannot_be_used_leave_no_socket_behind(certificates: Certificates) -> None:
    identity = certificates.identity("nobody", "server")
    with pytest.raises(FileNotFoundError, match=r"nobody\.pem"):
        async with open_listener(loopback("wss"), ssl_context=identity):
            pass
    gc.collect()  # it would warn
    with pytest.raises(FileNotFoundError, match=r"nobody\.pem"):
        async with open_communicator(loopback("wss", 1), ssl_context=identity):
            pass
