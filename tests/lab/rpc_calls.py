"""Calls whose replies cannot be confused, and a target that notes which it has executed."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

import trio
import trio.testing

import trionet
from tests.lab.servers import EVERYWHERE, PORT, same_time
from trionet.testing import Lab

#: The longest value that a call sends or gets, in bytes.
MAX_SIZE = 2**20


def text_of(number: int, size: int) -> str:
    """A text that belongs to a call, of any size; no other call has the same one of more than some bytes."""
    piece = f"{number}."
    return (piece * (size // len(piece) + 1))[:size]


@dataclass(frozen=True)
class Call:
    """A call, made once.

    Attributes:
        number: No other call has it.
        method: Of `Ledger`.
        seconds: How long the method takes.
        sent: Bytes of the argument.
        received: Bytes of the result.
        deadline: Seconds after which the caller wants it no more.
    """

    number: int
    method: str
    seconds: float
    sent: int
    received: int
    deadline: float


def make_calls(random: Random, count: int) -> list[Call]:
    """Calls of all sizes, most of them small and quick."""

    def size() -> int:
        return int(MAX_SIZE ** random.random())

    def call(number: int) -> Call:
        seconds = random.choice([0.0, 0.0, 0.0, random.uniform(0, 20)])
        method = random.choice(["work", "work", "work", "compute", "fail"])
        deadline = math.exp(random.uniform(math.log(0.01), math.log(60)))
        return Call(number, method, seconds, size(), size(), random.choice([60.0, deadline]))

    return [call(number) for number in range(count)]


class Ledger:
    """The target; one for all starts of a server, so that nothing is forgotten in a crash."""

    def __init__(self) -> None:
        self.executed: Counter[int] = Counter()

    async def work(self, number: int, seconds: float, text: str, size: int) -> list[object]:
        self.executed[number] += 1
        await trio.sleep(seconds)
        return [number, len(text), text_of(number, size)]

    def compute(self, number: int, seconds: float, text: str, size: int) -> list[object]:
        self.executed[number] += 1
        return [number, len(text), text_of(number, size)]

    async def fail(self, number: int, seconds: float, text: str, size: int) -> None:
        self.executed[number] += 1
        await trio.sleep(seconds)
        raise ValueError(text_of(number, size))


def serve_ledger(lab: Lab, ledger: Ledger) -> Callable[..., Awaitable[None]]:
    """The program of a server; whether calls of several clients run at the same time is up to the seed."""
    parallel = lab.random.random() < 0.5
    return partial(trionet.serve_rpc, {"ledger": ledger}, PORT, host=EVERYWHERE, allow_parallel=parallel)


class Caller:
    """Makes calls, each once, over as many connections as it takes.

    Args:
        calls: The calls.
        ledger: The target.
        random: Decides what is not decided yet.

    Attributes:
        outcomes: By number: "answered", "failed" (by the method), "lost" or "too late".
        refusals: Why there was no connection.
    """

    def __init__(self, calls: list[Call], ledger: Ledger, random: Random) -> None:
        self.outcomes: dict[int, str] = {}
        self.refusals: list[Exception] = []
        self._left = deque(calls)
        self._ledger = ledger
        self._random = random

    async def run(self) -> None:
        """Make all calls, connecting again whenever a connection is lost."""
        while self._left:
            began = trio.current_time()
            connected = False
            try:
                async with trionet.open_rpc_client("server", PORT) as client:
                    connected = True
                    async with trio.open_nursery() as nursery:
                        for _ in range(self._random.choice([1, 1, 2, 4, 8])):
                            nursery.start_soon(self._make_calls, client)
                    if client.disconnect_reason is not None:
                        await trio.testing.wait_all_tasks_blocked()
                        assert client.local_host is None  # closed, although the block is not over
            except (OSError, trionet.ConnectionLost) as error:
                assert not connected
                self.refusals.append(error)
                # 10 s to connect, and 10 s for each of the two steps of the handshake.
                assert trio.current_time() - began <= 30
            await trio.sleep(self._random.uniform(0, 3))

    async def _make_calls(self, client: trionet.RpcClient) -> None:
        while self._left and client.disconnect_reason is None:
            call = self._left.popleft()
            self.outcomes[call.number] = await self._make_call(client, call)
            if self._random.random() < 0.2:
                await trio.sleep(self._random.uniform(0, 2))

    async def _make_call(self, client: trionet.RpcClient, call: Call) -> str:
        text = text_of(call.number, call.sent)
        began = trio.current_time()
        try:
            with trio.fail_after(call.deadline):
                result = await client.call(call.method, call.number, call.seconds, text, call.received)
        except trio.TooSlowError:
            assert same_time(trio.current_time(), began + call.deadline)
            return "too late"
        except trionet.ConnectionLost:
            assert client.disconnect_reason is not None
            return "lost"
        except ValueError as error:
            outcome, result = "failed", str(error)
        else:
            outcome = "answered"
        finally:
            assert trio.current_time() < began + call.deadline + 1e-6
        text = text_of(call.number, call.received)
        assert result == (text if call.method == "fail" else [call.number, call.sent, text])
        assert outcome == ("failed" if call.method == "fail" else "answered")
        assert self._ledger.executed[call.number] == 1
        return outcome
