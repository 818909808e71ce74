"""Portals at the end of the interpreter, and after a fork: programs of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.unmeasured import unmeasured_environment

ROOT = Path(__file__).parents[2]

PRELUDE = """
import atexit, os, sys, threading, time
import contextlib
import trio

async def echo(value):
    await trio.lowlevel.checkpoint()
    return value

@contextlib.asynccontextmanager
async def block():
    try:
        yield "value"
    finally:
        print("left", flush=True)
"""

forks = pytest.mark.skipif(sys.platform == "win32", reason="there is no os.fork")


def _run(program: str, status: int = 0) -> list[str]:
    """What a program printed, line by line; not a word of complaint, and the status that is expected."""
    ended = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            PRELUDE + textwrap.dedent(program),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stderr, ended.returncode) == ("", status)
    return ended.stdout.splitlines()


def test_calls_that_wait_at_the_end() -> None:
    # The main thread ends while a daemon thread waits for ever, and another thread for something that comes.
    assert _run("""
        def registered_before():
            opened.close()
            try:
                portal.call(echo, 1)
            except RuntimeError as error:
                print("before:", error)

        atexit.register(registered_before)
        from trionet_compat.portal import current_portal
        portal = current_portal()
        opened = portal.open(block())
        atexit.register(lambda: print("after:", portal.call(echo, 2)))

        waiting = threading.Semaphore(0)
        released = trio.Event()

        async def wait_forever():
            waiting.release()
            await trio.sleep_forever()

        async def wait():
            waiting.release()
            await released.wait()
            return "waited"

        threading.Thread(target=portal.call, args=(wait_forever,), daemon=True).start()
        threading.Thread(target=lambda: print(portal.call(wait))).start()
        waiting.acquire()
        waiting.acquire()

        def release():
            threading.main_thread().join()
            portal.call_sync(released.set)

        threading.Thread(target=release).start()
    """) == ["waited", "after: 2", "left", "before: the portal has been closed"]


def test_a_daemon_thread_that_calls_after_the_end_is_stopped_where_it_is() -> None:
    assert _run("""
        def is_stopped():
            frame = sys._current_frames().get(thread.ident)
            while frame is not None and frame.f_code.co_name != "_stop_daemon":
                frame = frame.f_back
            return frame is not None

        def registered_before():
            while thread.is_alive() and not is_stopped():
                thread.join(0.01)
            print("still there:", thread.is_alive())

        atexit.register(registered_before)
        from trionet_compat.portal import current_portal
        portal = current_portal()

        def call():
            portal._thread.join()
            portal.call(echo, 1)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
    """) == ["still there: True"]


def test_what_is_open_at_the_end_is_left() -> None:
    assert _run(
        """
        from trionet_compat.portal import current_portal
        opened = current_portal().open(block())
        atexit.register(opened.close)
        sys.exit(3)
    """,
        status=3,
    ) == ["left"]


def test_calls_that_nobody_ends() -> None:
    # A clock that fails stops Trio where it is: it does not even cancel its tasks.
    assert _run("""
        from trionet_compat.portal import PortalClosed, open_portal

        class Clock(trio.abc.Clock):
            broken = False
            def start_clock(self): pass
            def deadline_to_sleep_time(self, deadline): return 999
            def current_time(self):
                if self.broken:
                    raise ValueError("out of time")
                return 0.0

        def wait():
            try:
                portal.call(trio.sleep_forever)
            except PortalClosed as error:
                heard.append("ended" in str(error))

        heard = []
        clock = Clock()
        sys.unraisablehook = lambda _: None  # complaints about what Trio did not end
        try:
            with open_portal(clock=clock) as portal:
                threads = [threading.Thread(target=wait) for _ in range(3)]
                for thread in threads:
                    thread.start()
                while portal.call_sync(lambda: len(portal._pending)) < 4:
                    pass
                clock.broken = True
                portal.run_soon(lambda: None)
                for thread in threads:
                    thread.join()
        except trio.TrioInternalError:
            print("told", heard, flush=True)
        portal._closed = None  # as another thread sees it that asks at the same moment
        portal.run_soon(lambda: None)
        try:
            portal.call(trio.sleep, 0)
        except PortalClosed as error:
            print(error, flush=True)
        os._exit(0)
    """) == ["told [True, True, True]", "the portal has ended"]


@forks
def test_children_of_a_fork_make_portals_of_their_own() -> None:
    assert _run("""
        from trionet_compat import portal as module
        from trionet_compat.portal import PortalClosed, current_portal

        portal = current_portal()
        opened = portal.open(block())
        portal.call(trio.to_thread.run_sync, os.getpid)  # Trio has a thread in store
        waiting = threading.Event()
        released = trio.Event()

        async def wait():
            waiting.set()
            await released.wait()

        def fork(leave):
            sys.stdout.flush()
            child = os.fork()
            if child:
                print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
                return
            try:
                portal.call(echo, 1)
            except PortalClosed as error:
                print("fork" in str(error))
            portal.close()
            opened.close()
            opened.abandon()
            another = current_portal()
            kept = another.open(block())
            print(another.call(echo, "child"), another is portal)
            another.call(trio.to_thread.run_sync, os.getpid)
            sys.stdout.flush()
            leave(3)

        thread = threading.Thread(target=portal.call, args=(wait,))
        thread.start()
        waiting.wait()
        fork(os._exit)
        with module._portals.lock:  # as if held by another thread
            fork(sys.exit)
        print(portal.call(echo, "parent"), flush=True)
        portal.call_sync(released.set)
        thread.join()
    """) == [
        *("True", "child False", "status 3"),
        *("True", "child False", "left", "status 3"),
        *("parent", "left"),
    ]


@forks
def test_ctrl_c_ends_a_program_that_waits() -> None:
    import signal

    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PRELUDE
            + textwrap.dedent("""
            from trionet_compat.portal import current_portal

            async def wait():
                print("waiting", flush=True)
                try:
                    await trio.sleep_forever()
                finally:
                    print("cancelled", flush=True)

            current_portal().call(wait)
        """),
        ],
        cwd=ROOT,
        env=unmeasured_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(signal.SIGINT)
        output, complaints = program.communicate(timeout=60)
    assert output == "cancelled\n"
    assert complaints.endswith("KeyboardInterrupt\n")
    assert complaints.count("Traceback") == 1
    assert program.returncode == -signal.SIGINT
