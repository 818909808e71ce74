"""Listening, connecting and stopping over real loopback: addresses, TLS, keepalive, the server's handle."""

from __future__ import annotations

import contextlib
import errno
import functools
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

import trionet
from tests.network.certificates import Certificates
from trionet._connect import connect


class Stage:
    def __init__(self) -> None:
        self.moving = trio.Event()
        self.may_arrive = trio.Event()
        self.arrived = False

    def echo(self, value: Any) -> Any:
        return value

    async def move(self) -> str:
        self.moving.set()
        await self.may_arrive.wait()
        self.arrived = True
        return "arrived"


@contextlib.asynccontextmanager
async def serving(
    stage: Stage | None = None, port: int = 0, **options: Any
) -> AsyncIterator[trionet.RpcServer]:
    async with trio.open_nursery() as nursery:
        targets = {"stage": stage or Stage()}
        server = await nursery.start(lambda **kw: trionet.serve_rpc(targets, port, **options, **kw))
        yield server
        await server.aclose()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


async def check(host: str, port: int, **options: Any) -> None:
    with trio.fail_after(30):
        async with trionet.open_rpc_client(host, port, **options) as client:
            assert await client.call("echo", 1) == 1


async def test_loopback_is_the_default() -> None:
    async with serving() as server:
        ((host, port),) = server.addresses
        assert host == "127.0.0.1"
        assert port == server.port > 0
        await check(host, port)


@needs_ipv6
async def test_ipv6() -> None:
    async with serving(host="::1") as server:
        assert server.addresses == (("::1", server.port),)
        await check("::1", server.port)
        async with trionet.open_rpc_client("::1", server.port) as client:
            assert client.peer == f"[::1]:{server.port}"


@needs_ipv6
async def test_several_addresses_share_a_free_port() -> None:
    async with serving(host=["127.0.0.1", "::1"]) as server:
        assert server.addresses == (("127.0.0.1", server.port), ("::1", server.port))
        await check("127.0.0.1", server.port)
        await check("::1", server.port)


async def test_all_interfaces() -> None:
    async with serving(host=None) as server:
        await check("127.0.0.1", server.port)
        await check("localhost", server.port)


async def test_a_free_port_that_is_taken_on_the_next_address(monkeypatch: pytest.MonkeyPatch) -> None:
    original = trio.open_tcp_listeners
    failures = [OSError(errno.EADDRINUSE, "taken")] * 2
    ports = []

    async def open_tcp_listeners(port: int, *, host: str) -> Any:
        ports.append(port)
        if port != 0 and failures:
            raise failures.pop()
        return await original(port, host=host)

    monkeypatch.setattr(trio, "open_tcp_listeners", open_tcp_listeners)
    async with serving(host=["127.0.0.1", "127.0.0.2"]) as server:
        assert [host for host, _ in server.addresses] == ["127.0.0.1", "127.0.0.2"]
    assert ports.count(0) == 3


async def test_a_port_in_use() -> None:
    async with serving() as server:
        with pytest.raises(
            OSError, match=rf"cannot listen on 127\.0\.0\.1:{server.port}: .* in use"
        ) as caught:
            await trionet.serve_rpc({"stage": Stage()}, server.port)
        assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(ValueError, match="no host"):
        await trionet.serve_rpc({"stage": Stage()}, 0, host=[])


async def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError, match="assign"):
        await trionet.serve_rpc({"stage": Stage()}, 0, host="192.0.2.1")


@pytest.mark.parametrize(("port", "error"), [(65_536, ValueError), (-1, ValueError), ("3251", TypeError)])
async def test_what_is_no_port(port: Any, error: type[Exception]) -> None:
    """The system would take the last 16 bits of the number: another port than was asked for."""
    with pytest.raises(error, match=f"not {port!r}"):
        await trionet.serve_rpc({"stage": Stage()}, port)
    for client in (
        trionet.open_rpc_client("127.0.0.1", port),
        trionet.open_best_effort_rpc_client("127.0.0.1", port, "stage"),
        trionet.open_subscription("127.0.0.1", port, "datasets"),
        trionet.open_broadcast_receiver("127.0.0.1", port, "alarms"),
        trionet.open_log_forwarder("127.0.0.1", port, source="test"),
    ):
        with pytest.raises(error, match=f"not {port!r}"):
            async with client:
                raise AssertionError


@pytest.mark.parametrize("seconds", [-1, float("nan")])
@pytest.mark.parametrize(
    "serve",
    [
        functools.partial(trionet.serve_rpc, {}),
        functools.partial(trionet.serve_publisher, {}),
        functools.partial(trionet.serve_broadcaster, trionet.Broadcaster()),
        trionet.serve_log_sink,
        lambda _, **options: trionet.serve_objects({}, **options),
    ],
)
async def test_times_that_make_no_sense(serve: Any, seconds: float) -> None:
    with pytest.raises(ValueError, match="handshake_timeout must be at least 0 s"):
        await serve(0, handshake_timeout=seconds)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"description": 5}, TypeError),
        ({"description": b"laser"}, TypeError),
        ({"max_message_size": 0}, ValueError),
    ],
)
async def test_options_that_every_client_would_fail_with(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(options))):
        await trionet.serve_rpc({}, 0, **options)


