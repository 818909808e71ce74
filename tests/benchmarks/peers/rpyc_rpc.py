"""rpyc's threaded server and its client."""

from __future__ import annotations

from tests.benchmarks.peers._program import (
    Echo,
    commands,
    count_calls_blocking,
    exit_with_parent,
    run,
    say,
)


def serve() -> None:
    import rpyc
    from rpyc.utils.server import ThreadedServer

    target = Echo()

    class Service(rpyc.Service):  # type: ignore[misc]
        def exposed_echo(self, value: int) -> int:
            return target.echo(value)

    server = ThreadedServer(Service, hostname="127.0.0.1", port=0)
    say(port=server.port)
    server.start()


def call(port: int) -> None:
    import rpyc

    with rpyc.connect("127.0.0.1", port) as connection:
        echo = connection.root.echo  # once: looking it up is a call, too
        say(ready=True)
        for command in commands():
            say(calls=count_calls_blocking(echo, command["seconds"]))


def program(role: str, port: str = "0") -> None:
    if role == "server":
        exit_with_parent()
        serve()
    else:
        call(int(port))


if __name__ == "__main__":
    run(program)
