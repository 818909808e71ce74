"""Connecting to TCP servers, for all protocols: addresses, TLS, keepalive."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trionet._arguments import check_port, check_seconds
from trionet._tls import TLSConfig, client_context
from trionet._transport import Transport, format_address, open_transport

#: Seconds a connection attempt may take by default: host names, TCP and TLS.
CONNECT_TIMEOUT: Final = 10.0

# Seconds of silence until the peer is asked for a sign of life (macOS has another name for the option),
# seconds from one question to the next, and how many it may leave without answer.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


async def connect(
    host: str, port: int, *, ssl_context: TLSConfig | None = None, connect_timeout: float = CONNECT_TIMEOUT
) -> Transport:
    """Connect to a TCP server, with keepalive and without delay for small messages.

    Args:
        host: Name or address; all addresses of a name are tried.
        port: The port.
        ssl_context: Speak TLS.
        connect_timeout: Seconds for all of it.

    Raises:
        OSError: as the system reports it: ConnectionRefusedError, socket.gaierror, ...
        TimeoutError: when the seconds are over.
        ssl.SSLError: if TLS cannot be agreed upon.
        ValueError: for a port that there cannot be; TypeError if it is no integer.
    """
    check_port(port)
    name = format_address((host, port))
    with trio.move_on_after(connect_timeout):
        try:
            tcp = await trio.open_tcp_stream(host, port)
        except socket.gaierror as error:
            raise socket.gaierror(error.errno, f"{error.strerror} ({name})") from error
        except OSError as error:
            raise _plain_error(error, name) from error
        keep_alive(tcp)
        context = client_context(ssl_context)
        if context is None:
            return open_transport(tcp, name)
        return open_transport(await _add_tls(tcp, host, context, name), name)
    raise TimeoutError(f"no connection to {name} within {connect_timeout} s")


def connector(
    host: str, port: int, *, ssl_context: TLSConfig | None = None, connect_timeout: float = CONNECT_TIMEOUT
) -> Callable[[], Awaitable[Transport]]:
    """A function that connects, each time anew; the arguments are those of `connect`.

    Raises:
        OSError: if a file of a `TLSIdentity` cannot be used: now, because it would be no outage later.
        ValueError: for a port that there cannot be; TypeError if it is no integer.
    """
    check_port(port)
    check_seconds("connect_timeout", connect_timeout)
    context = client_context(ssl_context)
    return lambda: connect(host, port, ssl_context=context, connect_timeout=connect_timeout)


async def _add_tls(tcp: trio.SocketStream, host: str, context: ssl.SSLContext, name: str) -> trio.abc.Stream:
    stream = trio.SSLStream(tcp, context, server_hostname=host)
    try:
        await stream.do_handshake()
    except BaseException as error:
        with trio.CancelScope(shield=True):  # Cancelled would replace the error
            await trio.aclose_forcefully(tcp)
        if not isinstance(error, trio.BrokenResourceError):
            raise
        if isinstance(error.__cause__, ssl.SSLError) and not isinstance(error.__cause__, ssl.SSLEOFError):
            raise error.__cause__ from error
        raise ConnectionResetError(f"{name} closed the connection in the TLS handshake") from error
    return stream


def _plain_error(error: OSError, name: str) -> OSError:
    """The reason behind trio's "all attempts failed", if all of them failed alike."""
    cause = error.__cause__
    attempts = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause,)
    first = attempts[0]
    if isinstance(first, OSError) and first.errno and {type(one) for one in attempts} == {type(first)}:
        # trio puts an address of its own before the reason: "Error connecting to ('::1', 80): ..."
        return type(first)(first.errno, f"{str(first.strerror).rpartition('): ')[2]} ({name})")
    return error


def keep_alive(stream: trio.abc.Stream) -> None:
    """Notice a silent peer that went away without a word, such as a PC without power, within 40 s.

    The system's own time is two hours: far too long for a subscriber that waits for what may change. Where
    the times cannot be set, that is what remains.

    It is for connections on which nothing is under way. What was sent and is not acknowledged is sent again
    until the system gives up, on Linux after about 15 minutes. A shorter time (TCP_USER_TIMEOUT) would also
    cut off peers that do not read for a while, such as a program that stands in a debugger.
    """
    if not isinstance(stream, trio.SocketStream):
        return
    with contextlib.suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