async def test_a_client_must_be_able_to_call() -> None:
    async with serving() as server:
        with pytest.raises(ValueError, match="max_pending_calls"):
            async with trionet.open_rpc_client("127.0.0.1", server.port, max_pending_calls=0):
                pass


async def test_attempts_without_a_pause() -> None:
    with pytest.raises(ValueError, match="retry_interval"):
        async with trionet.open_best_effort_rpc_client("127.0.0.1", 1, "t", retry_interval=0):
            pass


async def test_refused() -> None:
    async with serving() as server:
        port = server.port
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}"):
        await connect("127.0.0.1", port)
    with pytest.raises(socket.gaierror):
        await connect("no such host.invalid", port)


async def test_a_connection_attempt_that_takes_too_long(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_tcp_stream(host: str, port: int) -> trio.SocketStream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    with pytest.raises(TimeoutError, match=r"no connection to 192\.0\.2\.1:3251 within 10\.0 s"):
        async with trionet.open_rpc_client("192.0.2.1", 3251):
            pass
    assert trio.current_time() == 10.0


async def test_attempts_that_fail_for_different_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_tcp_stream(host: str, port: int) -> trio.SocketStream:
        reasons = ExceptionGroup("all", [ConnectionRefusedError(111, "refused"), OSError(113, "no route")])
        raise OSError("all attempts to connect failed") from reasons

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    with pytest.raises(OSError, match="all attempts"):
        await connect("laser-pc", 3251)


async def test_sockets_are_kept_alive_and_do_not_delay() -> None:
    accepted: list[trio.SocketStream] = []
    async with serving() as server, trionet.open_rpc_client("127.0.0.1", server.port) as client:
        (connection,) = server._clients
        for stream in (client._transport.stream, connection.transport.stream):
            assert isinstance(stream, trio.SocketStream)
            accepted.append(stream)
            assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if sys.platform == "linux":  # 10 s of silence, then 3 questions 10 s apart
                assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
                assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
                assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert len(accepted) == 2


# -- the handle ---------------------------------------------------------------------------------------


async def test_aclose_lets_calls_in_flight_finish() -> None:
    stage = Stage()
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"stage": stage}, 0)
        async with (
            trionet.open_rpc_client("127.0.0.1", server.port) as idle,
            trionet.open_rpc_client("127.0.0.1", server.port) as busy,
        ):
            results = []

            async def move() -> None:
                results.append(await busy.call("move"))

            nursery.start_soon(move)
            await stage.moving.wait()
            nursery.start_soon(server.aclose, 30)
            await idle.wait_disconnected()
            with pytest.raises(ConnectionRefusedError):
                await connect("127.0.0.1", server.port)
            assert busy.disconnect_reason is None
            stage.may_arrive.set()
            await busy.wait_disconnected()
    assert results == ["arrived"]


async def test_aclose_without_grace_cuts() -> None:
    stage = Stage()
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"stage": stage}, 0)
        async with trionet.open_rpc_client("127.0.0.1", server.port) as client:

            async def move() -> None:
                with pytest.raises(trionet.ConnectionLost):
                    await client.call("move")

            nursery.start_soon(move)
            await stage.moving.wait()
            await server.aclose()
            assert server.connections == 0
            await client.wait_disconnected()
    assert not stage.arrived


@pytest.mark.parametrize("grace", [0.0, 30.0])
async def test_a_method_cannot_close_its_own_server(grace: float) -> None:
    class Closing:
        async def close(self) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.aclose, grace)

        async def have_it_closed(self) -> None:
            outside.start_soon(server.aclose, grace)

    with trio.fail_after(60):
        async with trio.open_nursery() as outside:
            server = await outside.start(trionet.serve_rpc, {"it": Closing()}, 0)
            async with trionet.open_rpc_client("127.0.0.1", server.port) as client:
                with pytest.raises(trionet.RemoteError, match="ExceptionGroup"):
                    await client.call("close")
                with contextlib.suppress(trionet.ConnectionLost):
                    await client.call("have_it_closed")


async def test_the_cancel_scope_stops_at_once() -> None:
    stage = Stage()
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"stage": stage}, 0)
        async with trionet.open_rpc_client("127.0.0.1", server.port) as client:
            server.cancel_scope.cancel()
            await client.wait_disconnected()
    with pytest.raises(ConnectionRefusedError):
        await connect("127.0.0.1", server.port)


