"""The harness on measurements that are made up, and some in earnest. Nothing here looks at times."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import trio.testing

from tests.benchmarks import compat_rig_rows, compat_rpc_rows, feed_rows, lab_rows, object_rows, rig_rows
from tests.benchmarks.__main__ import main
from tests.benchmarks._rounds import Measure, Open, Quantity, Run, alternate, compare
from tests.benchmarks._table import Entry, Goal, Omitted, Row, at_least, at_most, format_table
from tests.benchmarks._workers import PeerFailed, PeerMissing, Worker
from tests.benchmarks.peers._object_calls import Blocking, Carried, answer_commands
from tests.benchmarks.peers._rig_session import REFERENCE, STATUS, Log, Marches
from tests.benchmarks.peers.pinging_hosts import answer_udp, ping_udp
from tests.benchmarks.peers.virtual_hour import LATENCY, RIGS, open_laboratory
from trionet import EchoTimeout
from trionet.testing import DROP, Duplicate, Lab, Rule


def _values(*values: float) -> Open:
    """A measurement that gives these values, one after the other."""
    rest = list(values)

    def measure() -> Mapping[str, float]:
        return {"calls": rest.pop(0)}

    return lambda _: measure


def _failing(error: Exception) -> Open:
    def start(_: ExitStack) -> Measure:
        raise error

    return start


def test_sides_take_turns_and_the_first_does_not_count() -> None:
    order: list[str] = []

    def side(name: str) -> Callable[[], Mapping[str, float]]:
        def measure() -> Mapping[str, float]:
            order.append(name)
            return {"n": len(order)}

        return measure

    ours, theirs = alternate([side("ours"), side("theirs")], rounds=2)
    assert order == ["ours", "theirs"] * 3
    assert ours == {"n": [3, 5]}
    assert theirs == {"n": [4, 6]}


def test_the_ratio_is_that_of_the_medians() -> None:
    quantity = Quantity("calls", "calls", "calls/s", {"peer": at_least(2)})
    [row] = compare(Run(rounds=3), "peer", _values(9, 4, 6, 50), _values(9, 2, 3, 1), [quantity])
    assert isinstance(row, Row)
    assert row.ours == [4, 6, 50]
    assert row.ratio == 3
    assert row.spread == (2, 50)
    assert row.mark == "ok"


@pytest.mark.parametrize(
    ("goal", "mark"),
    [(at_least(2), "ok"), (at_least(2.1), "below"), (at_most(2), "ok"), (at_most(1.9), "below"), (None, "")],
)
def test_marks(goal: Goal | None, mark: str) -> None:
    assert Row("row", "peer", "MB", [2.0], [1.0], goal).mark == mark


def test_goals_belong_to_a_peer() -> None:
    quantity = Quantity("calls", "calls", "calls/s", {"another": at_least(2)})
    [row] = compare(Run(rounds=1), "peer", _values(1, 1), _values(1, 1), [quantity])
    assert isinstance(row, Row)
    assert row.goal is None


@pytest.mark.parametrize(
    ("error", "failed"), [(PeerMissing("not installed"), False), (PeerFailed("crashed"), True)]
)
def test_a_peer_without_a_result_is_a_line_and_no_number(error: Exception, failed: bool) -> None:
    quantity = Quantity("calls", "calls", "calls/s")
    [entry] = compare(Run(), "peer", _values(1), _failing(error), [quantity])
    assert isinstance(entry, Omitted)
    assert entry.failed is failed
    assert format_table([entry]).strip() == f"calls, peer: {entry.reason}"


def test_the_table_is_markdown_with_aligned_columns() -> None:
    rows: list[Entry] = [
        Row("calls", "peer", "calls/s", [12345.0], [100.0], at_least(3)),
        Row("a longer name", "peer", "kB", [5.0], [50.0]),
        Omitted("calls", "other", "left out: not installed"),
    ]
    *table, blank, note = format_table(rows).splitlines()
    assert [line.count("|") for line in table] == [10] * 4
    assert len({len(line) for line in table}) == 1
    assert [cell.strip() for cell in table[2].split("|")[1:-1]] == [
        *("calls", "peer", "12,345", "100", "calls/s", "123.45", "123.45 to 123.45", ">= 3", "ok")
    ]
    assert not blank
    assert note == "calls, other: left out: not installed"


def test_a_peer_that_crashes_says_why() -> None:
    with Worker("trionet_rpc", "client", "no port") as worker, pytest.raises(PeerFailed, match="ValueError"):
        worker.hello()


def test_a_peer_that_is_not_installed_is_missing(tmp_path: Path) -> None:
    with Worker("sipyco_rpc", "server", str(tmp_path)) as worker, pytest.raises(PeerMissing, match="sipyco"):
        worker.hello()


def test_a_row_in_earnest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "pyon v2 nested"]) == 0
    output, _ = capsys.readouterr()
    assert "PYON v2 encode and decode, nested data of 36 kB" in output
    assert "sipyco: left out: no checkout given" in output


_SMALL = Run(rounds=1, seconds=0.02, scale=0.01)


@pytest.mark.parametrize(
    "measurement",
    [
        feed_rows.delivery(_SMALL, "trionet", subscribers=3, mods=250, burst=100),
        feed_rows.joins(_SMALL, "trionet", size=100_000),
        pytest.param(
            feed_rows.stalled(_SMALL, "trionet"),
            marks=pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
        ),
    ],
    ids=["delivery", "joins", "stalled"],
)
def test_feeds_in_earnest(measurement: Open) -> None:
    with ExitStack() as stack:
        measure = measurement(stack)
        assert measure()
        assert all(value > 0 for value in measure().values())


@pytest.mark.parametrize("kind", ["blocking", "client"])
def test_compat_clients_in_earnest(kind: str) -> None:
    with ExitStack() as stack:
        assert compat_rpc_rows.calls(_SMALL, "trionet", kind)(stack)()["calls"] > 0


def test_a_feed_that_arrives_changed_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(worker: Worker, **command: object) -> dict[str, object]:
        answer = original(worker, **command)
        return {**answer, "fingerprint": "another"} if command["do"] == "check" else answer

    original = Worker.ask
    monkeypatch.setattr(Worker, "ask", ask)
    with ExitStack() as stack:
        measure = feed_rows.delivery(_SMALL, "trionet", subscribers=1, mods=10, burst=1)(stack)
        with pytest.raises(PeerFailed, match="is not what was published"):
            measure()


@pytest.mark.parametrize(
    "measurement",
    [
        rig_rows.sends(_SMALL, "udp", "trionet", "trionet"),
        rig_rows.sends(_SMALL, "tcp", "trionet", "trionet"),
        rig_rows.starts(_SMALL, "trionet", count=3),
        rig_rows.starts(_SMALL, "trionet", count=3, latency=0.001),
        rig_rows.sends(_SMALL, "udp", "trionet_compat", "trionet_compat"),
        rig_rows.starts(_SMALL, "trionet_compat", count=3),
        compat_rig_rows.pushes(_SMALL, "compat_auxiliaries", "trionet"),
    ],
    ids=["udp", "tcp", "starts", "slow starts", "compat", "compat starts", "pushes"],
)
def test_rigs_in_earnest(measurement: Open) -> None:
    with ExitStack() as stack:
        measure = measurement(stack)
        assert measure()
        assert all(value > 0 for value in measure().values())


def test_a_message_that_reached_no_callback_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(worker: Worker, **command: object) -> dict[str, object]:
        answer = original(worker, **command)
        return {"received": answer["received"] - 1} if command["do"] == "check" else answer

    original = Worker.ask
    monkeypatch.setattr(Worker, "ask", ask)
    with ExitStack() as stack:
        measure = rig_rows.sends(_SMALL, "udp", "trionet", "trionet")(stack)
        with pytest.raises(PeerFailed, match="not every message"):
            measure()


def test_a_number_that_a_rig_did_not_get_is_noticed() -> None:
    log = Log()
    for number in (0, 1, 3):
        log.note([STATUS, number])
    with pytest.raises(RuntimeError, match="not received what was sent"):
        log.check()
    log.note([STATUS, 0])
    assert log.check() == 1


async def test_a_wrong_answer_of_a_rig_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async def start(number: int) -> dict[str, object]:
        return {"rig 0": [REFERENCE, [0, number]], "rig 1": [REFERENCE, [second, number]]}

    second = 1
    marches = Marches(start, 2, trio.sleep)
    await marches.run(seconds=0)
    second = 0
    with pytest.raises(RuntimeError, match="wrong answer"):
        await marches.run(seconds=0)


def test_rigs_that_are_not_installed_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "iblutil.py").write_text("raise ModuleNotFoundError(\"No module named 'iblutil'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ExitStack() as stack, pytest.raises(PeerMissing, match="iblutil"):
        rig_rows.sends(_SMALL, "udp", "iblutil", "iblutil")(stack)


@pytest.mark.parametrize(
    "measurement",
    [
        *(object_rows.calls(_SMALL, "trionet", do) for do in ("ping", "echo")),
        object_rows.calls(_SMALL, "trionet", "burst", count=5),
        object_rows.calls(_SMALL, "trionet", "carry", size=800),
        object_rows.processes(_SMALL, "trionet"),
        object_rows.calls(_SMALL, "trionet_compat", "ping"),
        object_rows.calls(_SMALL, "trionet_compat", "burst", count=5),
        object_rows.processes(_SMALL, "trionet_compat"),
    ],
    ids=["pings", "calls", "burst", "arrays", "process", "blocking", "blocking burst", "blocking process"],
)
def test_objects_in_earnest(measurement: Open) -> None:
    with ExitStack() as stack:
        measure = measurement(stack)
        assert measure()
        assert all(value > 0 for value in measure().values())


@pytest.mark.parametrize("command", [{"do": "ping"}, {"do": "echo"}, {"do": "burst", "count": 2}])
def test_a_wrong_answer_of_an_object_is_noticed(
    command: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({**command, "seconds": 10})))

    def wrong(number: int) -> int:
        return number + 1

    with pytest.raises(RuntimeError, match="wrong answer"):
        answer_commands(Blocking(wrong, wrong, wrong, wrong))


def test_an_array_that_comes_back_changed_is_noticed() -> None:
    carried = Carried(80)
    with carried.journey():
        before = carried.array.copy()
    carried.check(before)
    with carried.journey():
        pass
    for received in (before, carried.array.astype(np.float32), carried.array[:-1]):
        with pytest.raises(RuntimeError, match="wrong answer"):
            carried.check(received)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "measurement",
    [
        lab_rows.Hour(_SMALL).measured,
        lab_rows.pings(_SMALL, "virtual"),
        lab_rows.memory(_SMALL, "tcp"),
        lab_rows.pings(_SMALL, "loopback"),
    ],
    ids=["hour", "pings", "memory", "loopback"],
)
def test_virtual_networks_in_earnest(measurement: Open) -> None:
    with ExitStack() as stack:
        measure = measurement(stack)
        assert measure()
        assert all(value > 0 for value in measure().values())


def test_an_hour_is_worked_in_pieces_after_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_: Worker, **command: int) -> dict[str, float]:
        lengths.append(command["seconds"])
        return {"cpu": 0.5, "packets": 1000}

    lengths: list[int] = []
    monkeypatch.setattr(Worker, "ask", ask)
    hour = lab_rows.Hour(Run(scale=0.25))
    with ExitStack() as stack:
        measure = hour.measured(stack)
        measure()
        assert measure() == {"cpu": 1.5, "rate": 2000}
        assert hour.allowed(stack)() == {"cpu": 15, "rate": 200}
    assert lengths == [60, 300, 300, 300]


async def test_a_laboratory_counts_each_packet_once(autojump_clock: trio.testing.MockClock) -> None:
    async with Lab(latency=LATENCY) as lab, open_laboratory(lab) as laboratory:
        await laboratory.work(seconds=1)
        noted = lab.trace.count
        result = await laboratory.work(seconds=2)
        sent = [entry.packet for entry in list(lab.trace)[noted:] if entry.what == "sent"]
    assert result["packets"] == len(sent)
    # The question, the answer, and the echo of each.
    assert sum(1 for packet in sent if packet is not None and packet.protocol == "udp") == RIGS * 2 * 4


async def test_a_copy_that_differs_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with Lab(latency=LATENCY) as lab, open_laboratory(lab) as laboratory:
        laboratory.feed.copies[2].value["rate"] = -1.0
        with pytest.raises(RuntimeError, match="not what was published"):
            await laboratory.feed.wait_complete()


async def test_a_mod_too_many_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with Lab(latency=LATENCY) as lab, open_laboratory(lab) as laboratory:
        laboratory.feed.notifier["rate"] = 1.0
        await trio.sleep(1)
        with pytest.raises(RuntimeError, match="mods were expected"):
            await laboratory.feed.wait_complete()


@pytest.mark.parametrize(
    ("rule", "seconds", "complaint"),
    [
        (lambda packet: Duplicate() if packet.dst.host == "rig3" else None, 1, "not received what was sent"),
        (lambda packet: Duplicate() if packet.src.host == "rig3" else None, 2, "a wrong answer"),
        (lambda packet: DROP if packet.dst.host == "rig3" else None, 1, "no echo came"),
        (lambda packet: DROP if packet.dst.host == "subscriber3" else None, 1, "not every mod has arrived"),
    ],
    ids=["a doubled question", "a doubled answer", "a lost question", "lost mods"],
)
async def test_an_hour_in_which_not_everything_arrives_once_is_no_result(
    rule: Rule, seconds: int, complaint: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with Lab(latency=LATENCY) as lab, open_laboratory(lab) as laboratory:
        with lab.rule(rule), pytest.raises((RuntimeError, EchoTimeout), match=complaint):
            await laboratory.work(seconds)


async def test_a_wrong_answer_of_a_host_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with Lab(latency=LATENCY) as lab:
        one, other = lab.host("one"), lab.host("other")
        place = await other.start(answer_udp, other.ipv4)
        ping = await one.start(ping_udp, one.ipv4, [place])
        await ping([b"1", b"2"])
        with lab.rule(lambda _: Duplicate()), pytest.raises(RuntimeError, match="wrong answer"):
            await ping([b"3", b"4"])


@pytest.mark.parametrize(
    "arguments", [["--peer", "nobody=."], ["--peer", "sipyco=/nowhere"], ["--rounds", "0"], ["--only", "xyz"]]
)
def test_odd_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err
