"""Faults of a server, its host and its network, one after the other, as the seed decides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import trio

from tests.lab.servers import Server
from trionet.testing import Lab, Packet, Reset, Verdict, VirtualHost

KINDS: Final = ("crash", "stop", "partition", "one way", "hold", "reset", "loss", "pause", "delay")


class Faults:
    """Something that goes wrong with a server, or between it and some of its clients.

    Args:
        lab: The lab; its random numbers decide.
        server: The server.
        clients: Hosts of clients.

    Attributes:
        seen: How often what has gone wrong.
    """

    def __init__(self, lab: Lab, server: Server, clients: Sequence[VirtualHost]) -> None:
        self.seen: Counter[str] = Counter()
        self._lab = lab
        self._server = server
        self._clients = clients
        self._latencies = {client: lab.link(server.host, client).latency for client in clients}

    async def happen(self, count: int, longest: float) -> None:
        """So many faults, each of up to so many seconds; some begin before the one before has ended.

        When this returns they are over, and the server serves.
        """
        random = self._lab.random
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                seconds = math.exp(random.uniform(math.log(0.05), math.log(longest)))
                nursery.start_soon(self._happen, random.choice(KINDS), seconds)
                await trio.sleep(random.choice([seconds, seconds + random.uniform(0, 30), 1.0]))
        await self._server.serving.wait_value(True)

    async def _happen(self, kind: str, seconds: float) -> None:
        self.seen[kind] += 1
        lab, server = self._lab, self._server
        client = lab.random.choice(self._clients)
        link = lab.link(server.host, client)
        match kind:
            case "crash":
                server.crash(seconds)
            case "stop":
                server.stop(seconds)
            case "partition":
                lab.partition(server.host, self._clients)
                await trio.sleep(seconds)
                lab.repair(server.host, self._clients)
            case "one way":
                sides = lab.random.sample([server.host, client], 2)
                lab.partition(*sides, one_way=True)
                await trio.sleep(seconds)
                lab.repair(*sides, one_way=True)
            case "hold":
                lab.hold(server.host, client)
                await trio.sleep(seconds)
                lab.release(server.host, client)
            case "reset":
                await self._reset(client)
            case "loss":
                link.loss = lab.random.choice([0.1, 0.5, 1.0])
                await trio.sleep(seconds)
                link.loss = 0.0
            case "pause":
                host = lab.random.choice([server.host, client])
                host.pause()
                await trio.sleep(seconds)
                host.resume()
            case "delay":
                link.latency = lab.random.uniform(0, 2)
                await trio.sleep(seconds)
                link.latency = self._latencies[client]

    async def _reset(self, client: VirtualHost) -> None:
        """Reset the connections of a client at a byte of the next packets that go one of the ways."""
        upward = self._lab.random.random() < 0.5
        place = self._lab.random.randrange(200)

        def rule(packet: Packet) -> Verdict | None:
            ours = client.name == (packet.src.host if upward else packet.dst.host)
            return Reset(min(place, len(packet.payload))) if ours and packet.protocol == "tcp" else None

        with self._lab.rule(rule):
            await trio.sleep(self._lab.random.uniform(0, 10))
