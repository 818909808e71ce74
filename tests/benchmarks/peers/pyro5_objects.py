"""Pyro5's daemon and proxy, with arrays as bytes in its quickest serializer for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.benchmarks.peers._object_calls import Blocking, answer_commands
from tests.benchmarks.peers._program import Echo, exit_with_parent, run, say


def serve() -> None:
    from Pyro5 import api

    daemon = api.Daemon(host="127.0.0.1", port=0)
    daemon.register(api.expose(Echo), "echo")
    say(address=daemon.locationStr)
    daemon.requestLoop()


def call(address: str) -> None:
    from Pyro5 import api

    api.config.SERIALIZER = "marshal"
    with api.Proxy(f"PYRO:Pyro.Daemon@{address}") as daemon, api.Proxy(f"PYRO:echo@{address}") as proxy:
        echo = proxy.echo

        def ping(number: int) -> int:
            daemon.ping()
            return number

        def carry(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.frombuffer(echo(array.tobytes()), array.dtype)

        answer_commands(Blocking(ping, echo, None, carry))


def program(role: str, address: str = "") -> None:
    if role == "server":
        exit_with_parent()
        serve()
    else:
        call(address)


if __name__ == "__main__":
    run(program)
