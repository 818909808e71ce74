"""`Publisher` and `Subscriber` of ``trionet_compat.sipyco.sync_struct``, with each other, under asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compat.asyncio_programs import Told, port_of, run, wait_nobody_connected
from tests.network.certificates import Certificates
from trionet_compat import _guest
from trionet_compat.sipyco.sync_struct import Notifier, Publisher, Subscriber
from trionet_compat.sipyco.tools import SimpleSSLConfig


def same(structure: Any) -> Any:
    return structure


@contextlib.asynccontextmanager
async def publishing(notifiers: dict[str, Notifier]) -> AsyncIterator[int]:
    publisher = Publisher(notifiers)
    await publisher.start("127.0.0.1", 0)
    try:
        yield port_of(publisher)
    finally:
        await publisher.stop()


def test_a_subscriber_follows_a_notifier() -> None:
    async def main() -> None:
        structure = {"list": [1, 2], "array": np.arange(3), "dict": {}}
        notifier = Notifier(structure)
        told = Told()
        built: list[Any] = []

        def build(received: Any) -> Any:
            built.append(received)
            return received

        subscriber = Subscriber("n", build, told)
        async with publishing({"n": notifier}) as port:
            await subscriber.connect("127.0.0.1", port)
            await told.wait(1)
            notifier["list"].append((3,))
            notifier["list"].insert(0, {1: 2})
            assert notifier["list"].pop() == (3,)
            notifier["list"][:] = [4]
            notifier["array"][0] = 10
            notifier["dict"]["key"] = 1j
            del notifier["dict"]["key"]
            mods = await told.wait(8)
            assert [mod["action"] for mod in mods] == [
                *("init", "append", "insert", "pop", "setitem", "setitem", "setitem", "delitem")
            ]
            assert mods[3] == {"action": "pop", "path": ["list"], "i": -1}
            (target,) = built
            assert target["list"] == [4]
            assert list(target["array"]) == [10, 1, 2]
            assert target["dict"] == {}
            assert notifier.raw_view is structure
            await subscriber.close()

    run(main)


def test_callbacks_may_come_and_go_later() -> None:
    async def main() -> None:
        notifier = Notifier({})
        callbacks: list[Any] = []
        subscriber = Subscriber("n", same, callbacks)
        assert subscriber.notify_cbs is callbacks
        first, second = Told(), Told()
        subscriber.notify_cbs.append(first)
        async with publishing({"n": notifier}) as port:
            await subscriber.connect("127.0.0.1", port)
            await first.wait(1)
            subscriber.notify_cbs.append(second)
            subscriber.notify_cbs.remove(first)
            notifier["key"] = 1
            assert (await second.wait(1))[0]["key"] == "key"
            assert len(first.values) == 1
            await subscriber.close()

    run(main)


def test_callbacks_may_start_tasks_that_use_other_objects() -> None:
    async def main() -> None:
        def start(mod: Any) -> None:
            tasks.append(asyncio.create_task(follow()))
            asyncio.get_running_loop().call_soon(told)

        async def follow() -> None:
            await second.connect("127.0.0.1", port)
            await second_told.wait(1)
            await second.close()

        tasks: list[asyncio.Task[None]] = []
        told, second_told = Told(), Told()
        first, second = Subscriber("n", same, start), Subscriber("n", same, second_told)
        async with publishing({"n": Notifier({})}) as port:
            await first.connect("127.0.0.1", port)
            await told.wait(1)
            await tasks[0]
            await first.close()

    run(main)


def test_before_it_receives_the_program_can_ask_for_its_address() -> None:
    async def main() -> None:
        def before() -> None:
            seen.append(subscriber.writer.get_extra_info("socket").getsockname()[0])
            seen.append(subscriber.writer.get_extra_info("peername")[1])
            seen.append(subscriber.writer.get_extra_info("sslcontext"))
            seen.append(hasattr(subscriber, "receive_task"))

        seen: list[Any] = []
        subscriber = Subscriber("n", same)
        async with publishing({"n": Notifier({})}) as port:
            await subscriber.connect("127.0.0.1", port, before)
            assert seen == ["127.0.0.1", port, None, False]
            assert isinstance(subscriber.receive_task, asyncio.Task)
            await subscriber.close()
        assert not hasattr(subscriber, "writer")
        assert not hasattr(subscriber, "reader")

    run(main)


def test_what_is_raised_before_it_receives_closes_the_connection() -> None:
    async def main() -> None:
        def fail() -> None:
            raise ValueError("so it is")

        subscriber = Subscriber("n", same)
        publisher = Publisher({"n": Notifier({})})
        await publisher.start("127.0.0.1", 0)
        port = port_of(publisher)
        with pytest.raises(ValueError, match="so it is"):
            await subscriber.connect("127.0.0.1", port, fail)
        await wait_nobody_connected(publisher)
        await publisher.stop()
        with pytest.raises(ConnectionRefusedError):
            await subscriber.connect("127.0.0.1", port)
        with pytest.raises(AttributeError):
            await subscriber.close()

    run(main)


def test_the_end_of_the_connection_ends_reception_and_is_told() -> None:
    async def main() -> None:
        notifier = Notifier({})
        told, left = Told(), Told()
        subscriber = Subscriber("n", same, told, left)
        for count in (1, 2):
            async with publishing({"n": notifier}) as port:
                await subscriber.connect("127.0.0.1", port)
                await told.wait(count)
            await asyncio.wait({subscriber.receive_task})
            await asyncio.wait_for(subscriber.receive_task, None)
            assert len(left.values) == count
            await subscriber.close()
            assert subscriber.disconnect_cb is None
            subscriber.disconnect_cb = left
        assert [mod["action"] for mod in told.values] == ["init", "init"]

    run(main)


def test_a_name_that_is_not_published_ends_the_connection() -> None:
    async def main() -> None:
        left = Told()
        subscriber = Subscriber("other", same, None, left)
        async with publishing({"n": Notifier({})}) as port:
            await subscriber.connect("127.0.0.1", port)
            await subscriber.receive_task
            assert len(left.values) == 1
            await subscriber.close()

    run(main)


def test_nothing_is_left_when_reception_has_ended_and_nobody_closes() -> None:
    async def main() -> None:
        subscriber = Subscriber("other", same)
        async with publishing({"n": Notifier({})}) as port:
            for _ in range(2):
                await subscriber.connect("127.0.0.1", port)
                await subscriber.receive_task
        assert asyncio.get_running_loop() not in _guest.guests

    run(main)


def test_closing_is_not_told() -> None:
    async def main() -> None:
        told, left = Told(), Told()
        subscriber = Subscriber("n", same, told, left)
        async with publishing({"n": Notifier({})}) as port:
            await subscriber.connect("127.0.0.1", port)
            await told.wait(1)
            task = subscriber.receive_task
            await subscriber.close()
            assert task.cancelled()
            assert left.values == []

    run(main)


def test_the_task_can_be_cancelled() -> None:
    async def main() -> None:
        told, left = Told(), Told()
        subscriber = Subscriber("n", same, told, left)
        async with publishing({"n": Notifier({})}) as port:
            await subscriber.connect("127.0.0.1", port)
            await told.wait(1)
            subscriber.receive_task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await subscriber.receive_task
            assert len(left.values) == 1
            await subscriber.close()

    run(main)


@pytest.mark.parametrize("error", [ConnectionResetError("a callback's own"), asyncio.CancelledError()])
def test_a_callback_that_fails_ends_reception_and_is_logged(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        def fail(mod: Any) -> None:
            raise error

        left = Told()
        subscriber = Subscriber("n", same, [fail], left)
        async with publishing({"n": Notifier({})}) as port:
            await subscriber.connect("127.0.0.1", port)
            await subscriber.receive_task
            assert len(left.values) == 1
            await subscriber.close()

    run(main)
    (record,) = (record for record in caplog.records if record.name == "sipyco.sync_struct")
    assert record.getMessage() == "Exception in notifier callback"
    assert record.levelno == logging.ERROR


def test_a_builder_that_fails_fails_the_task_and_close() -> None:
    async def main() -> None:
        def fail(structure: Any) -> Any:
            raise ValueError("so it is")

        left = Told()
        subscriber = Subscriber("n", fail, None, left)
        async with publishing({"n": Notifier({})}) as port:
            await subscriber.connect("127.0.0.1", port)
            with pytest.raises(ValueError, match="so it is"):
                await subscriber.receive_task
            assert len(left.values) == 1
            with pytest.raises(ValueError, match="so it is"):
                await subscriber.close()
            assert not hasattr(subscriber, "writer")

    run(main)


def test_a_subclass_with_several_bases_is_a_subscriber() -> None:
    class Model:
        def __init__(self) -> None:
            self.model: Any = None

        def _create_model(self, structure: Any) -> Any:
            self.model = structure
            return self.model

    class ModelSubscriber(Model, Subscriber):
        def __init__(self, name: str, told: Told) -> None:
            Model.__init__(self)
            Subscriber.__init__(self, name, self._create_model, told)

    async def main() -> None:
        told = Told()
        subscriber = ModelSubscriber("n", told)
        async with publishing({"n": Notifier({"key": 1})}) as port:
            await subscriber.connect("127.0.0.1", port)
            await told.wait(1)
            assert subscriber.model == {"key": 1}
            await subscriber.close()

    run(main)


def test_tls(tmp_path: Path) -> None:
    Certificates(tmp_path)

    def config(own: str, peer: str) -> SimpleSSLConfig:
        paths = (tmp_path / f"{own}.pem", tmp_path / f"{own}.key", tmp_path / f"{peer}.pem")
        return SimpleSSLConfig(*map(str, paths))

    async def main() -> None:
        publisher = Publisher({"n": Notifier({})})
        await publisher.start("127.0.0.1", 0, config("server", "client"))
        told = Told()
        subscriber = Subscriber("n", same, told)
        await subscriber.connect(
            "127.0.0.1", port_of(publisher), lambda: None, ssl_config=config("client", "server")
        )
        await told.wait(1)
        assert subscriber.writer.get_extra_info("peername")[1] == port_of(publisher)
        await subscriber.close()
        await publisher.stop()

    run(main)
