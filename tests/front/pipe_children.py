"""Programs that the tests of pipes start: ``python -m tests.front.pipe_children ROLE ADDRESS ...``.

What misbehaves does so with descriptors alone, and starts fast: trionet is imported where it is used.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
NUMBERED = 100_000


def command(role: str, *arguments: str) -> list[str]:
    """The command of a role, to be started in `ROOT`, with the place for the address."""
    return [sys.executable, "-m", "tests.front.pipe_children", role, "{address}", *arguments]


def descriptors(address: str) -> tuple[int, int]:
    read_fd, write_fd = address.split(",")
    return int(read_fd), int(write_fd)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def echo_blocking(address: str) -> None:
    from trionet.pipes.child import BlockingParentPipe

    with BlockingParentPipe(address) as parent:
        for line in parent:
            parent.write_line(line)


def echo_trio(address: str) -> None:
    import trio

    from trionet.pipes.child import open_parent_pipe

    async def main() -> None:
        async with open_parent_pipe(address) as parent:
            async for line in parent:
                await parent.write_line(line)

    trio.run(main)


def numbers_blocking(address: str) -> None:
    """Write numbered lines, and check those that are read meanwhile."""
    from trionet.pipes.child import BlockingParentPipe

    with BlockingParentPipe(address) as parent:

        def write() -> None:
            for number in range(NUMBERED):
                parent.write_line(b"%d" % number)

        writer = threading.Thread(target=write)
        writer.start()
        for number in range(NUMBERED):
            assert parent.read_line() == b"%d" % number
        writer.join()


def numbers_trio(address: str) -> None:
    import trio

    from trionet.pipes.child import open_parent_pipe

    async def main() -> None:
        async with open_parent_pipe(address) as parent, trio.open_nursery() as nursery:

            @nursery.start_soon
            async def write() -> None:
                for number in range(NUMBERED):
                    await parent.write_line(b"%d" % number)

            for number in range(NUMBERED):
                assert await parent.read_line() == b"%d" % number

    trio.run(main)


def cat(address: str) -> None:
    """Give back what comes, until the end."""
    read_fd, write_fd = descriptors(address)
    with contextlib.suppress(BrokenPipeError):
        while data := os.read(read_fd, 65536):
            os.write(write_fd, data)


def say_and_exit(address: str, status: str, text: str = "") -> None:
    """Write a text, and leave with a status, as one that has failed; or die of the signal ``-status``."""
    os.write(descriptors(address)[1], text.encode())
    if int(status) < 0:
        os.kill(os.getpid(), -int(status))
    os._exit(int(status))


def stubborn(address: str, at_sigterm: str = "") -> None:
    """Read nothing, and ignore SIGTERM; or pass it on to the parent as Ctrl-C."""

    def terminated(number: int, frame: object) -> None:
        if at_sigterm == "interrupt parent":
            os.kill(os.getppid(), signal.SIGINT)

    signal.signal(signal.SIGTERM, terminated)
    os.write(descriptors(address)[1], b"ready\n")
    while True:
        signal.pause()


def close_and_stay(address: str) -> None:
    """Close the pipes, and run on until SIGTERM."""
    read_fd, write_fd = descriptors(address)
    os.write(write_fd, b"last\n")
    os.close(read_fd)
    os.close(write_fd)
    while True:
        signal.pause()


def leave_grandchild(address: str, status: str) -> None:
    """Leave a process behind that has the pipes and does nothing, until the end of standard input."""
    read_fd, write_fd = descriptors(address)
    subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=(read_fd, write_fd)
    ).returncode = 0  # it is not waited for
    say_and_exit(address, status, "last\nhalf a li")


def launch(address: str) -> None:
    """Run a program that ignores the end, as a launcher does that knows nothing of the pipes."""
    subprocess.run([part.format(address=address) for part in command("close_and_stay")], close_fds=False)


def list_inherited(address: str) -> None:
    """Tell which descriptors a further process would inherit, once the pipe is open."""
    from trionet.pipes.child import BlockingParentPipe

    with BlockingParentPipe(address) as parent:
        inherited = [fd for fd in descriptors(address) if os.get_inheritable(fd)]
        parent.write_line(repr(inherited).encode())


def parent_of_witness(address: str) -> None:
    """Be the parent of a child that prints what it sees, and say when it runs; then wait to be killed."""
    import trio

    from trionet.pipes.parent import open_piped_process

    async def main() -> None:
        async with open_piped_process(command("witness")) as child:
            say((await child.read_line()).decode())
            await trio.sleep_forever()

    trio.run(main)


def read_standard_input(address: str) -> None:
    sys.stdin.read()


def witness(address: str) -> None:
    read_fd, write_fd = descriptors(address)
    os.write(write_fd, b"started\n")
    say(repr(os.read(read_fd, 1)))


def interrupted_parent(address: str, moment: str) -> None:
    """Be interrupted, by Ctrl-C so to say, and tell whether the child has ended nevertheless."""
    import trio

    from trionet.pipes.parent import PipedProcess, open_piped_process

    processes: list[trio.Process] = []
    open_process, send_signal = trio.lowlevel.open_process, PipedProcess._send_signal

    async def open_process_here(*args: Any, **kwargs: Any) -> trio.Process:
        processes.append(await open_process(*args, **kwargs))
        if moment == "starting":
            signal.raise_signal(signal.SIGINT)
        return processes[0]

    def send_signal_here(child: PipedProcess, number: signal.Signals) -> None:
        if moment == "ending":
            signal.raise_signal(signal.SIGINT)
        send_signal(child, number)

    async def main() -> None:
        child_role = command("stubborn", *(["interrupt parent"] if moment == "block and ending" else []))
        async with open_piped_process(child_role, grace=0.1) as child:
            await child.read_line()
            if moment == "block and ending":
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()

    trio.lowlevel.open_process = open_process_here
    PipedProcess._send_signal = send_signal_here  # type: ignore[assignment, method-assign]
    try:
        trio.run(main)
    except KeyboardInterrupt:
        say(f"KeyboardInterrupt, and the child has {'ended' if processes[0].returncode else 'not ended'}")


ROLES: dict[str, Callable[..., None]] = {
    role.__name__: role
    for role in (
        cat,
        close_and_stay,
        echo_blocking,
        echo_trio,
        interrupted_parent,
        launch,
        leave_grandchild,
        list_inherited,
        numbers_blocking,
        numbers_trio,
        parent_of_witness,
        read_standard_input,
        say_and_exit,
        stubborn,
        witness,
    )
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
