"""Events, addresses and messages under iblutil's names. What is expected was observed of iblutil 1.20."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import ipaddress
import socket
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

import trionet
from tests.compat.echoing import alyx_client
from trionet_compat.iblutil.io import net
from trionet_compat.iblutil.io.net import base
from trionet_compat.iblutil.io.net.base import ExpMessage, ExpStatus


def test_the_package_has_both_modules() -> None:
    assert net.base is base
    assert isinstance(net.app.EchoProtocol, type)
    assert (base.LISTEN_PORT, base.PROTOCOL_VERSION) == (11001, "1.0.0")
    assert base.Service.__version__ == "1.0.0"


def test_events_are_those_of_trionet() -> None:
    assert base.ExpMessage is trionet.ExpMessage
    assert base.ExpStatus is trionet.ExpStatus
    assert [int(event) for event in ExpMessage] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert ExpMessage.any() == 255
    assert list(ExpMessage.EXPINIT | ExpMessage.EXPEND) == [1, 4]
    assert ExpMessage.__version__ == ExpStatus.__version__ == "1.0.0"
    assert set(ExpMessage.__members__) == {
        *("EXPINIT", "EXPSTART", "EXPEND", "EXPCLEANUP", "EXPINTERRUPT", "EXPSTATUS", "EXPINFO", "ALYX")
    }


@pytest.mark.parametrize(
    ("event", "expected"), [(" expinit ", 1), (True, 1), (3, 3), (0, 0), (256, 256), (ExpMessage.ALYX, 128)]
)
def test_what_is_an_event(event: Any, expected: int) -> None:
    assert ExpMessage.validate(event) == expected


@pytest.mark.parametrize(
    ("event", "allow_bitwise", "error"),
    [
        *[(None, True, TypeError), (1.0, True, TypeError), ("bla", True, ValueError)],
        *[(3, False, ValueError), (0, False, ValueError), (256, False, ValueError)],
    ],
)
def test_what_is_none(event: Any, allow_bitwise: bool, error: type[Exception]) -> None:
    with pytest.raises(error):
        ExpMessage.validate(event, allow_bitwise)


@pytest.mark.parametrize(
    ("uri", "options", "complete"),
    [
        ("192.168.0.1", {}, "udp://192.168.0.1:11001"),
        ("ws://localhost", {}, "ws://127.0.0.1:11001"),
        (ipaddress.ip_address("10.0.0.1"), {}, "udp://10.0.0.1:11001"),
        ("UDP://1.2.3.4", {}, "UDP://1.2.3.4:11001"),
        ("127.0.0.1:", {"default_port": 5, "default_proc": "tcp"}, "tcp://127.0.0.1:5"),
        ("http://h", {"resolve_host": False}, "http://h:11001"),
        ("::1", {}, "udp://[::1]:11001"),
        (ipaddress.ip_address("::1"), {}, "udp://[::1]:11001"),
    ],
)
def test_uris_are_completed(uri: Any, options: dict[str, Any], complete: str) -> None:
    assert base.validate_uri(uri, **options) == complete


def test_an_empty_uri_is_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "pc")
    monkeypatch.setattr(socket, "gethostbyname", {"pc": "10.0.0.7"}.__getitem__)
    assert base.validate_uri("") == "udp://10.0.0.7:11001"
    assert base.validate_uri("udp://:5") == "udp://10.0.0.7:5"
    assert base.hostname2ip() == ipaddress.ip_address("10.0.0.7")


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        *[("x:0", ValueError), ("x:5:6", ValueError), ("x:x", ValueError), ("x:65536", ValueError)],
        *[("", ValueError), ("h/i", ValueError), (b"x", TypeError), (None, TypeError)],
    ],
)
def test_uris_that_are_not_allowed(uri: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        base.validate_uri(uri, resolve_host=False)


def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise socket.gaierror(-2, "unknown")

    monkeypatch.setattr(socket, "gethostbyname", fail)
    with pytest.raises(ValueError, match=r'^Failed to resolve IP for hostname "nowhere"$'):
        base.hostname2ip("nowhere")
    with pytest.raises(ValueError, match="nowhere"):
        base.validate_uri("nowhere")


def test_ip_addresses() -> None:
    assert base.is_valid_ip("::1")
    assert base.is_valid_ip("1.2.3.4")
    assert not base.is_valid_ip("localhost")
    assert not base.is_valid_ip(None)


def test_the_external_address_is_asked_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"203.0.113.5\n"))
    assert base.external_ip() == ipaddress.ip_address("203.0.113.5")


def test_success_of_futures() -> None:
    def ended(end: Callable[[concurrent.futures.Future[int]], object]) -> concurrent.futures.Future[int]:
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        end(future)
        return future

    assert base.is_success(ended(lambda future: future.set_result(1)))
    assert not base.is_success(ended(lambda future: None))
    assert not base.is_success(ended(lambda future: future.cancel()))
    assert not base.is_success(ended(lambda future: future.set_exception(ValueError())))


class Printer(base.Communicator):
    """Sends nothing, but is a communicator."""

    def init(self, data: Any = None) -> Any:
        return super().init(data)

    def start(self, exp_ref: Any, data: Any = None) -> Any:
        return super().start(exp_ref, data)

    def stop(self, data: Any = None, immediately: bool = False) -> Any:
        return super().stop(data, immediately)

    def status(self, status: Any) -> Any:
        return super().status(status)

    def info(self, status: Any, data: Any = None) -> Any:
        return super().info(status, data)

    def cleanup(self, data: Any = None) -> Any:
        return super().cleanup(data)

    def alyx(self, alyx: Any) -> Any:
        return super().alyx(alyx)

    def send(self, data: Any, addr: Any = None) -> None:
        raise NotImplementedError

    @property
    def is_connected(self) -> bool:
        return False

    def receive(self, event: int, *data: Any) -> None:
        self._callbacks.call(ExpMessage(event), list(data), ("10.0.0.2", 5))


@pytest.fixture
def printer() -> Printer:
    return Printer("tcp://127.0.0.1:5", "printer")


def test_messages(printer: Printer) -> None:
    assert printer.init(42) == (1, 42)
    assert printer.start("ref", 1) == (2, "ref", 1)
    assert printer.start({"date": "2020-01-01", "sequence": "002", "subject": "m"}) == (
        *(2, "2020-01-01_2_m", None),
    )
    assert printer.start("") == printer.start({}) == (2, None, None)
    assert printer.stop("why") == (4, "why")
    assert printer.stop(immediately=True) == (16, None)
    assert printer.status("RUNNING") == printer.status(20) == (32, ExpStatus.RUNNING)
    assert printer.info(0, "data") == (64, ExpStatus.CONNECTED, "data")
    assert printer.cleanup() == (8, None)
    assert printer.alyx(None) == (128, None, {})
    assert printer.alyx(alyx_client({"token": "t"})) == (128, "https://alyx", {"me": {"token": "t"}})
    assert printer.alyx(alyx_client(None)) == (128, "https://alyx", {})
    with pytest.raises(KeyError):
        printer.status("running")
    with pytest.raises(ValueError, match="3"):
        printer.status(3)
    with pytest.raises(KeyError, match="date"):
        printer.start({"a": 1})


def test_properties(printer: Printer) -> None:
    assert (printer.protocol, printer.hostname, printer.port) == ("tcp", "127.0.0.1", 5)
    assert printer.server_uri == "tcp://127.0.0.1:5"
    assert (printer.name, printer.logger.name) == ("printer", "printer")
    assert Printer("127.0.0.1").name == "127.0.0.1"


def test_encoding() -> None:
    assert base.Communicator.encode([1, {"a": float("nan")}]) == b'[1, {"a": NaN}]'
    assert base.Communicator.encode("ä") == "ä".encode()
    assert base.Communicator.encode(b"x") == b"x"
    assert base.Communicator.decode(b'[1, "a"]') == [1, "a"]
    with pytest.warns(UserWarning, match="^Failed to decode as JSON$"):
        assert base.Communicator.decode("ä".encode()) == "ä"
    with pytest.raises(TypeError):
        base.Communicator.encode(object())


def test_callbacks_are_called_in_order_with_the_event_if_they_are_for_several(printer: Printer) -> None:
    calls: list[Any] = []
    printer.assign_callback("EXPINIT", lambda *args: calls.append(args))
    printer.assign_callback(ExpMessage.EXPINIT | ExpMessage.EXPSTART, lambda *args: calls.append(args))
    printer.receive(1, "a")
    printer.receive(2, "b", "c")
    printer.receive(4, "nobody")
    addr = ("10.0.0.2", 5)
    assert calls == [(["a"], addr), (["a"], addr, 1), (["b", "c"], addr, 2)]
    assert isinstance(calls[2][2], ExpMessage)


def test_futures_are_resolved_once(printer: Printer) -> None:
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    printer.assign_callback(ExpMessage.EXPINIT | ExpMessage.EXPSTART, future)
    printer.receive(2, "b")
    printer.receive(1, "too late")
    assert future.result() == (["b"], ("10.0.0.2", 5), 2)
    assert printer.clear_callbacks(255) == 0


def test_callbacks_must_be_functions_or_futures(printer: Printer) -> None:
    for wrong in (None, 3, "x"):
        with pytest.raises(TypeError, match=r"^Callback must be callable or a Future$"):
            printer.assign_callback(1, wrong)  # type: ignore[arg-type]


def test_clearing_callbacks(printer: Printer) -> None:
    def call(*args: Any) -> None:
        calls.append(args)

    def with_id(*args: Any) -> None:
        calls.append(args)

    calls: list[Any] = []
    with_id.id = 7  # type: ignore[attr-defined]
    for event in (0, 1, 3, 1):
        printer.assign_callback(event, call)
    printer.assign_callback(1, with_id)
    assert printer.clear_callbacks(1, 7) == 1  # type: ignore[arg-type]
    assert printer.clear_callbacks(3, call) == 4
    assert printer.clear_callbacks(0) == 1
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    printer.assign_callback(1, future)
    assert printer.clear_callbacks(1, cancel_futures=False) == 1
    assert not future.cancelled()
    printer.assign_callback(1, future)
    assert printer.clear_callbacks(1) == 1
    assert future.cancelled()
    printer.receive(0, "text", 1)
    printer.receive(1, None)
    assert calls == []


def test_a_callback_that_raises_leaves_out_the_rest(printer: Printer) -> None:
    def fail(*args: Any) -> None:
        raise ValueError("no")

    calls: list[Any] = []
    printer.assign_callback(1, fail)
    printer.assign_callback(1, calls.append)
    with pytest.raises(ValueError, match="no"):
        printer.receive(1, None)
    assert calls == []


def test_closing_cancels_who_waits() -> None:
    async def main() -> None:
        printer = Printer("127.0.0.1")
        waits = asyncio.ensure_future(printer.on_event(1))
        await asyncio.sleep(0)
        printer.close()
        with pytest.raises(asyncio.CancelledError):
            await waits
        with pytest.raises(asyncio.CancelledError):
            await printer.on_event(1)

    asyncio.run(main())


def test_waiting_for_events_of_asyncio() -> None:
    async def main() -> None:
        printer = Printer("127.0.0.1")
        waits = asyncio.ensure_future(printer.on_event("EXPINIT"))
        any_of = asyncio.ensure_future(printer.on_event(ExpMessage.any()))
        cancelled = asyncio.ensure_future(printer.on_event(1))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        printer.receive(1, "a")
        assert await waits == (["a"], ("10.0.0.2", 5))
        data, addr, event = await any_of
        assert (data, addr, event.name) == (["a"], ("10.0.0.2", 5), "EXPINIT")
        assert printer.clear_callbacks(255) == 0

    asyncio.run(main())
