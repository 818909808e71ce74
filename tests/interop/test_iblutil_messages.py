"""Every message to iblutil and from it, in both roles, over UDP and TCP."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.interop.links import LINKS, open_link
from tests.interop.peer_process import PATIENCE, Iblutil, Raised
from trionet import AlyxClient, AlyxToken

REFERENCE = {"date": "2026-03-01", "sequence": "002", "subject": "mouse"}
NESTED = {"list": [1, 2.5, None, True], "text": "Grüße, 鼠 \U0001f401 \x00", "empty": {}}

#: Calls that both have, and what arrives.
CALLS: list[tuple[str, list[Any], dict[str, Any], list[Any]]] = [
    ("init", [], {}, [1, None]),
    ("init", [42], {}, [1, 42]),
    ("init", [NESTED], {}, [1, NESTED]),
    ("start", ["2026-03-01_1_mouse"], {}, [2, "2026-03-01_1_mouse", None]),
    ("start", [REFERENCE, {"trials": 100}], {}, [2, "2026-03-01_2_mouse", {"trials": 100}]),
    ("start", [None], {}, [2, None, None]),
    ("stop", [], {}, [4, None]),
    ("stop", [["now"]], {}, [4, ["now"]]),
    ("stop", [], {"immediately": True}, [16, None]),
    ("stop", ["fire"], {"immediately": True}, [16, "fire"]),
    ("cleanup", [], {}, [8, None]),
    ("cleanup", ["é"], {}, [8, "é"]),
    ("status", [20], {}, [32, 20]),
    ("status", ["STOPPED"], {}, [32, 30]),
    ("info", [0], {}, [64, 0, None]),
    ("info", [10, {"version": [8, 21]}], {}, [64, 10, {"version": [8, 21]}]),
]

ALYX = {
    "base_url": "https://alyx.example.org",
    "user": "ada",
    "_token": {"token": "4157aa52"},
    "is_logged_in": True,
}
TOKEN = AlyxToken("https://alyx.example.org", {"ada": {"token": "4157aa52"}})


def alyx_client() -> AlyxClient:
    return cast(AlyxClient, SimpleNamespace(**ALYX))


@pytest.mark.parametrize("kind", LINKS)
async def test_what_we_send_arrives(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        for method, args, keywords, expected in CALLS:
            await getattr(link.ours, method)(*args, **keywords, **link.to_them)
            assert await link.theirs.receive() == expected
        await link.settle()
        assert link.theirs.received_nothing()


@pytest.mark.parametrize("kind", LINKS)
async def test_what_they_send_arrives(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        for method, args, keywords, expected in CALLS:
            assert await link.theirs.call(method, *args, **keywords, **link.to_us) is None
            assert await link.receive() == expected
        await link.settle()
        statistics = link.ours.statistics()
        assert (statistics.late_echoes, statistics.repeats, statistics.malformed) == (0, 0, 0)


@pytest.mark.parametrize("kind", LINKS)
async def test_unconfirmed(iblutil: Iblutil, kind: str) -> None:
    """Their echo of our message is not taken for a message of theirs."""
    async with open_link(iblutil, kind) as link:
        await link.ours.send([1, "ours"], **link.to_them)
        assert await link.theirs.receive() == [1, "ours"]
        await link.settle()
        assert link.ours.statistics().late_echoes == 1


@pytest.mark.parametrize("kind", LINKS)
async def test_unconfirmed_of_theirs(iblutil: Iblutil, kind: str) -> None:
    """They take our echo for a message, and echo that: with a window, it is delivered once all the same."""
    async with open_link(iblutil, kind, dedup_window=PATIENCE) as link:
        before = link.ours.statistics().received
        await link.theirs.do("send", message=[1, "theirs"], **link.to_us)
        assert await link.receive() == [1, "theirs"]
        await link.ours.init("end", **link.to_them)
        while (message := await link.theirs.receive()) != [1, "end"]:
            assert message == [1, "theirs"]
        assert link.ours.statistics().received == before + 1


@pytest.mark.parametrize("kind", LINKS)
async def test_not_a_number(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        await link.ours.init([math.nan, -math.inf], **link.to_them)
        _, (nan, infinite) = await link.theirs.receive()
        assert math.isnan(nan)
        assert infinite == -math.inf
        await link.theirs.call("init", [math.nan, math.inf], **link.to_us)
        _, (nan, infinite) = await link.receive()
        assert math.isnan(nan)
        assert infinite == math.inf


@pytest.mark.parametrize("kind", LINKS)
async def test_large_messages(iblutil: Iblutil, kind: str) -> None:
    """About as large as iblutil can read at once, over TCP too."""
    async with open_link(iblutil, kind) as link:
        text = "x" * 60_000
        await link.ours.cleanup(text, **link.to_them)
        assert await link.theirs.receive() == [8, text]
        await link.theirs.call("cleanup", text, **link.to_us)
        assert await link.receive() == [8, text]


@pytest.mark.parametrize("kind", ["our rig, tcp", "their rig, tcp"])
async def test_messages_of_theirs_may_be_larger_than_they_can_read(iblutil: Iblutil, kind: str) -> None:
    """Iblutil does not understand our echo, which comes in pieces, but we have got the message."""
    async with open_link(iblutil, kind) as link:
        text = "x" * 1_000_000
        await link.theirs.do("send", message=[8, text], **link.to_us)
        assert await link.receive() == [8, text]


@pytest.mark.parametrize("kind", LINKS)
async def test_we_give_a_token(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        assert await link.ours.alyx(alyx_client(), **link.to_them) is None
        assert await link.theirs.receive() == [128, *TOKEN]


@pytest.mark.parametrize("kind", LINKS)
async def test_they_give_a_token(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        assert await link.theirs.call("alyx", ALYX, **link.to_us) is None
        assert await link.receive() == [128, *TOKEN]


@pytest.mark.parametrize("kind", LINKS)
async def test_we_ask_for_a_token(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        await link.theirs.do("give_token", client=ALYX)
        assert await link.ours.alyx(**link.to_them) == TOKEN
        assert await link.theirs.receive() == [128, None, {}]


@pytest.mark.parametrize("kind", LINKS)
async def test_they_ask_for_a_token(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        link.ours.assign_callback("ALYX", lambda event: link.ours.alyx(alyx_client(), **link.to_them))
        assert await link.theirs.call("alyx", None, **link.to_us) == [*TOKEN]
        assert await link.receive() == [128, None, {}]


@pytest.mark.parametrize("kind", ["our rig, tcp", "their rig, tcp"])
async def test_our_answer_right_behind_our_echo_is_understood(iblutil: Iblutil, kind: str) -> None:
    """They take one read for one message. Without a gap, the answer would be read as part of the echo."""
    async with open_link(iblutil, kind) as link:
        link.ours.assign_callback("EXPINFO", lambda event: link.ours.respond(event, 10, "ready"))
        for number in range(10):
            await link.theirs.call("info", 0, number, **link.to_us)
            assert await link.theirs.receive() == [64, 10, "ready"]


@pytest.mark.parametrize("kind", LINKS)
async def test_their_answers_right_behind_their_echo_are_understood(iblutil: Iblutil, kind: str) -> None:
    """Over TCP, one read may return the echo and all of them. The window is for what is unconfirmed.

    Once only: what they make of several echoes of ours in one read is another matter.
    """
    async with open_link(iblutil, kind, dedup_window=PATIENCE) as link:
        answers = [[1, "[" * count] for count in range(5)]
        await link.theirs.do("answer_at_once", event=8, messages=answers)
        await link.ours.cleanup("data", **link.to_them)
        assert [await link.receive() for _ in answers] == [[*answer, "data"] for answer in answers]


async def test_their_rig_needs_to_be_told_to_whom(iblutil: Iblutil) -> None:
    """What a command raises over there does arrive here: other tests rely on it."""
    theirs = await iblutil.serve("udp")
    with pytest.raises(Raised, match=r"TypeError: .*addr"):
        await theirs.call("init")
