"""Auxiliaries: rigs for blocking code, on a mock clock and over the virtual network."""

from __future__ import annotations

import queue
import sys
import threading
from typing import Any

import pytest
import trio
import trio.testing

from tests.compat.echoing import alyx_client
from tests.compat.lab_rigs import ANSWERED, CLIENTS, NAMES, open_blocking_lab
from trionet_compat.iblrig.net import Auxiliaries
from trionet_compat.iblutil.io.net.base import ExpMessage


@pytest.fixture(autouse=True)
def patience() -> None:
    """None but upstream's own: no machine is slow on a mock clock."""


def said(*data: Any) -> dict[str, list[Any]]:
    """What the rigs answer."""
    return {name: [*data, name] for name in NAMES}


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_the_session_of_iblrig(scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    clients = {name: f"{scheme}://{name}:11001" for name in NAMES}
    with open_blocking_lab(scheme) as lab:
        aux = Auxiliaries(clients)
        assert aux.is_connected
        assert aux.is_running
        info = {"main_sync": True, "exp_ref": None}
        assert aux.push("EXPINFO", "CONNECTED", info, wait=True) == said(0, info)
        assert aux.push("EXPINIT", {"exp_ref": "ref"}, wait=True) == said({"exp_ref": "ref"})
        assert aux.push(ExpMessage.EXPSTART, "ref", wait=True) == said("ref", None)
        assert aux.push(2, {"date": "d", "sequence": "01", "subject": "s"}, wait=True) == said("d_1_s", None)
        assert aux.push("EXPEND", wait=True) == said([])
        assert aux.push(ExpMessage.EXPINTERRUPT, {"error": 1}, wait=True) == said([{"error": 1}])
        assert aux.push("ALYX", alyx_client({"token": "t"}), wait=True) is None
        assert lab.rigs["sound"].received[-1] == [128, "https://alyx", {"me": {"token": "t"}}]
        assert [message[0] for message in lab.rigs["camera"].received] == [64, 1, 2, 2, 4, 16, 128]
        assert not aux.stop_event.wait(0)
        aux.close()
        assert aux.stop_event.wait(0)
        assert not aux.is_connected
        assert not aux.is_running
        output = capsys.readouterr().out
    for name in NAMES:
        assert output.count(f"{lab.network.host(name).ipv4}:11001 started\n") == 2


def test_a_push_is_sent_at_once() -> None:
    with open_blocking_lab() as lab:
        aux = Auxiliaries(CLIENTS)
        aux.refresh_rate = 5
        with lab.measured() as took:
            aux.push("EXPINIT", wait=True)
        assert took() == pytest.approx(ANSWERED)
        aux.close()


def test_responses_are_found_in_the_log() -> None:
    with open_blocking_lab() as lab:
        aux = Auxiliaries(CLIENTS)
        lab.rigs["sound"].silent = True
        times = [aux.push("EXPINIT", number, extra=1) for number in range(3)]
        assert times == sorted(set(times))
        assert all(isinstance(time, float) for time in times)
        with aux.response_received:
            assert not aux.response_received.wait_for(lambda: aux._log, timeout=0)
        assert len(aux._queued) >= 2
        assert aux._queued[times[2]] == [ExpMessage.EXPINIT, (2,), {"extra": 1}]
        lab.portal.sleep(0.1)
        lab.rigs["sound"].silent = False
        lab.portal.sleep(30)
        assert list(aux._log) == times
        assert isinstance(aux._log[times[0]], TimeoutError)
        assert aux._log[times[1]] == said(1)
        assert aux._queued == {}
        with aux.response_received:
            assert aux.response_received.wait()  # for nothing: all is there
            assert aux.response_received.wait_for(lambda: aux._log[times[2]]) == said(2)
        with aux.connected:
            assert aux.connected.wait()
        aux.close()


def test_exceptions_are_returned() -> None:
    with open_blocking_lab() as lab:
        aux = Auxiliaries(CLIENTS)
        for message in ("EXPSTATUS", "EXPCLEANUP"):
            assert isinstance(aux.push(message, wait=True), NotImplementedError)
        assert isinstance(aux.push("EXPINIT", object(), wait=True), TypeError)
        assert isinstance(aux.push("EXPINFO", wait=True), TypeError)
        assert isinstance(aux.push("EXPINFO", "NO SUCH STATUS", wait=True), KeyError)

        lab.rigs["sound"].silent = True
        assert aux.services is not None
        aux.services.timeout = 3
        with lab.measured() as took:
            answer = aux.push("EXPINIT", wait=True)
        assert took() == pytest.approx(3)
        assert isinstance(answer, TimeoutError)
        assert str(answer) == "The following services failed to respond in time: {'sound'}"
        assert aux.is_connected

        lab.portal.call_sync(lab.network.host("sound").crash)
        with lab.measured() as took:
            answer = aux.push("EXPINIT", wait=True)
        assert took() == pytest.approx(1)
        assert isinstance(answer, TimeoutError)
        assert str(answer).startswith("Failed to receive client response in time (sound: ")
        assert not aux.is_connected
        assert aux.is_running
        aux.close()


def test_what_cannot_be_pushed() -> None:
    with open_blocking_lab():
        aux = Auxiliaries(CLIENTS)
        for wrong in ("NOTHING", 3, 0, 256):
            with pytest.raises(ValueError, match="event"):
                aux.push(wrong)
        for odd in (None, 1.5):
            with pytest.raises(TypeError, match="event"):
                aux.push(odd)  # type: ignore[arg-type]
        assert aux._queued == {}
        aux.close()
        with pytest.raises(AssertionError):
            aux.push("EXPINIT")
        aux.close()


@pytest.mark.parametrize("clients", [None, {}])
def test_without_clients(clients: dict[str, str] | None) -> None:
    aux = Auxiliaries(clients)
    assert aux.services is None
    assert not aux.is_connected
    assert aux.is_running
    assert aux.clear_message_queue() == 0
    for wait in (False, True):
        with pytest.raises(AttributeError, match="services"):
            aux.push("EXPINIT", wait=wait)
    aux.close()
    assert not aux.is_running


def test_rigs_that_cannot_be_connected_to(caplog: pytest.LogCaptureFixture) -> None:
    with open_blocking_lab():
        for uri in ("tcp://camera:11002", "udp://nowhere"):
            aux = Auxiliaries({"sound": CLIENTS["sound"], "camera": uri})
            assert aux.services is None
            assert not aux.is_connected
            assert aux.is_running
            aux.close()
    records = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.name for record in records] == ["iblrig.net"] * 2
    assert "nowhere" in caplog.text


