"""`Publisher` of ``trionet_compat.sipyco.sync_struct``: how it is used by programs of asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.compat.asyncio_programs import Told, port_of, run
from tests.compat.test_sync_struct import publishing, same
from trionet_compat.sipyco.sync_struct import Notifier, Publisher, Subscriber
from trionet_compat.sipyco.tools import AsyncioServer


def test_a_publisher_may_be_made_before_the_loop_runs_and_outlives_its_gaps() -> None:
    notifier = Notifier({"count": 0})
    publisher = Publisher({"n": notifier})
    assert isinstance(publisher, AsyncioServer)
    notifier["count"] = 1
    told = Told()
    subscriber = Subscriber("n", same, told)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(publisher.start("127.0.0.1", 0))
        loop.run_until_complete(subscriber.connect("127.0.0.1", port_of(publisher)))
        loop.run_until_complete(told.wait(1))
        notifier["count"] = 2  # while the loop does not run
        (first, second) = loop.run_until_complete(told.wait(2))
        assert first["struct"] == {"count": 2}
        assert second["value"] == 2
        loop.run_until_complete(subscriber.close())
        loop.run_until_complete(publisher.stop())
    finally:
        loop.close()
    notifier["count"] = 3
    assert notifier.raw_view == {"count": 3}


def test_a_change_that_cannot_be_sent_is_not_made() -> None:
    async def main() -> None:
        notifier = Notifier({})
        told = Told()
        subscriber = Subscriber("n", same, told)
        async with publishing({"n": notifier}) as port:
            await subscriber.connect("127.0.0.1", port)
            await told.wait(1)
            with pytest.raises(TypeError):
                notifier["key"] = object()
            assert notifier.raw_view == {}
            notifier["key"] = 1
            assert (await told.wait(2))[1]["value"] == 1
            await subscriber.close()

    run(main)


def test_a_change_from_another_thread_is_refused() -> None:
    async def main() -> None:
        notifier = Notifier({})

        def change() -> None:
            with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                notifier["key"] = 1
            refused.append(True)

        refused: list[bool] = []
        async with publishing({"n": notifier}):
            await asyncio.to_thread(change)
            assert refused == [True]
            assert notifier.raw_view == {}
        await asyncio.to_thread(notifier.__setitem__, "key", 1)  # it is not published any more
        assert notifier.raw_view == {"key": 1}

    run(main)


def test_a_publisher_can_be_started_again() -> None:
    async def main() -> None:
        notifier = Notifier([])
        publisher = Publisher({"n": notifier})
        for count in range(3):
            told = Told()
            subscriber = Subscriber("n", same, told)
            await publisher.start("127.0.0.1", 0)
            await subscriber.connect("127.0.0.1", port_of(publisher))
            assert (await told.wait(1))[0]["struct"] == [*range(count)]
            notifier.append(count)
            await told.wait(2)
            await subscriber.close()
            await publisher.stop()

    run(main)


def test_a_program_may_stand_between_a_notifier_and_its_publisher() -> None:
    async def main() -> None:
        notifier = Notifier({})
        publisher = Publisher({"n": notifier})
        publish = notifier.publish
        assert publish is not None

        def only_some(mod: Any) -> None:
            if mod.get("key") != "secret":
                publish(mod)

        notifier.publish = only_some
        told = Told()
        subscriber = Subscriber("n", same, told)
        await publisher.start("127.0.0.1", 0)
        await subscriber.connect("127.0.0.1", port_of(publisher))
        await told.wait(1)
        notifier["secret"] = 1
        notifier["public"] = 2
        publisher.publish(notifier, {"action": "setitem", "path": [], "key": "made up", "value": 3})
        mods = await told.wait(3)
        assert [mod["key"] for mod in mods[1:]] == ["public", "made up"]
        await subscriber.close()
        await publisher.stop()

    run(main)


def test_a_publisher_may_override_publish() -> None:
    class Noting(Publisher):
        def publish(self, notifier: Notifier, mod: Any) -> None:
            noted.append((notifier, mod["action"]))
            super().publish(notifier, mod)

    noted: list[Any] = []
    notifier = Notifier([])
    Noting({"n": notifier})
    notifier.append(1)
    assert noted == [(notifier, "append")]


def test_one_notifier_under_two_names() -> None:
    async def main() -> None:
        notifier = Notifier([])
        tolds = [Told(), Told()]
        subscribers = [Subscriber(name, same, told) for name, told in zip("ab", tolds, strict=True)]
        async with publishing({"a": notifier, "b": notifier}) as port:
            for subscriber, told in zip(subscribers, tolds, strict=True):
                await subscriber.connect("127.0.0.1", port)
                await told.wait(1)
            notifier.append(1)
            for told in tolds:
                assert (await told.wait(2))[1]["x"] == 1
            for subscriber in subscribers:
                await subscriber.close()

    run(main)
