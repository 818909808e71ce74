"""Where a rig is, as it is typed: URI and ``--tls``."""

from __future__ import annotations

import argparse
import ssl

from trionet import RigURI
from trionet.cli.connecting import add_tls, client_context, server_context, tls_identity


def add_rig(parser: argparse.ArgumentParser) -> None:
    """Add URI of a rig to talk to, and ``--tls``."""
    parser.add_argument("uri", metavar="URI", type=_uri, help="where the rig is: [scheme://]host[:port]")
    _add_tls(parser, "rig")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add URI of a rig to be, and ``--tls``."""
    parser.add_argument(
        "uri",
        metavar="URI",
        type=_own_uri,
        help="where to listen: [scheme://]host[:port]; 0.0.0.0 is all of IPv4, port 0 one that is free",
    )
    _add_tls(parser, "others")


def _add_tls(parser: argparse.ArgumentParser, peer: str) -> None:
    add_tls(parser, peer)
    parser.set_defaults(usage_error=parser.error)


def rig_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """The TLS for talking to the rig; with ``wss`` but without ``--tls``, the system's authorities decide.

    Raises:
        SystemExit: if TLS is not what the URI is about.
        CommandError: if one of the files cannot be used.
    """
    uri: RigURI = options.uri
    if options.tls is not None and uri.scheme != "wss":
        options.usage_error(f"--tls is for wss://, not for {uri}")
    return client_context(tls_identity(options))


def own_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """The TLS for listening; the same is raised."""
    uri: RigURI = options.uri
    if (uri.scheme == "wss") != (options.tls is not None):
        needed = (
            "needs --tls; tcp:// goes without"
            if uri.scheme == "wss"
            else "goes without --tls, wss:// needs it"
        )
        options.usage_error(f"{uri} {needed}")
    return server_context(tls_identity(options))


def address_text(address: tuple[str, int]) -> str:
    """Host and port as in a URI."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _uri(text: str, allow_port_0: bool = False) -> RigURI:
    try:
        return RigURI.parse(text, allow_port_0=allow_port_0)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _own_uri(text: str) -> RigURI:
    return _uri(text, allow_port_0=True)
