"""The child's end of the pipes, for Trio and for blocking code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.front.piped import nothing_stays, open_child
from trionet.pipes.child import BlockingParentPipe, open_parent_pipe
from trionet.wire.errors import ConnectionLost, RemoteProtocolError

__all__ = ["nothing_stays"]

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="pipes need POSIX"),
    pytest.mark.usefixtures("nothing_stays"),
]

LARGE = bytes(range(11, 256)) * 4500  # 1.1 MB without LF, much more than a pipe holds


# The child's end.

malformed = pytest.mark.parametrize(
    "address",
    [
        "",
        "5",
        "5,",
        "5,5",
        "05,5",
        "-5,8",
        "5,8,9",
        "5;8",
        "5,8\n",
        " 5,8",
        "5,٨",
        "\u0665,8",
        "5,9999999999999999999",
        "9999999999999999999,5",
        "\\\\.\\pipe\\x",
    ],
)


@malformed
async def test_malformed_addresses(address: str) -> None:
    with pytest.raises(ValueError, match="is no address of a pipe"):
        BlockingParentPipe(address)
    with pytest.raises(ValueError, match="is no address of a pipe"):
        async with open_parent_pipe(address):
            pytest.fail("opened")


def test_descriptors_that_are_no_pipes() -> None:
    with open(os.devnull) as file:
        for fd in (file.fileno(), 987_654, 999_999_998):
            with pytest.raises(OSError, match=f"descriptor {fd} .* is no open pipe") as caught:
                BlockingParentPipe(f"{fd},{fd + 1}")
            assert caught.value.errno == errno.EBADF


async def test_the_pipes_are_not_inherited_any_further() -> None:
    async with open_child("list_inherited") as child:
        assert await child.read_line() == b"[]"


@pytest.fixture
def ends() -> Iterator[tuple[str, int, int]]:
    """Pipes within this process: the address, the parent's descriptors to read from and to write to."""
    their_reader, our_writer = os.pipe()
    our_reader, their_writer = os.pipe()
    yield f"{their_reader},{their_writer}", our_reader, our_writer
    for fd in (our_reader, our_writer):
        with contextlib.suppress(OSError):  # closed by the test
            os.close(fd)


Ends = tuple[str, int, int]


async def test_the_parent_is_gone(ends: Ends) -> None:
    address, our_reader, our_writer = ends
    async with open_parent_pipe(address) as parent:
        os.write(our_writer, b"one\nhalf a li")
        os.close(our_writer)
        os.close(our_reader)
        assert await parent.read_line() == b"one"
        with pytest.raises(ConnectionLost, match=r"parent has closed the pipe, or is gone, in the middle"):
            await parent.read_line()
        with pytest.raises(ConnectionLost, match="parent has closed the pipe, or is gone"):
            await parent.write_line(b"anybody there?")


def test_the_parent_is_gone_blocking(ends: Ends) -> None:
    address, our_reader, our_writer = ends
    with BlockingParentPipe(address) as parent:
        os.write(our_writer, b"one\nhalf a li")
        os.close(our_writer)
        os.close(our_reader)
        assert parent.read_line() == b"one"
        with pytest.raises(ConnectionLost, match=r"parent has closed the pipe, or is gone, in the middle"):
            parent.read_line()
        assert list(parent) == []
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                parent.write_line(b"anybody there?")


def test_wrong_lines_blocking(ends: Ends) -> None:
    address, our_reader, our_writer = ends
    with BlockingParentPipe(address, max_line_size=3) as parent:
        with pytest.raises(ValueError, match="line feed"):
            parent.write_line(b"two\nlines")
        parent.write_line(b"one")
        assert os.read(our_reader, 100) == b"one\n"
        os.write(our_writer, b"one\nfour\n")
        assert parent.read_line() == b"one"
        with pytest.raises(RemoteProtocolError, match="3 are allowed"):
            parent.read_line()
    parent.close()
    with pytest.raises(ValueError, match="closed"):
        parent.write_line(b"x")


def test_non_blocking_descriptors_are_made_blocking(ends: Ends) -> None:
    address, _, our_writer = ends
    their_reader = int(address.partition(",")[0])
    os.set_blocking(their_reader, False)
    with BlockingParentPipe(address) as parent:
        assert os.get_blocking(their_reader)
        os.write(our_writer, b"one\n")
        assert parent.read_line() == b"one"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_ctrl_c_while_reading_loses_nothing(ends: Ends) -> None:
    address, _, our_writer = ends

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    with BlockingParentPipe(address) as parent:
        os.write(our_writer, b"half ")
        previous = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                parent.read_line()
        finally:
            signal.signal(signal.SIGALRM, previous)
        os.write(our_writer, b"a line\n")
        assert parent.read_line() == b"half a line"


def read_lines(fd: int, number: int) -> list[bytes]:
    received = bytearray()
    while received.count(b"\n") < number:
        received += os.read(fd, 1_000_000)
    return bytes(received).splitlines()


def test_lines_of_several_threads_stay_whole(ends: Ends) -> None:
    address, our_reader, _ = ends
    lines = [bytes([letter]) * 1_000_000 for letter in b"abc"]
    with BlockingParentPipe(address) as parent:
        threads = [threading.Thread(target=parent.write_line, args=(line,)) for line in lines]
        for thread in threads:
            thread.start()
        assert {*read_lines(our_reader, 3)} == {*lines}
        for thread in threads:
            thread.join()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_a_signal_while_writing_that_changes_nothing(ends: Ends) -> None:
    address, our_reader, _ = ends
    handled = threading.Event()
    received: list[bytes] = []

    def read() -> None:
        handled.wait()  # the pipe is full by then, and a part of the line in it
        received.extend(read_lines(our_reader, 1))

    with BlockingParentPipe(address) as parent:
        reader = threading.Thread(target=read)
        previous = signal.signal(signal.SIGALRM, lambda number, frame: handled.set())
        try:
            reader.start()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            parent.write_line(b"x" * 1_000_000)
        finally:
            signal.signal(signal.SIGALRM, previous)
        reader.join()
    assert received == [b"x" * 1_000_000]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_ctrl_c_while_writing_cuts_the_line_off(ends: Ends) -> None:
    address, _, _ = ends

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    with BlockingParentPipe(address) as parent:
        previous = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                parent.write_line(LARGE)
        finally:
            signal.signal(signal.SIGALRM, previous)
        with pytest.raises(ConnectionLost, match="not completed"):
            parent.write_line(b"next")
