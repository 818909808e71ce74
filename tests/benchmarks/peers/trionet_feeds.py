"""Our publisher and our subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import trio

import trionet
from tests.benchmarks.peers._live_data import NAME, Arrivals, fingerprint, make_structure
from tests.benchmarks.peers._program import next_command, raise_file_limit, run, say


async def publish(structure_name: str) -> None:
    structure, change = make_structure(structure_name)
    notifier = trionet.Notifier(structure)
    async with trio.open_nursery() as nursery:
        publisher: trionet.Publisher = await nursery.start(trionet.serve_publisher, {NAME: notifier}, 0)
        say(port=publisher.port)
        while (command := await trio.to_thread.run_sync(next_command)) is not None:
            match command["do"]:
                case "change":
                    start = perf_counter()
                    for number in range(command["count"]):
                        change(notifier, number)
                        if (number + 1) % command["burst"] == 0:
                            await trio.lowlevel.checkpoint()
                    say(start=start)
                case "check":
                    subscribers = publisher.statistics().subscribers
                    say(
                        fingerprint=fingerprint(notifier.raw_view),
                        subscribers=len(subscribers),
                        resyncs=sum(subscriber.resyncs for subscriber in subscribers),
                    )
        nursery.cancel_scope.cancel()


async def subscribe(port: int) -> None:
    async def follow(count: Callable[[Any], None], task_status: trio.TaskStatus[Any]) -> None:
        async with trionet.open_subscription(
            "127.0.0.1", port, NAME, on_mod=count, reconnect=False
        ) as subscription:
            task_status.started(subscription)
            await subscription.connected.wait_value(False)
            raise RuntimeError("the publisher has gone")

    async with trio.open_nursery() as nursery:
        say(ready=True)
        while (command := await trio.to_thread.run_sync(next_command)) is not None:
            match command["do"]:
                case "subscribe":
                    came = trio.Event()
                    arrivals = Arrivals(command["count"], came.set)
                    subscriptions = [await nursery.start(follow, count) for count in arrivals.counters]
                    await came.wait()
                    say(done=True)
                case "expect":
                    came = trio.Event()
                    arrivals.expect(command["mods"], came.set)
                    say(done=True)
                case "wait":
                    await came.wait()
                    arrivals.check()
                    say(
                        end=arrivals.end,
                        fingerprints=list({fingerprint(one.value) for one in subscriptions}),
                    )
                case "join":
                    await _join(port)
        nursery.cancel_scope.cancel()


async def _join(port: int) -> None:
    start = perf_counter()
    came = trio.Event()
    arrivals = Arrivals(1, came.set)
    async with trionet.open_subscription(
        "127.0.0.1", port, NAME, on_mod=arrivals.counters[0], reconnect=False
    ) as subscription:
        await came.wait()
        say(seconds=arrivals.end - start, fingerprints=[fingerprint(subscription.value)])


def program(role: str, argument: str) -> None:
    raise_file_limit()
    if role == "server":
        trio.run(publish, argument)
    else:
        trio.run(subscribe, int(argument))


if __name__ == "__main__":
    run(program)