def test_a_queue_that_takes_too_long() -> None:
    with open_blocking_lab() as lab:
        aux = Auxiliaries(CLIENTS)
        lab.rigs["sound"].silent = True
        aux.push("EXPINIT")
        aux.push("EXPINIT")
        with lab.measured() as took, pytest.raises(RuntimeError, match=r"^Thread failed to return$"):
            aux.push("EXPSTART", wait=True)
        assert took() == pytest.approx(10.2)
        assert aux.clear_message_queue() == 1
        aux.close()


def test_closing_while_a_response_is_awaited() -> None:
    def push() -> None:
        try:
            outcome.put(aux.push("EXPINIT", wait=True))
        except RuntimeError as error:
            outcome.put(error)

    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with open_blocking_lab() as lab:
        lab.rigs["sound"].silent = True
        aux = Auxiliaries(CLIENTS)
        assert aux.services is not None
        aux.services.timeout = None  # for ever
        asked = threading.Event()
        aux.services["camera"].assign_callback("EXPINIT", lambda *_: asked.set())
        thread = threading.Thread(target=push)
        thread.start()
        asked.wait()
        aux.close()
        thread.join()
        assert str(outcome.get()) == "Thread failed to return"


def test_callbacks_run_before_the_response_in_a_thread_of_their_own() -> None:
    """They may make blocking calls."""

    def note(data: list[Any], addr: Any, service: Any) -> None:
        lab.portal.call(trio.lowlevel.checkpoint)
        calls.append((service.name, data, threading.current_thread().name))

    calls: list[Any] = []
    with open_blocking_lab() as lab:
        aux = Auxiliaries(CLIENTS)
        assert aux.services is not None
        aux.services.assign_callback("EXPINIT", note, return_service=True)
        for number in range(5):
            calls.clear()
            assert aux.push("EXPINIT", number, wait=True) == said(number)
            assert sorted(calls) == [(name, [number, name], "network_coms") for name in NAMES]
        aux.close()


