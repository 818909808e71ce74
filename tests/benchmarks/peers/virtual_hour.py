"""A busy laboratory on a virtual network, and how much of a core's time its time takes.

A controller asks each of ten rigs for its status once a second, over UDP: the question, the answer, and an
echo of both. A publisher changes a structure 20 times a second, which five subscribers follow over TCP. Each
of them is on a host of its own, 1 ms away.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from time import process_time

import trio
import trio.testing

import trionet
from tests.benchmarks.peers._live_data import NAME, Arrivals, fingerprint, make_structure
from tests.benchmarks.peers._program import commands, run, say
from tests.benchmarks.peers._rig_session import STATUS, Log
from tests.benchmarks.peers._trio_tasks import run_all
from trionet import ExpMessage
from trionet.testing import Lab

RIGS = 10
SUBSCRIBERS = 5
MODS_PER_SECOND = 20

#: Of each link, in seconds.
LATENCY = 0.001

_PORT = 3250
_EVERYWHERE = "0.0.0.0"

# Virtual seconds within which everything that was sent has arrived, if it arrives at all.
_LEEWAY = 10.0


async def be_rig(log: Log, task_status: trio.TaskStatus[None]) -> None:
    """Answer the controller's questions, and log them."""
    async with trionet.open_rig_listener(f"udp://{_EVERYWHERE}") as rig:

        async def answer(event: trionet.RigEvent) -> None:
            log.note(event.data)
            await rig.respond(event, *event.data)

        rig.assign_callback(ExpMessage.EXPSTATUS, answer)
        task_status.started()
        await trio.sleep_forever()


async def ask(rig: trionet.RigCommunicator, seconds: int) -> None:
    """Ask a rig for its status once a second."""
    begin = trio.current_time()
    with rig.open_events(ExpMessage.EXPSTATUS) as answers:
        for number in range(seconds):
            await rig.confirmed_send([ExpMessage.EXPSTATUS, STATUS, number])
            answer = await answers.receive()
            if answer.data != [STATUS, number]:
                raise RuntimeError("a wrong answer")
            await trio.sleep_until(begin + number + 1)


class Feed:
    """What is published, and the copies of it.

    Attributes:
        notifier: What is published.
        copies: One for each subscriber.
    """

    def __init__(self) -> None:
        structure, self._change = make_structure("live")
        self.notifier = trionet.Notifier(structure)
        self._mods = 0
        self._came = trio.Event()
        self._arrivals = Arrivals(SUBSCRIBERS, self._came.set)
        self.copies: list[trionet.Subscription] = []

    async def publish(self, task_status: trio.TaskStatus[trionet.Publisher]) -> None:
        """Publish for ever."""
        await trionet.serve_publisher({NAME: self.notifier}, _PORT, host=_EVERYWHERE, task_status=task_status)

    async def subscribe(self, publisher: str, task_status: trio.TaskStatus[None]) -> None:
        """Keep one more copy for ever."""
        count = self._arrivals.counters[len(self.copies)]
        async with trionet.open_subscription(publisher, _PORT, NAME, on_mod=count) as copy:
            self.copies.append(copy)
            task_status.started()
            await trio.sleep_forever()

    async def wait_complete(self) -> None:
        """Wait until each subscriber has got every mod, and compare.

        Raises:
            RuntimeError: if a subscriber got something else.
        """
        with trio.move_on_after(_LEEWAY):
            await self._came.wait()
        if not self._came.is_set():
            raise RuntimeError("not every mod has arrived")
        self._arrivals.check()
        copies = {fingerprint(copy.value) for copy in self.copies}
        if copies != {fingerprint(self.notifier.raw_view)}:
            raise RuntimeError("what the subscribers have is not what was published")

    async def change(self, seconds: int) -> None:
        """Make changes for some time, evenly."""
        count = seconds * MODS_PER_SECOND
        self._came = trio.Event()
        self._arrivals.expect(count, self._came.set)
        begin = trio.current_time()
        for number in range(count):
            self._change(self.notifier, self._mods)
            self._mods += 1
            await trio.sleep_until(begin + (number + 1) / MODS_PER_SECOND)


class Laboratory:
    """All of it, once it runs: see `open_laboratory`.

    Attributes:
        feed: What is published, and followed.
    """

    def __init__(self, lab: Lab, logs: list[Log], feed: Feed, rigs: list[trionet.RigCommunicator]) -> None:
        self._lab = lab
        self._logs = logs
        self._rigs = rigs
        self.feed = feed

    async def work(self, seconds: int) -> dict[str, float]:
        """Be busy for so many virtual seconds. Returns the CPU time, and how many packets were sent.

        Raises:
            EchoTimeout: if a question or an answer was lost.
            RuntimeError: if anything else has not arrived, or not once.
        """
        cpu, entries = process_time(), self._lab.trace.count
        await run_all(partial(self.feed.change, seconds), *(partial(ask, rig, seconds) for rig in self._rigs))
        await self.feed.wait_complete()
        await trio.sleep(_LEEWAY)
        cpu, entries = process_time() - cpu, self._lab.trace.count - entries
        for log in self._logs:
            log.check()
        return {"cpu": cpu, "packets": entries // 2}  # each was sent, and delivered


@contextlib.asynccontextmanager
async def open_laboratory(lab: Lab) -> AsyncIterator[Laboratory]:
    """Start everything; the block runs on the controller's host."""
    logs, feed = [Log() for _ in range(RIGS)], Feed()
    for index, log in enumerate(logs):
        await lab.host(f"rig{index}").start(be_rig, log)
    await lab.host("publisher").start(feed.publish)
    for index in range(SUBSCRIBERS):
        await lab.host(f"subscriber{index}").start(feed.subscribe, "publisher")
    await feed.wait_complete()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(lab.host("controller").entered())
        rigs = [
            await stack.enter_async_context(trionet.open_rig_communicator(f"udp://rig{index}"))
            for index in range(RIGS)
        ]
        yield Laboratory(lab, logs, feed, rigs)


async def obey() -> None:
    """Run the laboratory for as many virtual seconds as each command says."""
    async with Lab(latency=LATENCY) as lab, open_laboratory(lab) as laboratory:
        say(ready=True)
        for command in commands():  # the virtual time stands still until there is one
            say(**await laboratory.work(command["seconds"]))


def program() -> None:
    trio.run(obey, clock=trio.testing.MockClock(autojump_threshold=0))


if __name__ == "__main__":
    run(program)
