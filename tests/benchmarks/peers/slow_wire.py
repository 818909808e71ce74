"""A wire that is slow: holds each datagram back for some time, in both directions.

Started with the seconds and the ports of programs on this host. For each of them it has a port of its own
that takes its place, for one sender. Any number of datagrams are under way at the same time, in their order.
"""

from __future__ import annotations

import socket
from collections import deque
from selectors import EVENT_READ, SelectSelector
from time import perf_counter
from typing import Any

from tests.benchmarks.peers._program import exit_with_parent, run, say

_LARGEST = 65_536


class _End:
    """One end of a wire: its socket, who is there, and the other end."""

    def __init__(self, peer: Any = None) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.peer = peer
        self.other = self


def relay(latency: float, ends: list[_End]) -> None:
    """Pass on what comes, for ever."""
    # Unlike epoll's, the timeouts of this selector are not rounded to milliseconds.
    selector = SelectSelector()
    for end in ends:
        selector.register(end.socket, EVENT_READ, end)
    under_way: deque[tuple[float, bytes, _End]] = deque()
    while True:
        left = max(0.0, under_way[0][0] - perf_counter()) if under_way else None
        for key, _ in selector.select(left):
            entry: _End = key.data
            data, entry.peer = entry.socket.recvfrom(_LARGEST)
            under_way.append((perf_counter() + latency, data, entry.other))
        while under_way and under_way[0][0] <= perf_counter():
            _, data, exit_ = under_way.popleft()
            exit_.socket.sendto(data, exit_.peer)


def program(latency: str, *ports: str) -> None:
    fronts = [_End() for _ in ports]
    backs = [_End(("127.0.0.1", int(port))) for port in ports]
    for front, back in zip(fronts, backs, strict=True):
        front.other, back.other = back, front
    say(ports=[front.socket.getsockname()[1] for front in fronts])
    exit_with_parent()
    relay(float(latency), [*fronts, *backs])


if __name__ == "__main__":
    run(program)
