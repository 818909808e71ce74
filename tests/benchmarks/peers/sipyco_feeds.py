"""sipyco's publisher and subscribers. The last argument is a checkout of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from tests.benchmarks.peers._live_data import NAME, Arrivals, fingerprint, make_structure
from tests.benchmarks.peers._program import next_command, raise_file_limit, run, say


async def publish(structure_name: str) -> None:
    from sipyco.sync_struct import Notifier, Publisher

    structure, change = make_structure(structure_name)
    notifier = Notifier(structure)
    publisher = Publisher({NAME: notifier})
    await publisher.start("127.0.0.1", 0)
    say(port=publisher.server.sockets[0].getsockname()[1])
    while (command := await asyncio.to_thread(next_command)) is not None:
        match command["do"]:
            case "change":
                start = perf_counter()
                for number in range(command["count"]):
                    change(notifier, number)
                    if (number + 1) % command["burst"] == 0:
                        await asyncio.sleep(0)
                say(start=start)
            case "check":
                say(fingerprint=fingerprint(structure))


class _Subscription:
    """A subscriber, and the structure it has."""

    def __init__(self, count: Callable[[Any], None]) -> None:
        from sipyco.sync_struct import Subscriber

        self.value: Any = None
        self.subscriber = Subscriber(NAME, self._build, count)

    def _build(self, structure: Any) -> Any:
        self.value = structure
        return structure


async def subscribe(port: int) -> None:
    subscriptions: list[_Subscription] = []
    say(ready=True)
    while (command := await asyncio.to_thread(next_command)) is not None:
        match command["do"]:
            case "subscribe":
                came = asyncio.Event()
                arrivals = Arrivals(command["count"], came.set)
                for count in arrivals.counters:
                    subscription = _Subscription(count)
                    await subscription.subscriber.connect("127.0.0.1", port)
                    subscriptions.append(subscription)
                await came.wait()
                say(done=True)
            case "expect":
                came = asyncio.Event()
                arrivals.expect(command["mods"], came.set)
                say(done=True)
            case "wait":
                await came.wait()
                arrivals.check()
                say(end=arrivals.end, fingerprints=list({fingerprint(one.value) for one in subscriptions}))
            case "join":
                await _join(port)
    for subscription in subscriptions:
        await subscription.subscriber.close()


async def _join(port: int) -> None:
    start = perf_counter()
    came = asyncio.Event()
    arrivals = Arrivals(1, came.set)
    subscription = _Subscription(arrivals.counters[0])
    await subscription.subscriber.connect("127.0.0.1", port)
    await came.wait()
    say(seconds=arrivals.end - start, fingerprints=[fingerprint(subscription.value)])
    await subscription.subscriber.close()


def program(role: str, argument: str, checkout: str) -> None:
    sys.path.insert(0, checkout)
    raise_file_limit()
    asyncio.run(publish(argument) if role == "server" else subscribe(int(argument)))


if __name__ == "__main__":
    run(program)
