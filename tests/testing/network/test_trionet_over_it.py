"""trionet's own servers and clients run over the virtual network, and heal there."""

from __future__ import annotations

from functools import partial

import trio
import trio.testing

from tests.testing.network.programs import PORT
from trionet import Notifier, open_rpc_client, open_subscription, serve_publisher, serve_rpc
from trionet.testing import VirtualHost, open_virtual_network

Clock = trio.testing.MockClock


class Laser:
    def __init__(self) -> None:
        self.power = 0.0

    def set_power(self, power: float) -> float:
        self.power = power
        return power

    async def warm_up(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "warm"


async def test_rpc(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        laser = Laser()
        await network.host("laser").start(partial(serve_rpc, {"laser": laser}, PORT, host="0.0.0.0"))
        with network.host("control").entered():
            async with open_rpc_client("laser", PORT) as client:
                assert await client.call("set_power", 1.5) == laser.power == 1.5
                assert await client.call("warm_up", 3600) == "warm"
    assert trio.current_time() > 3600


async def publish(host: VirtualHost, notifier: Notifier) -> None:
    await host.start(partial(serve_publisher, {"state": notifier}, PORT, host="0.0.0.0"))


async def test_a_subscription_survives_crash_and_partition(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        server, client = network.host("server"), network.host("client")
        await publish(server, Notifier({"run": 1}))
        with client.entered():
            async with open_subscription("server", PORT, "state", rng=network.random) as subscription:
                await subscription.wait_value(lambda value: value == {"run": 1})
                server.crash()
                await trio.sleep(60)
                assert subscription.stale
                server.restart()
                notifier = Notifier({"run": 2})
                await publish(server, notifier)
                await subscription.wait_value(lambda value: value == {"run": 2})
                network.partition(server, client)
                notifier["run"] = 3
                await trio.sleep(300)
                assert subscription.value == {"run": 2}
                network.repair()
                await subscription.wait_value(lambda value: value == {"run": 3})


async def test_many_subscribers_see_every_change_over_bad_links(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.005, jitter=0.01, loss=0.05, reorder=0.1) as network:
        notifier = Notifier({"step": 0})
        await publish(network.host("server"), notifier)
        seen: dict[str, list[int]] = {}

        async def follow(name: str) -> None:
            async with open_subscription("server", PORT, "state", rng=network.random) as subscription:
                await subscription.wait_value(lambda value: value is not None)
                seen[name] = []
                async for _ in subscription:
                    seen[name].append(subscription.value["step"])

        names = [f"subscriber{number}" for number in range(5)]
        for name in names:
            network.host(name).start_soon(follow, name)
        await trio.sleep(20)
        for step in range(1, 200):
            notifier["step"] = step
            await trio.sleep(0.05)
        await trio.sleep(100)
        assert [seen[name][-1] for name in names] == [199] * 5
        assert all(seen[name] == sorted(seen[name]) for name in names)
