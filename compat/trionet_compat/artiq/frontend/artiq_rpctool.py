"""The command ``artiq_rpctool``; stands for ``artiq.frontend.artiq_rpctool``. See `sipyco_rpctool`."""

from __future__ import annotations

import argparse

from trionet_compat.artiq.protocols.pc_rpc import Client
from trionet_compat.sipyco.sipyco_rpctool import (
    add_commands,
    call_method,
    interactive,
    list_methods,
    list_targets,
    run_command,
)

__all__ = ["call_method", "get_argparser", "interactive", "list_methods", "list_targets", "main"]


def get_argparser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(description="Look at an RPC server, and call its methods.")
    add_commands(parser)
    return parser


def main() -> None:
    """The command."""
    run_command("artiq_rpctool", get_argparser().parse_args(), Client)


if __name__ == "__main__":
    main()
