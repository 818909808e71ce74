"""EchoProtocol under asyncio, over loopback."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from typing import Any

import pytest

from tests.compat.asyncio_programs import Told, run
from tests.compat.echoing import LOGGER, SCHEMES, alyx_client, free_uri, open_pair, open_silent_socket, serve
from trionet import EchoTimeout
from trionet_compat.iblutil.io.net.app import EchoProtocol
from trionet_compat.iblutil.io.net.base import ExpMessage, ExpStatus

both_schemes = pytest.mark.parametrize("scheme", SCHEMES)


class Heard(Told):
    """A callback that remembers the data, and who has sent it."""

    def __call__(self, data: Any = None, addr: Any = None, *event: Any) -> None:
        self.addr = addr
        super().__call__([*data, *event])


@both_schemes
def test_every_message_arrives(scheme: str) -> None:
    async def main() -> None:
        async with open_pair(scheme) as (rig, client):
            heard = Heard()
            rig.assign_callback(ExpMessage.any(), heard)
            await client.init({"a": 1})
            await client.start({"date": "2020-01-01", "sequence": "002", "subject": "m"}, 5)
            await client.stop("why")
            await client.stop(immediately=True)
            await client.status("RUNNING")
            await client.info(ExpStatus.RUNNING, "data")
            await client.cleanup()
            await client.confirmed_send([ExpMessage.EXPINIT, 1, 2, 3])
            assert await heard.wait(8) == [
                [{"a": 1}, 1],
                ["2020-01-01_2_m", 5, 2],
                ["why", 4],
                [None, 16],
                [20, 32],
                [20, "data", 64],
                [None, 8],
                [1, 2, 3, 1],
            ]

    run(main)


@both_schemes
def test_a_rig_answers_from_a_callback(scheme: str) -> None:
    async def main() -> None:
        async with open_pair(scheme) as (rig, client):
            tasks = []

            def answer(data: list[Any], addr: tuple[str, int]) -> None:
                tasks.append(asyncio.ensure_future(rig.init([*data, "ready"], addr=addr)))

            rig.assign_callback(1, answer)
            answered = asyncio.ensure_future(client.on_event("EXPINIT"))
            await client.init(42)
            assert await answered == ([[42, "ready"]], (client.hostname, client.port))
            await tasks[0]

    run(main)


@both_schemes
def test_both_send_many_at_once(scheme: str) -> None:
    """Of which upstream makes an error."""

    async def main() -> None:
        async with open_pair(scheme) as (rig, client):
            to_rig, to_client = Heard(), Heard()
            rig.assign_callback(1, to_rig)
            client.assign_callback(1, to_client)
            await client.init("first")
            await to_rig.wait(1)
            await asyncio.gather(
                *(client.init(number) for number in range(10)),
                *(rig.init(-number, addr=to_rig.addr) for number in range(1, 11)),
            )
            assert sorted((await to_rig.wait(11))[1:]) == [[number] for number in range(10)]
            assert sorted(await to_client.wait(10)) == [[number] for number in range(-10, 0)]
            assert not client.awaiting_response()

    run(main)


@both_schemes
def test_unconfirmed_messages_arrive_in_order_also_when_it_is_closed_behind_them(scheme: str) -> None:
    async def main() -> None:
        async with open_pair(scheme) as (rig, client):
            heard = Heard()
            rig.assign_callback(1, heard)
            await client.init("connected")
            for number in range(20):
                client.send([1, number])
            client.close()
            assert await heard.wait(21) == [["connected"], *([number] for number in range(20))]

    run(main)


def test_a_rig_sends_unconfirmed_messages() -> None:
    async def main(scheme: str) -> None:
        async with open_pair(scheme) as (rig, client):
            heard, told = Heard(), Heard()
            rig.assign_callback(1, heard)
            client.assign_callback(2, told)
            with pytest.raises(TypeError, match="addr"):
                rig.send([2, "nobody"])
            await client.init()
            await heard.wait(1)
            rig.send(b'[2, "told"]', heard.addr)
            if scheme == "tcp":
                rig.send('[2, "told"]')
            assert await told.wait(1 + (scheme == "tcp")) == [["told"]] * (1 + (scheme == "tcp"))

    for scheme in SCHEMES:
        run(lambda scheme=scheme: main(scheme))  # type: ignore[misc]


@both_schemes
def test_a_missed_echo_closes_it(scheme: str) -> None:
    async def main() -> None:
        with open_silent_socket(scheme) as uri:
            client = await EchoProtocol.client(uri, "client", LOGGER)
            waits = asyncio.ensure_future(client.on_event(1))
            text = rf"^Failed to receive client response in time \(client: {uri}\)$"
            with pytest.raises(TimeoutError, match=text) as caught:
                await client.confirmed_send([1, None], timeout=0.01)
            assert isinstance(caught.value.__cause__, EchoTimeout)
            assert not client.is_connected
            assert client.on_connection_lost.result() == "Close called on communicator"
            assert client.on_error_received.cancelled()
            await asyncio.wait([waits])
            assert waits.cancelled()
            with pytest.raises(TimeoutError, match=text):
                await client.init()

    run(main)


def test_a_rig_that_is_not_there() -> None:
    """The system knows that before the echo is missed."""

    async def main() -> None:
        client = await EchoProtocol.client(free_uri("udp"), None, LOGGER)
        assert client.is_connected
        with pytest.raises(TimeoutError, match="Failed to receive") as caught:
            await client.confirmed_send([1, None], timeout=60)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert isinstance(client.on_error_received.result(), ConnectionRefusedError)
        assert not client.is_connected
        with pytest.raises(ConnectionRefusedError):
            await EchoProtocol.client(free_uri("tcp"), None, LOGGER)

    run(main)


def test_an_unconfirmed_message_to_nobody() -> None:
    async def main() -> None:
        client = await EchoProtocol.client(free_uri("udp"), None, LOGGER)
        client.send(b"[1, null]")
        error = await client.on_error_received  # type: ignore[misc]
        assert isinstance(error, ConnectionRefusedError)
        client.send(b"[2, null]")  # once is enough
        assert client.is_connected
        client.close()

    run(main)


@both_schemes
def test_closing_while_an_echo_is_awaited(scheme: str) -> None:
    async def main() -> None:
        async with open_pair(scheme) as (rig, client):
            rig.assign_callback(1, lambda *_: client.close())
            sends = [asyncio.ensure_future(client.init(number)) for number in range(3)]
            await asyncio.wait(sends)
            # The echo of the first may have been on its way.
            assert [send.cancelled() for send in sends[1:]] == [True, True]
            assert client.on_error_received.cancelled()
            client.close()

    run(main)


@both_schemes
def test_cancelling_a_send_leaves_it_open(scheme: str) -> None:
    async def main() -> None:
        async with open_pair(scheme) as (_, client):
            send = asyncio.ensure_future(client.init("cancelled"))
            await asyncio.sleep(0)
            assert client.awaiting_response()
            assert client.awaiting_response((client.hostname, client.port))
            send.cancel()
            await asyncio.wait([send])
            assert send.cancelled()
            assert not client.awaiting_response()
            await client.init("next")
            assert client.is_connected

    run(main)


def test_a_connection_that_is_lost_is_made_again() -> None:
    async def main() -> None:
        async with open_pair("tcp") as (rig, client):
            heard = Heard()
            rig.assign_callback(1, heard)
            await client.init(1)
            assert rig.is_connected
            rig.close()
            assert await client.on_eof_received is True  # type: ignore[misc]
            assert not client.is_connected
            again = await EchoProtocol.server(rig.server_uri, "rig", LOGGER)
            again.assign_callback(1, heard)
            await client.init(2)
            assert client.is_connected
            assert await heard.wait(2) == [[1], [2]]
            again.close()

    run(main)


def test_a_server_is_connected_while_there_is_a_client() -> None:
    async def main() -> None:
        rig = await serve("tcp")
        assert not rig.is_connected
        clients = [await EchoProtocol.client(rig.server_uri, None, LOGGER) for _ in range(3)]
        await asyncio.gather(*(client.init() for client in clients))
        assert rig.is_connected
        rig.close()
        assert not rig.is_connected
        for client in clients:
            client.close()

    run(main)


@both_schemes
def test_a_failed_callback_is_told_to_the_sender(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no light")

    async def main() -> None:
        async with open_pair(scheme) as (rig, client):
            rig.assign_callback(1, fail)
            told = Heard()
            client.assign_callback(0, told)
            await client.init()
            assert await told.wait(1) == [["ValueError: no light", 1]]
            assert rig.is_connected

    run(main)
    assert {record.name for record in caplog.records} <= {LOGGER.name, "asyncio"}
    assert "no light" in caplog.text


@both_schemes
def test_a_callback_that_raises_what_is_no_exception_harms_nothing_else(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise asyncio.CancelledError("of another task")

    async def main() -> None:
        async with open_pair(scheme) as (rig, client):
            rig.assign_callback(1, fail)
            told = Heard()
            client.assign_callback(0, told)
            await client.init()
            assert await told.wait(1) == [["RuntimeError: CancelledError: of another task", 1]]
            await client.start("ref")
            assert rig.is_connected

    run(main)
    assert "of another task" in caplog.text


@both_schemes
def test_asking_for_a_token(scheme: str) -> None:
    async def main() -> None:
        async with open_pair(scheme) as (rig, client):
            tasks = []

            def give(data: list[Any], addr: tuple[str, int]) -> None:
                received.append(data)
                if not data[-1]:
                    tasks.append(asyncio.ensure_future(rig.alyx(alyx_client({"token": "t"}), addr=addr)))

            received: list[Any] = []
            rig.assign_callback(ExpMessage.ALYX, give)
            assert await client.alyx() == ["https://alyx", {"me": {"token": "t"}}]
            assert await client.alyx(alyx_client(None)) == ["https://alyx", {"me": {"token": "t"}}]
            assert await client.alyx(alyx_client({"token": "mine"})) is None
            await asyncio.gather(*tasks)
            assert received == [
                *([None, {}], ["https://alyx", {}], ["https://alyx", {"me": {"token": "mine"}}])
            ]

    run(main)


def test_addresses_and_timeouts_are_checked(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with open_pair("udp") as (rig, client), open_pair("tcp") as (_, tcp_client):
            with pytest.raises(TypeError, match=r"^confirmed_send missing 1 required argument: 'addr'$"):
                await rig.init()
            with pytest.raises(ValueError, match=r"^Unexpected remote address$"):
                await client.init(addr=("10.0.0.1", 5))
            await client.init(addr=(client.hostname, client.port))
            with pytest.raises(ValueError, match=r"^Timeout must be non-zero number$"):
                await client.confirmed_send([1, None], timeout=-1)
            client.default_echo_timeout = 0
            with pytest.raises(ValueError, match=r"^Timeout must be non-zero number$"):
                await client.init()
            with pytest.raises(TypeError, match="not JSON serializable"):
                await client.confirmed_send([1, object()])
            with pytest.raises(ValueError, match=r"^Invalid address: must be None or "):
                client.send(b"x", ("10.0.0.1", 5))
            tcp_client.send(b"x", ("10.0.0.1", 5))
            assert client.is_connected
        with pytest.raises(OSError, match="closed"):
            client.send(b"x")

    run(main)
    assert "Nothing sent" in caplog.text


def test_roles() -> None:
    async def main() -> None:
        async with open_pair("udp") as (rig, client):
            assert (rig.role, client.role) == ("server", "client")
            with pytest.raises(AttributeError, match="can't set attribute"):
                rig.role = "client"
            assert rig._socket is not None
            assert rig._socket.getsockname() == (rig.hostname, rig.port)
            assert EchoProtocol.Server is rig.Server is None

    run(main)
    with pytest.raises(ValueError, match="role"):
        EchoProtocol("127.0.0.1", "master")
    unopened = EchoProtocol("127.0.0.1", "client")
    assert not unopened.is_connected
    unopened.close()


def test_without_a_logger_it_writes_to_the_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> str:
        rig = await serve("udp", lambda uri, name, log: EchoProtocol.server(uri))
        client = await EchoProtocol.client(rig.server_uri, "the client", LOGGER)
        await client.init("hello")
        client.close()
        rig.close()
        return str(rig.name)

    name = run(main)
    logger = logging.getLogger(name)
    output, _ = capsys.readouterr()
    assert logger.level == logging.DEBUG
    assert len(logger.handlers) == 1
    assert name.startswith("udp://")
    assert f"[{name}] INFO" in output
    assert "hello" in output
    logger.handlers.clear()


def test_an_address_that_is_taken() -> None:
    async def main(scheme: str) -> None:
        async with open_pair(scheme) as (rig, _):
            with pytest.raises(OSError, match="cannot listen"):
                await EchoProtocol.server(rig.server_uri, None, LOGGER)
        again = await EchoProtocol.server(rig.server_uri, None, LOGGER)  # it is free at once
        again.close()

    for scheme in SCHEMES:
        run(lambda scheme=scheme: main(scheme))  # type: ignore[misc]


def test_what_is_left_open_ends_with_the_loop() -> None:
    async def main() -> list[EchoProtocol]:
        rig = await serve("udp")
        client = await EchoProtocol.client(rig.server_uri, None, LOGGER)
        await client.init()
        left.append(asyncio.ensure_future(client.on_event(1)))
        return [rig, client]

    left: list[asyncio.Future[Any]] = []
    opened = run(main)
    assert [one.is_connected for one in opened] == [False, False]
    assert left[0].cancelled()
    for one in opened:
        one.close()


def test_a_future_of_threads() -> None:
    async def main() -> None:
        async with open_pair("udp") as (rig, client):
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            rig.assign_callback("EXPINIT", future)
            await client.init(5)
            data, (host, _) = await asyncio.wrap_future(future)
            assert (data, host) == ([5], "127.0.0.1")

    run(main)