async def test_listeners_of_ones_own() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with serving(listeners=listeners) as server:
        assert server.addresses == (("127.0.0.1", listeners[0].socket.getsockname()[1]),)
        await check(*server.addresses[0])


# -- TLS ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
async def test_a_unix_socket_has_no_host_and_port(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    sock = trio.socket.socket(socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    async with serving(listeners=[trio.SocketListener(sock)]) as server:
        assert server.addresses == ()
        async with trionet.wrap_rpc_stream(await trio.open_unix_socket(path)) as client:
            assert client.peer == path
            assert await client.call("echo", 1) == 1


async def test_tls_with_pinned_certificates(certificates: Certificates) -> None:
    client_identity = certificates.identity("client", "server")
    async with serving(ssl_context=certificates.identity("server", "client")) as server:
        await check("127.0.0.1", server.port, ssl_context=client_identity)
        await check("127.0.0.1", server.port, ssl_context=client_identity.client_context())
        async with trionet.open_rpc_client("127.0.0.1", server.port, ssl_context=client_identity) as client:
            async with trio.open_nursery() as nursery:
                for size in (1, 1_000_000, 2_000_000):
                    nursery.start_soon(client.call, "echo", "x" * size)


async def test_tls_with_a_server_that_is_not_trusted(certificates: Certificates) -> None:
    async with serving(ssl_context=certificates.identity("stranger", "client")) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await check("127.0.0.1", server.port, ssl_context=certificates.identity("client", "server"))


async def test_tls_with_a_client_that_is_not_trusted(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(ssl_context=certificates.identity("server", "client")) as server:
        # TLS 1.3 lets the client believe that all is well until it hears from the server.
        with pytest.raises((trionet.ConnectionLost, ssl.SSLError)):
            await check("127.0.0.1", server.port, ssl_context=certificates.identity("stranger", "server"))
        await check("127.0.0.1", server.port, ssl_context=certificates.identity("client", "server"))
    assert "no TLS connection" in caplog.text


async def test_tls_against_a_server_without(certificates: Certificates) -> None:
    async with serving() as server:
        with pytest.raises(OSError, match=r"TLS|SSL|ssl"):
            await check("127.0.0.1", server.port, ssl_context=certificates.identity("client", "server"))


async def test_no_tls_against_a_server_with(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(ssl_context=certificates.identity("server", "client")) as server:
        with pytest.raises(trionet.ConnectionLost):
            await check("127.0.0.1", server.port)
    assert "no TLS connection" in caplog.text


async def test_a_client_that_connects_to_tls_and_says_nothing(
    certificates: Certificates, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    identity = certificates.identity("server", "client")
    async with serving(ssl_context=identity, handshake_timeout=7) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        assert await stream.receive_some() == b""
        assert trio.current_time() == pytest.approx(7.0)
        await stream.aclose()
    assert "no TLS connection within 7 s" in caplog.text


async def test_idle_tls_clients_are_disconnected(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trionet._transport._CLOSE_TIMEOUT", 30.0)  # for the farewell of TLS
    async with trio.open_nursery() as nursery:
        identity = certificates.identity("server", "client")
        server = await nursery.start(
            lambda **kw: trionet.serve_rpc({"it": Stage()}, 0, ssl_context=identity, **kw)
        )
        async with trionet.open_rpc_client(
            "127.0.0.1", server.port, ssl_context=certificates.identity("client", "server")
        ) as client:
            assert await client.call("echo", 1) == 1
            await server.aclose(30)
            await client.wait_disconnected()
            assert client.disconnect_reason == "connection closed by the server"


async def test_tls_against_a_server_that_closes(certificates: Certificates) -> None:
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, trio.aclose_forcefully, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        with pytest.raises(ConnectionResetError, match="in the TLS handshake"):
            await check(*listener.socket.getsockname(), ssl_context=certificates.identity("client", "server"))
        nursery.cancel_scope.cancel()


async def test_files_that_are_no_certificates(certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    for field in ("cert", "key", "peer_cert"):
        with pytest.raises(ssl.SSLError, match=r"one of .*text\.pem.* cannot be used"):
            replace(
                certificates.identity("client", "server"), **{field: tmp_path / "text.pem"}
            ).client_context()
        with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
            replace(certificates.identity("client", "server"), **{field: "missing.pem"}).server_context()


async def test_tls_with_certificates_signed_by_themselves(tmp_path: Path) -> None:
    """As `openssl req -x509` makes them."""
    for name in ("server", "client"):
        own = trustme.CA()
        own.cert_pem.write_to_path(tmp_path / f"{name}.pem")
        own.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    server_identity = trionet.TLSIdentity(
        tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "client.pem"
    )
    client_identity = trionet.TLSIdentity(
        tmp_path / "client.pem", tmp_path / "client.key", tmp_path / "server.pem"
    )
    async with serving(ssl_context=server_identity) as server:
        await check("127.0.0.1", server.port, ssl_context=client_identity)
