"""A lab: a virtual network on a clock that jumps ahead whenever everybody waits."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Self, TypedDict, Unpack

import trio
from trio.testing import MockClock

from trionet.testing._evidence import Evidence
from trionet.testing.network._network import VirtualNetwork


class NetworkSettings(TypedDict, total=False):
    """What can be set of a network as a whole, see `VirtualNetwork`."""

    latency: float
    jitter: float
    loss: float
    duplicate: float
    reorder: float
    bandwidth: float
    allow_real: bool
    trace_length: int


class Lab(VirtualNetwork):
    """A virtual network in a run of Trio with a mock clock: hours of experiment in milliseconds.

    What the fixture ``lab`` gives, and `open_lab`. It is a `VirtualNetwork` in all respects, and takes the
    same arguments; opened in a run with another clock it raises RuntimeError.
    """

    @property
    def clock(self) -> MockClock:
        """The clock of the run. It jumps to the next deadline when all tasks wait, or is moved by hand.

        Raises:
            RuntimeError: outside of a run, or if its clock is another one.
        """
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, MockClock):
            raise RuntimeError(
                "a lab needs a mock clock, as in trio.run(..., clock=trio.testing.MockClock("
                "autojump_threshold=0)); on the real clock, open a virtual network"
            )
        return clock

    async def __aenter__(self) -> Self:
        _ = self.clock
        return await super().__aenter__()


@contextlib.asynccontextmanager
async def open_lab(*, seed: int | str = 0, **settings: Unpack[NetworkSettings]) -> AsyncIterator[Lab]:
    """A lab, for programs and tests that call `trio.run` themselves.

        for seed in range(200):
            trio.run(experiment, seed, clock=trio.testing.MockClock(autojump_threshold=0))

    Args:
        seed: As of `VirtualNetwork`.
        **settings: Likewise: latency, loss and so on.

    What leaves the block is as of `open_virtual_network`. Unless it is a cancellation, it gets a note that
    tracebacks show: the seed, the last packets, and the sockets that were open at the end of the block.

    Raises:
        RuntimeError: outside of a run, if its clock is no mock clock, or if another network is open.
    """
    lab = Lab(seed=seed, **settings)
    evidence = Evidence(lab)
    try:
        async with lab:
            with evidence.secured_in_time():
                yield lab
    except BaseException as error:
        if evidence.secured and not isinstance(error, trio.Cancelled):
            error.add_note(f"virtual network with seed {seed!r}\n{evidence}")
        raise
