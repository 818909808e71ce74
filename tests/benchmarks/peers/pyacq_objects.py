"""pyacq's server, client and processes; and ours that have their names.

The first argument is the package, the last one a checkout of pyacq, which needs pyzmq, msgpack, pyqtgraph and
PyQt in the same interpreter.
"""

from __future__ import annotations

import importlib
import os
import sys
from time import perf_counter
from typing import Any

from tests.benchmarks.peers._object_calls import Blocking, answer_commands
from tests.benchmarks.peers._program import Echo, commands, exit_with_parent, run, say


def serve(rpc: Any) -> None:
    server = rpc.RPCServer()
    server["echo"] = Echo()
    say(address=server.address.decode())
    server.run_forever()


def call(rpc: Any, address: str) -> None:
    client = rpc.RPCClient(address.encode())
    echo = client["echo"].echo

    def ping(number: int) -> int:
        return number if client.ping() == "pong" else -1

    def burst(count: int) -> int:
        futures = [client.ping(sync="async") for _ in range(count)]
        return [future.result(timeout=10.0) for future in futures].count("pong")

    answer_commands(Blocking(ping, echo, burst, echo))
    client.close()


def start_processes(rpc: Any) -> None:
    say(ready=True)
    for _ in commands():
        begun = perf_counter()
        process = rpc.ProcessSpawner()
        answer = process.client.ping()
        seconds = perf_counter() - begun
        if answer != "pong" or process.client._import("math").sqrt(4) != 2:
            raise RuntimeError("a wrong answer")
        process.stop()
        process.client.close()
        say(seconds=seconds)


def program(package: str, role: str, *arguments: str) -> None:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    if package == "pyacq":
        checkout = arguments[-1]
        sys.path.insert(0, checkout)
        # For the processes that it starts.
        os.environ["PYTHONPATH"] = os.pathsep.join([checkout, os.environ.get("PYTHONPATH", "")])
    rpc = importlib.import_module(f"{package}.core.rpc")
    if role == "server":
        exit_with_parent()
        serve(rpc)
    elif role == "client":
        call(rpc, arguments[0])
    else:
        start_processes(rpc)


if __name__ == "__main__":
    run(program)
