"""A controller tested without sockets or waiting: ``pytest examples/04_testing_a_controller.py``."""

import pytest
import trio
import trio.testing

from trionet.testing import open_memory_rpc_client


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


@pytest.mark.trio
async def test_opening_takes_ten_seconds(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rpc_client({"shutter": Shutter()}) as shutter:
        started = trio.current_time()
        await shutter.call("open")
        # Simulated seconds: the clock jumps whenever everybody waits, so this takes milliseconds.
        assert trio.current_time() - started == 10
        assert await shutter.call("is_open") is True


@pytest.mark.trio
async def test_giving_up_early_does_not_stop_the_shutter(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rpc_client({"shutter": Shutter()}) as shutter:
        with trio.move_on_after(1) as patience:
            await shutter.call("open")
        assert patience.cancelled_caught
        # Calls of one connection are executed in order: this one waits until the shutter is open.
        assert await shutter.call("is_open") is True
        assert trio.current_time() == pytest.approx(10)


@pytest.mark.trio
async def test_errors_arrive_as_they_were_raised() -> None:
    async with open_memory_rpc_client({"shutter": Shutter()}) as shutter:
        with pytest.raises(TypeError, match="positional argument"):
            await shutter.call("open", "wide")
