"""Services of either side that drive rigs of the other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from tests.interop.links import ECHO_TIMEOUT
from tests.interop.peer_process import PATIENCE, Iblutil, Theirs
from tests.interop.test_iblutil_messages import ALYX, TOKEN, alyx_client
from trionet import (
    ConnectionLost,
    RemoteError,
    RigCommunicator,
    RigEvent,
    RigServices,
    ServicesError,
    open_rig_listener,
    open_rig_services,
)

SCHEMES = ["udp", "tcp"]
NAMES = ["camera", "laser"]

#: What services do, what arrives at the rigs, and whether the last rig is the first to know.
STEPS: list[tuple[str, list[Any], dict[str, Any], list[Any], bool]] = [
    ("init", [{"trials": 3}], {}, [1, {"trials": 3}], False),
    ("start", ["2026-03-01_1_mouse", "data"], {}, [2, "2026-03-01_1_mouse", "data"], False),
    ("status", [20], {}, [32, 20], False),
    ("info", [20, "so far"], {}, [64, 20, "so far"], False),
    ("stop", ["enough"], {}, [4, "enough"], True),
    ("stop", ["fire"], {"immediately": True}, [16, "fire"], True),
    ("cleanup", ["goodbye"], {}, [8, "goodbye"], True),
]

#: What the rigs answer, by event; and what services return of each.
ANSWERS: dict[int, list[Any]] = {
    1: ["ready"],
    2: ["2026-03-01_1_mouse", "running"],
    4: ["stopped"],
    8: ["clean"],
    16: ["at once"],
    32: [30],
    64: [30, "all of it"],
}


@pytest.fixture
def time_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their services lose answers that come before they listen, and on a busy computer they take long to."""
    for transport in ("udp", "tcp"):
        monkeypatch.setattr(f"trionet.rig._{transport}.ANSWER_GAP", 0.1)


class OurRigs:
    """Two listeners that answer."""

    def __init__(self, rigs: list[RigCommunicator]) -> None:
        self.rigs = dict(zip(NAMES, rigs, strict=True))
        self.received: list[tuple[str, list[Any]]] = []
        for rig in rigs:
            rig.assign_callback("EXPINIT", self.answer)
            for event in list(ANSWERS)[1:]:
                rig.assign_callback(event, self.answer)

    async def answer(self, event: RigEvent) -> None:
        self.received.append((event.rig, [event.event, *event.data]))
        await self.rigs[event.rig].respond(event, *ANSWERS[event.event])


@contextlib.asynccontextmanager
async def open_our_rigs(scheme: str) -> AsyncIterator[OurRigs]:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(PATIENCE))
        uri = f"{scheme}://127.0.0.1:0"
        yield OurRigs(
            [
                await stack.enter_async_context(open_rig_listener(uri, name=name, echo_timeout=ECHO_TIMEOUT))
                for name in NAMES
            ]
        )


async def connect_their_services(iblutil: Iblutil, scheme: str, ours: OurRigs) -> tuple[Theirs, list[str]]:
    """Services of theirs for rigs of ours, and how they call our rigs."""
    connected = [await iblutil.connect(f"{scheme}://127.0.0.1:{rig.port}") for rig in ours.rigs.values()]
    return await iblutil.services(*connected), [rig.name for rig in connected]


async def serve_their_rigs(iblutil: Iblutil, scheme: str) -> dict[str, Theirs]:
    """Rigs of theirs that answer."""
    rigs = {name: await iblutil.serve(scheme) for name in NAMES}
    for rig in rigs.values():
        for event, data in ANSWERS.items():
            await rig.do("answer", event=event, data=data)
    return rigs


@contextlib.asynccontextmanager
async def open_our_services(rigs: dict[str, Theirs]) -> AsyncIterator[RigServices]:
    with trio.fail_after(PATIENCE):
        uris = {name: rig.uri for name, rig in rigs.items()}
        async with open_rig_services(
            uris, echo_timeout=ECHO_TIMEOUT, response_timeout=ECHO_TIMEOUT
        ) as services:
            yield services


