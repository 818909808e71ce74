"""Options that controllers have in common; stands for ``sipyco.common_args``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from trionet_compat.sipyco.logs import multiline_log_config

_LOCALHOST = ("127.0.0.1", "::1")

# One port: its number by default. Several: (name, what it is for, number by default) of each.
Ports = int | Sequence[tuple[str, str, int]]


def verbosity_args(parser: argparse.ArgumentParser) -> None:
    """Add ``-v`` and ``-q``, which may be repeated; see `init_logger_from_args`."""
    group = parser.add_argument_group("verbosity")
    group.add_argument("-v", "--verbose", default=0, action="count", help="log more; may be repeated")
    group.add_argument("-q", "--quiet", default=0, action="count", help="log less; may be repeated")


def init_logger_from_args(args: argparse.Namespace) -> None:
    """Log to standard error, from warnings on, or as much more or less as ``-v`` and ``-q`` say."""
    multiline_log_config(level=logging.WARNING + 10 * args.quiet - 10 * args.verbose)


def simple_network_args(parser: argparse.ArgumentParser, default_port: Ports, ssl: bool = False) -> None:
    """Add the options of a server: ``--bind``, ``--no-localhost-bind``, ports, and ``--ssl`` if asked for.

    Args:
        parser: What to add them to.
        default_port: A number, for ``--port`` (``args.port``); or for each of several ports its name, what it
            is for, and its number, for ``--port-NAME`` (``args.port_NAME``).
        ssl: Whether to add ``--ssl CERT KEY PEER`` (``args.ssl``: a list of three names of files, or None).
    """
    group = parser.add_argument_group("network server")
    group.add_argument(
        "--bind",
        default=[],
        action="append",
        help="host name or address to listen on, too; may be repeated; '*' for all interfaces",
    )
    group.add_argument(
        "--no-localhost-bind",
        default=False,
        action="store_true",
        help="do not listen on localhost as well",
    )
    if isinstance(default_port, int):
        group.add_argument(
            "-p",
            "--port",
            default=default_port,
            type=int,
            help="TCP port (default: %(default)d)",
        )
    else:
        for name, purpose, default in default_port:
            group.add_argument(
                f"--port-{name}",
                default=default,
                type=int,
                help=f"TCP port for {purpose} (default: %(default)d)",
            )
    if ssl:
        group.add_argument(
            "--ssl",
            nargs=3,
            metavar=("CERT", "KEY", "PEER"),
            default=None,
            help="speak TLS: files with our certificate, its key, and the certificates of the clients",
        )


def bind_address_from_args(args: argparse.Namespace) -> list[str] | None:
    """What the options say to listen on: addresses, or None for all interfaces."""
    if "*" in args.bind:
        return None
    if args.no_localhost_bind:
        return list(args.bind)
    return [*_LOCALHOST, *args.bind]
