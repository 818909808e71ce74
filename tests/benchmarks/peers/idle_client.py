"""Opens connections, says the lines of a handshake on each, and leaves them open."""

from __future__ import annotations

import contextlib
import socket

from tests.benchmarks.peers._program import commands, raise_file_limit, run, say


def _connect(port: int, lines: list[str]) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    try:
        for line in lines:
            connection.sendall(line.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                data = connection.recv(4096)
                if not data:
                    raise RuntimeError("the server has closed the connection in the handshake")
                answer += data
    except BaseException:
        connection.close()
        raise
    return connection


def program() -> None:
    raise_file_limit()
    say(ready=True)
    with contextlib.ExitStack() as kept:
        for command in commands():
            for _ in range(command["count"]):
                connection = _connect(command["port"], command["lines"])
                if command["keep"]:
                    kept.enter_context(connection)
                else:
                    connection.close()
            say(done=True)


if __name__ == "__main__":
    run(program)
