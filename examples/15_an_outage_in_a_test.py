"""Blocking code through an outage, in no time: ``pytest examples/15_an_outage_in_a_test.py``."""

from collections.abc import Iterator
from functools import partial

import pytest
from trio.testing import MockClock

import trionet
from trionet.testing import VirtualNetwork
from trionet_compat import BestEffortClient
from trionet_compat.portal import Portal, open_portal


class Lamp:
    """A lamp, which must never stop an experiment."""

    def blink(self) -> str:
        return "blinks"


serve_lamp = partial(trionet.serve_rpc, host=None)


@pytest.fixture
def network() -> VirtualNetwork:
    return VirtualNetwork(latency=0.1)


@pytest.fixture
def portal(network: VirtualNetwork) -> Iterator[Portal]:
    """Where blocking objects do their work: with a clock that jumps, on simulated PCs."""
    with open_portal(clock=MockClock(autojump_threshold=0), network=network) as portal:
        yield portal


def test_an_outage(portal: Portal, network: VirtualNetwork) -> None:
    lamp_pc = network.host("lamp-pc")
    portal.call(lamp_pc.start, serve_lamp, {"lamp": Lamp()}, 3252)
    with network.host("lab-pc").entered():
        lamp = BestEffortClient("lamp-pc", 3252, "lamp")
        assert lamp.blink() == "blinks"

        portal.call_sync(lamp_pc.restart)  # the power fails, and nobody serves there when it is back
        assert lamp.blink() is None
        portal.sleep(60)
        assert lamp.blink() is None

        portal.call(lamp_pc.start, serve_lamp, {"lamp": Lamp()}, 3252)
        portal.sleep(5.5)  # it tries again every five seconds
        assert lamp.blink() == "blinks"
        lamp.close_rpc()
