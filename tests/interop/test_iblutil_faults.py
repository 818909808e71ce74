"""What breaks iblutil, and not us: messages that cross, echoes that are missed, clients that come and go."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.interop.links import ECHO_TIMEOUT, LINKS, Link, open_link
from tests.interop.peer_process import PATIENCE, Iblutil, Raised, Theirs
from trionet import EchoTimeout, open_rig_communicator, open_rig_listener, open_rig_services

#: Seconds until an echo is missed that will not come.
SOON = 0.1


async def send_at_the_same_moment(
    iblutil: Iblutil, link: Link, ours: str, theirs: str, echo_timeout: float
) -> tuple[str, str]:
    """Both send before either has received; what the senders see, ours first: a type, or nothing."""
    outcomes = {"ours": "", "theirs": ""}

    async def send_ours() -> None:
        try:
            await link.ours.init(ours, echo_timeout=echo_timeout, **link.to_them)
        except OSError as error:
            outcomes["ours"] = type(error).__name__

    async def send_theirs() -> None:
        try:
            await link.theirs.call("init", theirs, **link.to_us)
        except Raised as error:
            outcomes["theirs"] = str(error).partition(":")[0]

    await link.ours.cleanup("quiet now", **link.to_them)  # no gap behind an echo to be waited out any more
    assert await link.theirs.receive() == [8, "quiet now"]
    await iblutil.pause()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_ours)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(send_theirs)
    return outcomes["ours"], outcomes["theirs"]


@pytest.mark.parametrize("kind", LINKS)
async def test_crossing_messages_close_theirs_only(iblutil: Iblutil, kind: str) -> None:
    """Ours takes theirs for a message; theirs takes ours for a bad echo, and closes. A new one is welcome."""
    async with open_link(iblutil, kind) as link:
        outcomes = await send_at_the_same_moment(iblutil, link, "ours", "theirs", SOON)
        assert outcomes[0] in ("EchoTimeout", "ConnectionRefusedError", "ConnectionLost")
        assert outcomes[1] == "RuntimeError"
        assert await link.receive() == [1, "theirs"]
        assert not await link.theirs.do("is_connected")

        scheme, _, port = link.theirs.uri.replace("://127.0.0.1", "").partition(":")
        await link.theirs.do("close")
        if kind.startswith("our rig"):
            again = await iblutil.connect(link.theirs.uri)
            await again.call("cleanup", "again")
            assert await link.receive() == [8, "again"]
        else:
            again = await iblutil.serve(scheme, int(port))
            await link.ours.cleanup("again")
            assert await again.receive() == [8, "again"]


@pytest.mark.parametrize("kind", LINKS)
async def test_crossing_messages_of_the_same_bytes_confirm_each_other(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        assert await send_at_the_same_moment(iblutil, link, "same", "same", ECHO_TIMEOUT) == ("", "")
        await link.settle()
        assert link.theirs.received_nothing()


@pytest.mark.parametrize("kind", LINKS)
async def test_after_a_missed_echo_we_go_on(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        await iblutil.pause()
        with pytest.raises(EchoTimeout):
            await link.ours.init("too late", echo_timeout=SOON, **link.to_them)
        assert await link.theirs.do("is_connected")  # which ends the pause
        assert await link.theirs.receive() == [1, "too late"]
        await link.settle()
        assert link.ours.statistics().late_echoes == 1


@pytest.mark.parametrize("kind", ["our rig, udp", "their rig, udp"])
async def test_attempts_are_messages_to_them(iblutil: Iblutil, kind: str) -> None:
    """All of the copies are received and echoed, and none of the echoes is a message of theirs."""
    async with open_link(iblutil, kind) as link:
        await iblutil.pause()
        with pytest.raises(EchoTimeout):
            await link.ours.init("again", echo_timeout=SOON, attempts=3, **link.to_them)
        assert await link.theirs.do("is_connected")
        assert [await link.theirs.receive() for _ in range(3)] == [[1, "again"]] * 3
        await link.settle()
        assert link.ours.statistics().late_echoes == 3


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_our_rig_has_many_clients(iblutil: Iblutil, scheme: str) -> None:
    """Iblutil's own over TCP has one: the latest."""
    async with open_rig_listener(f"{scheme}://127.0.0.1:0", echo_timeout=ECHO_TIMEOUT) as rig:
        rig.assign_callback("EXPINIT", lambda event: rig.respond(event, event.data))
        clients = [await iblutil.connect(f"{scheme}://127.0.0.1:{rig.port}") for _ in range(5)]

        async def ask(client: Theirs, number: int) -> None:
            await client.call("init", number)
            assert await client.receive() == [1, [number]]

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number, client in enumerate(clients):
                    nursery.start_soon(ask, client, number)


async def test_their_tcp_rig_sends_echoes_to_its_latest_client(iblutil: Iblutil) -> None:
    """To the former one that is a missed echo, to the latest one a message. Both go on."""
    theirs = await iblutil.serve("tcp")
    async with (
        open_rig_communicator(theirs.uri, echo_timeout=ECHO_TIMEOUT) as former,
        open_rig_communicator(theirs.uri, echo_timeout=ECHO_TIMEOUT) as latest,
    ):
        with trio.fail_after(PATIENCE), latest.open_events() as events:
            await latest.init("latest")
            with pytest.raises(EchoTimeout):
                await former.init("former", echo_timeout=SOON)
            assert (await events.receive()).data == ["former"]
            assert [(await theirs.receive())[1] for _ in range(2)] == ["latest", "former"]
            await latest.cleanup()


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_their_rig_is_waited_for(iblutil: Iblutil, scheme: str) -> None:
    theirs = await iblutil.serve(scheme)
    await theirs.do("close")
    port = int(theirs.uri.rpartition(":")[2])
    with trio.fail_after(PATIENCE):
        async with open_rig_services({"camera": theirs.uri}, echo_timeout=SOON) as services:
            with pytest.raises(ExceptionGroup, match="camera"):
                await services.ready(SOON)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(services.ready, PATIENCE)
                there = await iblutil.serve(scheme, port)
            await services["camera"].init(echo_timeout=PATIENCE)
            assert await there.receive() == [1, None]  # the ping before is nothing that they tell anyone


@pytest.mark.parametrize("kind", LINKS)
async def test_they_close_while_we_wait(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        await link.ours.cleanup(**link.to_them)
        await iblutil.pause()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                with pytest.raises(OSError):  # noqa: PT011
                    await link.ours.init(echo_timeout=SOON, **link.to_them)

            await trio.testing.wait_all_tasks_blocked()
            await link.theirs.do("close")
