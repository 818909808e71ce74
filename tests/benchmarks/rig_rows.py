"""Rigs: confirmed messages between two processes, and many rigs started together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from tests.benchmarks._rounds import Measure, Open, Quantity, Run, compare
from tests.benchmarks._table import Entry, at_least, at_most
from tests.benchmarks._workers import PeerFailed, Worker

#: The programs in `peers`. Each is ``PROGRAM rigs SCHEME COUNT`` and ``PROGRAM controller SCHEME PORT...``.
PROGRAMS = {"trionet": "trionet_rig", "trionet_compat": "compat_rig", "iblutil": "iblutil_rig"}

_MANY = 32
_LATENCY = 0.02


def start_rigs(stack: ExitStack, peer: str, scheme: str, count: int) -> tuple[Worker, list[int]]:
    """A process with so many rigs; their ports."""
    rigs = stack.enter_context(Worker(PROGRAMS[peer], "rigs", scheme, str(count)))
    return rigs, rigs.hello()["ports"]


def _start_controller(stack: ExitStack, peer: str, scheme: str, ports: Sequence[int]) -> Worker:
    controller = stack.enter_context(Worker(PROGRAMS[peer], "controller", scheme, *map(str, ports)))
    controller.hello()
    return controller


def sends(run: Run, scheme: str, controller: str, rig: str) -> Open:
    """Messages per second, one after the other: each is sent when the echo of the one before has come.

    The rig counts them in a callback.
    """

    def start(stack: ExitStack) -> Measure:
        receiving, ports = start_rigs(stack, rig, scheme, 1)
        sending = _start_controller(stack, controller, scheme, ports)

        def measure() -> dict[str, float]:
            result = sending.ask(do="send", seconds=run.seconds)
            if receiving.ask(do="check")["received"] != result["sent"]:
                raise PeerFailed("not every message that was confirmed has reached a callback")
            return {"sends": result["rate"]}

        return measure

    return start


def confirmed_sends(run: Run) -> Iterator[Entry]:
    """Both ends of each side; and each side with the other, over UDP, against upstream alone."""

    def row(name: str, scheme: str, controller: str, rig: str, **goals: float) -> Iterator[Entry]:
        quantity = Quantity(
            "sends", name, "sends/s", {peer: at_least(bound) for peer, bound in goals.items()}
        )
        ours, theirs = sends(run, scheme, controller, rig), sends(run, scheme, "iblutil", "iblutil")
        return compare(run, "iblutil", ours, theirs, [quantity])

    yield from row("rigs, confirmed sends over UDP", "udp", "trionet", "trionet", iblutil=1)
    yield from row("- over TCP", "tcp", "trionet", "trionet")
    yield from row("- over UDP, from iblutil to our rig", "udp", "iblutil", "trionet")
    yield from row("- over UDP, from us to iblutil's rig", "udp", "trionet", "iblutil")


def starts(run: Run, peer: str, count: int, latency: float = 0.0) -> Open:
    """Starting rigs concurrently, over UDP: from the call until the last rig has responded.

    All rigs are in one process and respond at once, in their callback. With a latency, every datagram
    between the controller and each rig is so many seconds on its way: the message, its echo, the response
    and the echo of that. Another process holds them back (`peers.slow_wire`), and all of them at the same
    time, as wires of their own would; so a rig alone takes two latencies, and what is more than that with
    many is work that somebody has waited for, on either side.
    """

    def start(stack: ExitStack) -> Measure:
        _, ports = start_rigs(stack, peer, "udp", count)
        if latency:
            wire = stack.enter_context(Worker("slow_wire", str(latency), *map(str, ports)))
            ports = wire.hello()["ports"]
        controller = _start_controller(stack, peer, "udp", ports)

        def measure() -> dict[str, float]:
            time = controller.ask(do="start", seconds=run.seconds)["time"]
            return {"starts": 1 / time, "milliseconds": 1000 * time}

        return measure

    return start


def ten_rigs(run: Run) -> Iterator[Entry]:
    """A large laboratory."""
    quantity = Quantity(
        "starts", "10 rigs started, until the last response", "starts/s", {"iblutil": at_least(1)}
    )
    yield from compare(run, "iblutil", starts(run, "trionet", 10), starts(run, "iblutil", 10), [quantity])


def slow_rigs(run: Run) -> Iterator[Entry]:
    """Whether rigs wait for each other."""
    quantity = Quantity(
        "milliseconds",
        f"{_MANY} rigs started, {1000 * _LATENCY:g} ms away each",
        "ms",
        {"1 rig": at_most(1.3)},
    )
    many, one = (starts(run, "trionet", count, _LATENCY) for count in (_MANY, 1))
    yield from compare(run, "1 rig", many, one, [quantity])


BENCHMARKS = {
    "rig confirmed sends": confirmed_sends,
    "rig ten starts": ten_rigs,
    "rig 32 slow starts": slow_rigs,
}
