"""Which target of a server a client means; the same for all RPC clients."""

from __future__ import annotations

from collections.abc import Sequence

import trionet


class AutoTarget:
    """Stands for the only target that a server has: ``Client(host, port, AutoTarget)``. Not instantiated."""


#: What clients take as the name of a target.
TargetName = str | type[AutoTarget]


class IncompatibleServer(trionet.IncompatibleServer):
    """The server does not offer the target that was asked for. Stands for sipyco's class of that name."""

    def __str__(self) -> str:
        return self.message


def choose_target(offered: Sequence[str], wanted: TargetName) -> str:
    """The name of the target to select.

    Raises:
        IncompatibleServer: if the server does not have it.
        ValueError: for `AutoTarget`, if the server has several.
        IndexError: for `AutoTarget`, if it has none.
    """
    names = " ".join(sorted(offered))
    if isinstance(wanted, str):
        if wanted not in offered:
            raise IncompatibleServer(f"valid target name(s): {names}")
        return wanted
    if not offered:
        raise IndexError("Server has no targets")
    if len(offered) > 1:
        raise ValueError(f"Server has multiple targets: {names}")
    return offered[0]
