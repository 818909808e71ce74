"""What the commands have in common that connect or listen: ports, TLS, seconds."""

from __future__ import annotations

import argparse
import contextlib
import math
import ssl
from collections.abc import Callable
from typing import Final

from trionet import ServerHandle, TLSIdentity
from trionet.cli.output import CommandError, error_text


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add HOST and PORT of a server to connect to."""
    parser.add_argument("host", metavar="HOST", help="name or address of the server")
    parser.add_argument("port", metavar="PORT", type=port_number, help="its port")


#: The options that `add_listening` adds, and how many words follow each of them.
SERVER_OPTIONS: Final = {"--bind": 1, "--tls": 3}


def add_listening(parser: argparse.ArgumentParser, peers: str) -> None:
    """Add PORT of a server to be, and its options."""
    parser.add_argument("port", metavar="PORT", type=own_port, help="TCP port to serve; 0 for a free one")
    parser.add_argument(
        "--bind",
        metavar="HOST",
        default="127.0.0.1",
        help="address to listen on, 0.0.0.0 for all of IPv4; by default only this machine can connect",
    )
    add_tls(parser, peers)


def add_tls(parser: argparse.ArgumentParser, peer: str) -> None:
    """Add ``--tls``."""
    parser.add_argument(
        "--tls",
        nargs=3,
        metavar=("CERT", "KEY", "PEER_CERT"),
        help=f"speak TLS: PEM files with our certificate, its key, and the certificate of the {peer}",
    )


def tls_identity(options: argparse.Namespace) -> TLSIdentity | None:
    """What ``--tls`` says."""
    files = getattr(options, "tls", None)
    return None if files is None else TLSIdentity(*files)


def client_context(tls: TLSIdentity | None) -> ssl.SSLContext | None:
    """For connecting.

    Raises:
        CommandError: if one of the files cannot be used.
    """
    return None if tls is None else _context(tls.client_context)


def server_context(tls: TLSIdentity | None) -> ssl.SSLContext | None:
    """For serving.

    Raises:
        CommandError: if one of the files cannot be used.
    """
    return None if tls is None else _context(tls.server_context)


def _context(make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    try:
        return make()
    except OSError as error:
        raise CommandError(f"--tls: {error_text(error)}") from error


def addresses_text(server: ServerHandle) -> str:
    """Where a server listens."""
    return ", ".join(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in server.addresses
    )


def port_number(text: str) -> int:
    """A port to connect to, for argparse."""
    return _port(text, 1)


def own_port(text: str) -> int:
    """A port to serve, for argparse: 0 is one that is free."""
    return _port(text, 0)


def _port(text: str, lowest: int) -> int:
    if text.isdecimal() and lowest <= int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text.strip()!r} is no port: a number from {lowest} to 65535 is")


def positive_seconds(text: str) -> float:
    """A time, for argparse."""
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if 0 < seconds < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text.strip()!r} is no number of seconds greater than 0")


def positive_number(text: str) -> int:
    """How many, for argparse."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text.strip()!r} is no number greater than 0")
