"""Pyro5's daemon and proxy, without a name server."""

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
    from Pyro5 import api

    daemon = api.Daemon(host="127.0.0.1", port=0)
    daemon.register(api.expose(Echo), "echo")
    say(port=int(daemon.locationStr.rpartition(":")[2]))
    daemon.requestLoop()


def call(port: int) -> None:
    from Pyro5 import api

    with api.Proxy(f"PYRO:echo@127.0.0.1:{port}") as proxy:
        say(ready=True)
        for command in commands():
            say(calls=count_calls_blocking(proxy.echo, command["seconds"]))


def program(role: str, port: str = "0") -> None:
    if role == "server":
        exit_with_parent()
        serve()
    else:
        call(int(port))


if __name__ == "__main__":
    run(program)
