"""The command ``sipyco_rpctool``: look at an RPC server, and call its methods.

Stands for ``sipyco.sipyco_rpctool``. The output is upstream's. Arguments are Python literals, PYON, and some
constructors of numpy, as for ``trionet rpc``: they are parsed, where upstream evaluates them.
"""

from __future__ import annotations

import argparse
import contextlib
import pprint
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from trionet.cli.arguments import parse_arguments, parse_call
from trionet.cli.output import prepare_streams, printable
from trionet_compat.sipyco.arguments import formatargspec
from trionet_compat.sipyco.pc_rpc import AutoTarget, Client


def get_argparser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(description="Look at an RPC server, and call its methods.")
    parser.add_argument(
        "--ssl",
        nargs=3,
        metavar=("CERT", "KEY", "PEER"),
        default=None,
        help="speak TLS: files with our certificate, its key, and the certificate of the server",
    )
    add_commands(parser)
    return parser


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the server and what to do with it."""
    parser.add_argument("server", metavar="SERVER", help="name or address of the server")
    parser.add_argument("port", metavar="PORT", type=int, help="its TCP port")
    commands = parser.add_subparsers(dest="action")
    commands.add_parser("list-targets", help="list what the server offers")
    methods = commands.add_parser("list-methods", help="list the methods of a target")
    call = commands.add_parser("call", help="call a method of a target")
    interactive = commands.add_parser("interactive", help="call methods at a prompt (the default)")
    for command in (methods, call, interactive):
        command.add_argument("-t", "--target", metavar="TARGET", help="name of the target")
    call.add_argument("method", metavar="METHOD", help="name of the method")
    call.add_argument(
        "args", metavar="ARGS", nargs=argparse.REMAINDER, help="Python literals; text needs its own quotes"
    )


def list_targets(target_names: Sequence[str], description: str | None) -> None:
    """Print what `Client.get_rpc_id` returned."""
    _print(f"Target(s):   {', '.join(target_names)}")
    if description is not None:
        _print(f"Description: {description}")


def list_methods(remote: Client) -> None:
    """Print the methods of the target that is selected, with their documentation."""
    documentation = remote.get_rpc_method_list()
    if documentation["docstring"] is not None:
        _print(f"{documentation['docstring']}\n")
    for name, (spec, docstring) in sorted(documentation["methods"].items()):
        annotations = spec.get("annotations")  # before sipyco 1.8 they were one text
        known = {**spec, "annotations": annotations if isinstance(annotations, dict) else {}}
        _print(name + formatargspec(**known))
        if docstring is not None:
            _print(textwrap.indent(docstring, "    "))
        _print("")


def call_method(remote: Client, method_name: str, args: Sequence[str]) -> None:
    """Call a method, and print its result unless that is None.

    Args:
        remote: The client.
        method_name: Name of the method; AttributeError if there is none.
        args: Its arguments as text. ``NAME=VALUE`` is a keyword argument. ValueError if one is no value.
    """
    method = getattr(remote, method_name)
    positional, keyword = parse_arguments(args)
    _print_result(method(*positional, **keyword))


def interactive(remote: Client) -> None:
    """Read calls from the keyboard or standard input, and make them, until there are no more."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # gives `input` a history
    while True:
        try:
            line = input(f"({remote.get_selected_target()}) ")
        except EOFError:
            _print("")
            return
        if line.strip():
            _make_call(remote, line)


def _make_call(remote: Client, line: str) -> None:
    try:
        call = parse_call(line)
        _print_result(getattr(remote, call.method)(*call.args, **call.kwargs))
    except Exception as error:
        if hasattr(error, "parent_traceback"):
            _print("Remote exception:")
        _print(f"{_shown(error)}\n{''.join(getattr(error, 'parent_traceback', ()))}".rstrip("\n"))


def _shown(error: Exception) -> str:
    """Class and text of an exception, without its notes."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _print_result(result: Any) -> None:
    if result is not None:
        _print(pprint.pformat(result))


def _print(text: str) -> None:
    """What a server says must not control the terminal."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def run(args: argparse.Namespace, ssl_config: Any, make_client: type[Client] = Client) -> None:
    """Do what the command line says. Raises what the connection and the call do."""
    remote = make_client(args.server, args.port, None, None, ssl_config)
    try:
        if args.action == "list-targets":
            list_targets(*remote.get_rpc_id())
            return
        remote.select_rpc_target(getattr(args, "target", None) or AutoTarget)
        match args.action:
            case "list-methods":
                list_methods(remote)
            case "call":
                call_method(remote, args.method, args.args)
            case _:
                interactive(remote)
    finally:
        remote.close_rpc()


def run_command(name: str, args: argparse.Namespace, make_client: type[Client] = Client) -> None:
    """The same as a command: what goes wrong is told on standard error, and ends it with status 1."""
    from trionet_compat.sipyco.tools import SimpleSSLConfig

    prepare_streams()
    try:
        ssl = getattr(args, "ssl", None)
        run(args, None if ssl is None else SimpleSSLConfig(*ssl), make_client)
    except Exception as error:
        remote_traceback = "".join(getattr(error, "parent_traceback", ()))
        sys.exit(f"{printable(remote_traceback)}{name}: {printable(_shown(error)).rstrip()}")


def main() -> None:
    """The command."""
    run_command("sipyco_rpctool", get_argparser().parse_args())


if __name__ == "__main__":
    main()
