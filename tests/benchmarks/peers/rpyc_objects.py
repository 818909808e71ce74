"""rpyc's threaded server and its client, with arrays as bytes: by itself it would send references to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.benchmarks.peers._object_calls import Blocking, answer_commands
from tests.benchmarks.peers._program import Echo, exit_with_parent, run, say


def serve() -> None:
    import rpyc
    from rpyc.utils.server import ThreadedServer

    class Service(rpyc.Service):  # type: ignore[misc]
        def exposed_get_echo(self) -> Echo:
            return echo

    echo = Echo()
    server = ThreadedServer(
        Service, hostname="127.0.0.1", port=0, protocol_config={"allow_public_attrs": True}
    )
    say(address=str(server.port))
    server.start()


def call(address: str) -> None:
    import rpyc

    with rpyc.connect("127.0.0.1", int(address)) as connection:
        echo = connection.root.get_echo().echo  # once: looking it up is a call, too
        start = rpyc.async_(echo)

        def ping(number: int) -> int:
            connection.ping()  # raises if the answer is wrong
            return number

        def burst(count: int) -> int:
            results = [start(number) for number in range(count)]
            return sum(result.value == number for number, result in enumerate(results))

        def carry(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.frombuffer(echo(array.tobytes()), array.dtype)

        answer_commands(Blocking(ping, echo, burst, carry))


def program(role: str, address: str = "") -> None:
    if role == "server":
        exit_with_parent()
        serve()
    else:
        call(address)


if __name__ == "__main__":
    run(program)