@pytest.mark.usefixtures("time_to_listen")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("concurrent", [True, False])
async def test_their_services_drive_our_rigs(iblutil: Iblutil, scheme: str, concurrent: bool) -> None:
    async with open_our_rigs(scheme) as ours:
        services, names = await connect_their_services(iblutil, scheme, ours)
        for method, args, keywords, message, reverse in STEPS:
            answers = await services.call(method, *args, concurrent=concurrent, **keywords)
            assert answers == dict.fromkeys(names, ANSWERS[message[0]])
            # Of rigs that are asked at once, any may be the first to look.
            order = sorted(ours.received) if concurrent else ours.received
            assert order == [
                (name, message) for name in (NAMES[::-1] if reverse and not concurrent else NAMES)
            ]
            ours.received.clear()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("concurrent", [True, False])
async def test_our_services_drive_their_rigs(iblutil: Iblutil, scheme: str, concurrent: bool) -> None:
    rigs = await serve_their_rigs(iblutil, scheme)
    async with open_our_services(rigs) as services:
        await services.ready(ECHO_TIMEOUT)
        for method, args, keywords, message, _ in STEPS:
            answers = await getattr(services, method)(*args, concurrent=concurrent, **keywords)
            assert answers == dict.fromkeys(NAMES, ANSWERS[message[0]])
            for rig in rigs.values():
                assert await rig.receive() == message


@pytest.mark.usefixtures("time_to_listen")
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_their_services_give_a_token(iblutil: Iblutil, scheme: str) -> None:
    async with open_our_rigs(scheme) as ours, contextlib.AsyncExitStack() as stack:
        streams = [stack.enter_context(rig.open_events("ALYX")) for rig in ours.rigs.values()]
        services, _ = await connect_their_services(iblutil, scheme, ours)
        await services.call("alyx", ALYX)
        assert [(await stream.receive()).data for stream in streams] == [[*TOKEN]] * 2


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_our_services_give_a_token_and_get_it_back(iblutil: Iblutil, scheme: str) -> None:
    rigs = await serve_their_rigs(iblutil, scheme)
    async with open_our_services(rigs) as services:
        assert await services.alyx(alyx_client()) == dict.fromkeys(NAMES)
        for rig in rigs.values():
            assert await rig.receive() == [128, *TOKEN]
            await rig.do("give_token", client=ALYX)
        assert await services.alyx() == dict.fromkeys(NAMES, TOKEN)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_rig_of_theirs_whose_callback_fails(iblutil: Iblutil, scheme: str) -> None:
    rigs = await serve_their_rigs(iblutil, scheme)
    rigs["broken"] = await iblutil.serve(scheme)
    await rigs["broken"].do("fail", event=2, text="no light")
    async with open_our_services(rigs) as services:
        with pytest.raises(ServicesError) as caught:
            await services.start("2026-03-01_1_mouse")
        (failure,) = caught.value.failed.values()
        assert isinstance(failure, RemoteError)
        assert "no light" in str(failure)
        assert caught.value.responses == dict.fromkeys(NAMES, ANSWERS[2])


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_rig_of_theirs_that_dies(iblutil: Iblutil, second_iblutil: Iblutil, scheme: str) -> None:
    rigs = await serve_their_rigs(iblutil, scheme)
    rigs["mortal"] = await second_iblutil.serve(scheme)
    await rigs["mortal"].do("answer", event=1, data=["ready"])
    async with open_our_services(rigs) as services:
        assert await services.init() == {name: ["ready"] for name in rigs}
        second_iblutil.kill()
        with pytest.raises(ServicesError) as caught:
            await services.start("2026-03-01_1_mouse")
        assert list(caught.value.failed) == ["mortal"]
        expected = ConnectionRefusedError if scheme == "udp" else (ConnectionRefusedError, ConnectionLost)
        assert isinstance(caught.value.failed["mortal"], expected)
        assert caught.value.responses == dict.fromkeys(NAMES, ANSWERS[2])

        # The others go on.
        with pytest.raises(ServicesError) as caught:
            await services.cleanup()
        assert caught.value.responses == dict.fromkeys(NAMES, ANSWERS[8])
