"""A controller and its client on two simulated PCs: ``pytest examples/10_a_lab_in_a_test.py``."""

import pytest
import trio

import trionet
from trionet.testing import Lab


class Shutter:
    """The controller under test: a shutter that takes ten seconds to open."""

    def __init__(self) -> None:
        self._open = False

    async def open(self) -> None:
        """Open the shutter, and return when it is open."""
        await trio.sleep(10)
        self._open = True

    def is_open(self) -> bool:
        """Whether it is open."""
        return self._open


async def serve_shutter(*, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
    """Be the program on the shutter's PC; other PCs may connect."""
    await trionet.serve_rpc({"shutter": Shutter()}, 3251, host=None, task_status=task_status)


@pytest.mark.trio
@pytest.mark.lab(latency=0.25)
async def test_a_slow_link_adds_a_round_trip(lab: Lab) -> None:
    await lab.host("shutter-pc").start(serve_shutter)
    with lab.host("lab-pc").entered():
        async with trionet.open_rpc_client("shutter-pc", 3251) as shutter:
            started = trio.current_time()
            await shutter.call("open")
            assert trio.current_time() - started == pytest.approx(10.5)


@pytest.mark.trio
async def test_a_short_outage_does_no_harm(lab: Lab) -> None:
    await lab.host("shutter-pc").start(serve_shutter)
    with lab.host("lab-pc").entered():
        async with trionet.open_rpc_client("shutter-pc", 3251) as shutter:
            lab.partition("shutter-pc", "lab-pc")
            with trio.move_on_after(5) as patience:
                await shutter.call("open")
            assert patience.cancelled_caught
            lab.repair()
            # TCP sends again what was lost: the request, and then this one.
            assert await shutter.call("is_open") is True


@pytest.mark.trio
async def test_a_power_cut_closes_the_shutter(lab: Lab) -> None:
    shutter_pc = lab.host("shutter-pc")
    await shutter_pc.start(serve_shutter)
    with lab.host("lab-pc").entered():
        async with trionet.open_rpc_client("shutter-pc", 3251) as shutter:
            await shutter.call("open")
            shutter_pc.restart()
            await shutter_pc.start(serve_shutter)
            with pytest.raises(trionet.ConnectionLost):
                await shutter.call("is_open")
        async with trionet.open_rpc_client("shutter-pc", 3251) as shutter:
            assert await shutter.call("is_open") is False
