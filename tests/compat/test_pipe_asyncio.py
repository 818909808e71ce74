"""The asyncio half of ``trionet_compat.sipyco.pipe_ipc``."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from tests.compat.asyncio_programs import run
from trionet_compat.sipyco._pipe_asyncio import AsyncioChildComm, AsyncioParentComm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")

CHILD = """
import asyncio, sys
from trionet_compat.sipyco._pipe_asyncio import AsyncioChildComm
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # machines are slow
    comm = AsyncioChildComm(sys.argv[1])
    await comm.connect()
    while line := await comm.readline():
        comm.write(line.upper())
        await comm.drain()
        if line == b"end\\n":
            break
    comm.close()
asyncio.run(main())
"""

# Knows nothing of this package, to be quick.
PLAIN_CHILD = """
import os, sys
r, w = map(int, sys.argv[1].split(","))
print("printed", flush=True)
os.write(w, os.read(r, 100))
"""


def test_a_child_answers_lines() -> None:
    async def main() -> None:
        comm = AsyncioParentComm()
        await comm.create_subprocess(
            sys.executable, "-X", "dev", "-W", "error", "-c", CHILD, comm.get_address(), stderr=-1
        )
        comm.write(b"hello\n")
        await comm.drain()
        assert await comm.readline() == b"HELLO\n"
        comm.write(b"end\n")
        assert await comm.read(100) == b"END\n"
        assert await comm.readline() == b""
        assert comm.process.stderr is not None
        assert await comm.process.stderr.read() == b""
        assert await comm.process.wait() == 0

    run(main)


def test_the_streams_of_the_process_are_those_of_asyncio_and_its_death_is_an_end() -> None:
    async def main() -> None:
        comm = AsyncioParentComm()
        await comm.create_subprocess(
            sys.executable, "-I", "-S", "-c", PLAIN_CHILD, comm.get_address(), stdout=asyncio.subprocess.PIPE
        )
        assert comm.process.stdout is not None
        assert await comm.process.stdout.readline() == b"printed\n"
        comm.process.kill()
        assert await comm.read(10) == b""
        await comm.process.wait()

    run(main)


def test_the_end_of_the_child_closes_the_pipe_although_others_have_it_open() -> None:
    async def main() -> None:
        comm = AsyncioParentComm()
        other = os.dup(comm._child_fds[0])
        try:
            await comm.create_subprocess("true", comm.get_address())
            await comm.process.wait()
            await comm._closing
            assert comm._writer.is_closing()
            assert await comm.readline() == b""
        finally:
            os.close(other)

    run(main)


def test_a_child_that_cannot_be_started_leaves_nothing_open() -> None:
    async def main() -> None:
        comm = AsyncioParentComm()
        with pytest.raises(FileNotFoundError):
            await comm.create_subprocess("/no/such/program", comm.get_address())
        descriptors.extend(map(int, comm.get_address().split(",")))

    descriptors: list[int] = []
    run(main)
    for fd in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_program_that_is_no_child_cannot_connect() -> None:
    with pytest.raises(ValueError, match="no address"):
        asyncio.run(AsyncioChildComm("nonsense").connect())