def test_pushing_in_a_callback() -> None:
    def answer(*_: Any) -> None:
        answers.put(aux.push("EXPSTART", "ref", wait=True))

    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with open_blocking_lab():
        aux = Auxiliaries(CLIENTS)
        assert aux.services is not None
        aux.services["camera"].assign_callback("EXPINIT", answer)
        aux.push("EXPINIT")
        lab_sees = aux.push("EXPINFO", 0, wait=True)
        assert lab_sees == said(0, None)
        assert answers.get() == said("ref", None)
        aux.close()


def test_waiting_for_an_event_in_the_portal() -> None:
    """It is told in another thread."""

    async def main() -> Any:
        assert aux.services is not None
        events: list[Any] = []

        async def wait() -> None:
            assert aux.services is not None
            events.append(await aux.services["camera"].on_event("EXPINIT"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            aux.push("EXPINIT", 1)
        return events

    with open_blocking_lab() as lab:
        aux = Auxiliaries(CLIENTS)
        assert lab.call(main) == [([1, "camera"], (lab.network.host("camera").ipv4, 11001))]
        aux.close()


def test_a_callback_that_exits_ends_nothing_else() -> None:
    with open_blocking_lab():
        aux = Auxiliaries(CLIENTS)
        assert aux.services is not None
        aux.services["camera"].assign_callback("EXPINIT", lambda *_: sys.exit(1))
        assert aux.push("EXPINIT", 1, wait=True) == said(1)
        assert aux.push("EXPINIT", 2, wait=True) == said(2)
        aux.close()


def test_a_callback_that_fails_is_told_to_the_rig() -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no light")

    with open_blocking_lab() as lab:
        aux = Auxiliaries(CLIENTS)
        assert aux.services is not None
        told: list[Any] = []
        lab.rigs["camera"].communicator.assign_callback(0, lambda event: told.append(event.data))
        aux.services["camera"].assign_callback("EXPINIT", fail)
        assert aux.push("EXPINIT", wait=True) == said(None)
        lab.portal.sleep(0.1)
        assert told == [["ValueError: no light", 1]]
        aux.close()


def test_two_at_once() -> None:
    with open_blocking_lab() as lab:
        first, second = Auxiliaries({"camera": CLIENTS["camera"]}), Auxiliaries(CLIENTS)
        assert first.connected is not second.connected
        assert first.push("EXPINIT", 1, wait=True) == {"camera": [1, "camera"]}
        assert second.push("EXPINIT", 2, wait=True) == said(2)
        second.close()
        assert first.is_connected
        assert first.push("EXPINIT", 3, wait=True) == {"camera": [3, "camera"]}
        assert first._log.keys() != second._log.keys()
        first.close()
        assert lab.rigs["sound"].received == [[1, 2]]


def test_many_threads_get_their_own_responses() -> None:
    def push(number: int) -> None:
        for step in range(10):
            value = [number, step]
            if aux.push("EXPINIT", value, wait=True) == said(value):
                right.put(value)

    right: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with open_blocking_lab():
        aux = Auxiliaries(CLIENTS)
        assert aux.services is not None
        aux.services.timeout = 100
        threads = [threading.Thread(target=push, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert right.qsize() == 100
        assert len(aux._log) == 100
        aux.close()


def test_not_closing_it_warns_and_leaves_nothing() -> None:
    with open_blocking_lab() as lab:
        aux = Auxiliaries(CLIENTS)
        aux.push("EXPINIT", wait=True)
        with pytest.warns(ResourceWarning, match="Auxiliaries"):
            del aux  # the only reference
        lab.portal.sleep(1)
        assert lab.network.netstat("pc") == []


def test_cleaning_up_tells_the_rigs() -> None:
    with open_blocking_lab() as lab:
        aux = Auxiliaries(CLIENTS)
        lab.call(aux.cleanup, True)
        assert [rig.received for rig in lab.rigs.values()] == [[[8, None]]] * 2
        assert not aux.is_connected
        assert not aux.is_running
        aux.close()


def test_the_coroutines_do_what_the_constructor_does() -> None:
    with open_blocking_lab() as lab:
        aux = Auxiliaries({})
        aux._session._clients = CLIENTS

        async def run() -> None:
            await aux.create()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(aux.listen)
                await trio.sleep(0.1)
                request_time = aux.push("EXPINIT", 1)
                await trio.sleep(0.1)
                assert aux._log == {request_time: said(1)}
                await aux.cleanup()

        lab.call(run)
        aux.close()


def test_refresh_rate_is_of_the_class() -> None:
    assert Auxiliaries.refresh_rate == 0.2
