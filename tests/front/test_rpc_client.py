"""The RPC client against scripted and real servers in memory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

import trionet
from trionet.testing import open_memory_rpc_client
from trionet.wire.rpc import ClientConnection


class Echo:
    """Says what it is told."""

    def echo(self, value: Any) -> Any:
        """Return `value`."""
        return value

    async def wait(self, seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    def fail(self, kind: str, *args: Any) -> None:
        raise getattr(__builtins__, kind, None) or __builtins__[kind](*args)  # type: ignore[index]

    def odd(self, a: int, b: Any = np, *more: float, c: list[int], d: object = object, **rest: Any) -> None:
        pass


Script = Callable[[trio.abc.Stream], Any]

GREETING = b'{"targets":["a","b"],"description":"two","features":["pyon_v2"]}\n'
METHODS = b'{"__jsonclass__":["set",[["echo"]]]}\n'


@contextlib.asynccontextmanager
async def scripted_server(*answers: bytes, close: bool = False) -> AsyncIterator[trio.abc.Stream]:
    """The client's end of a stream on which these answers stand already."""
    client_end, server_end = trio.testing.memory_stream_pair()
    await server_end.send_all(b"".join(answers))
    if close:
        assert isinstance(server_end, trio.StapledStream)
        await server_end.send_eof()
    yield client_end


async def test_targets_can_be_looked_at_before_one_is_chosen() -> None:
    async with scripted_server(GREETING, METHODS) as stream, trionet.wrap_rpc_stream(stream, None) as client:
        assert client.targets == ("a", "b")
        assert client.description == "two"
        assert client.target is None
        with pytest.raises(trionet.LocalProtocolError, match="no target is selected"):
            await client.call("echo")
        with pytest.raises(trionet.IncompatibleServer, match="no target 'c', but: a b") as caught:
            await client.select_target("c")
        assert caught.value.call == trionet.CallInfo("StapledStream", "c", None, 0.0)
        with pytest.raises(ValueError, match="2 targets, name one: a b"):
            await client.select_target(trionet.AUTO)
        await client.select_target("b")
        assert client.target == "b"
        assert client.methods == {"echo"}
        with pytest.raises(trionet.LocalProtocolError):
            await client.select_target("a")


@pytest.mark.parametrize(
    ("answers", "close", "error", "text"),
    [
        ([b""], True, trionet.ConnectionLost, "closed by the server in the handshake"),
        ([GREETING], True, trionet.ConnectionLost, "closed by the server in the handshake"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], False, trionet.RemoteProtocolError, "greeting of an RPC server"),
        ([b"[]\n"], False, trionet.RemoteProtocolError, "greeting of an RPC server"),
        ([GREETING, b"17\n"], False, trionet.RemoteProtocolError, "set of method names"),
        ([GREETING, b"{\n"], False, trionet.RemoteProtocolError, "set of method names"),
        ([b"x" * 2000], False, trionet.RemoteProtocolError, "more than 1000 bytes"),
    ],
)
async def test_servers_that_are_none(
    answers: list[bytes], close: bool, error: type[Exception], text: str
) -> None:
    async with scripted_server(*answers, close=close) as stream:
        with pytest.raises(error, match=text) as caught:
            async with trionet.wrap_rpc_stream(stream, "a", max_message_size=1000):
                pass
        assert isinstance(caught.value, trionet.TrionetError)
        assert caught.value.call.peer == "StapledStream"
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()


async def test_a_server_that_says_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as stream:
        with pytest.raises(TimeoutError, match=r"no answer .* within 3 s"):
            async with trionet.wrap_rpc_stream(stream, handshake_timeout=3):
                pass
    assert trio.current_time() == 3.0


async def test_a_server_that_says_nothing_to_the_target(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server(GREETING) as stream:
        with pytest.raises(TimeoutError, match="no answer"):
            async with trionet.wrap_rpc_stream(stream, "a", handshake_timeout=3):
                pass
    assert trio.current_time() == 3.0


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"\n", "a reply"),
        (b"{}\n", "neither a result nor an exception"),
        (b'{"status":"maybe"}\n', "neither"),
        (b'{"status":"failed","exception":"text"}\n', "neither"),
        (b'{"status":"ok","ret":{"__jsonclass__":["nonsense",[]]}}\n', "unknown class 'nonsense'"),
        (b"[" * 100_000 + b"\n", "nested too deep"),
        (b'{"status":"ok","ret":"\xff"}\n', "UTF-8"),
    ],
)
async def test_replies_that_are_none(reply: bytes, text: str) -> None:
    async with scripted_server(GREETING, METHODS) as stream, trionet.wrap_rpc_stream(stream, "a") as client:
        async with trio.open_nursery() as nursery:

            async def expect_error() -> None:
                with pytest.raises(trionet.RemoteProtocolError, match=text) as caught:
                    await client.call("echo")
                assert caught.value.call.target == "a"
                assert caught.value.call.method == "echo"

            nursery.start_soon(expect_error)
            await trio.testing.wait_all_tasks_blocked()
            answer_as_server(stream, reply)
        with pytest.raises(trionet.ConnectionLost, match=text):
            await client.call("echo")


def answer_as_server(stream: trio.abc.Stream, data: bytes) -> None:
    assert isinstance(stream, trio.StapledStream)
    stream.receive_stream.put_data(data)


async def test_a_reply_to_no_request() -> None:
    async with scripted_server(GREETING, METHODS) as stream, trionet.wrap_rpc_stream(stream, "a") as client:
        answer_as_server(stream, b'{"status":"ok","ret":1}\n')
        await client.wait_disconnected()
        assert client.disconnect_reason == "a reply to no request"


async def test_remote_exceptions() -> None:
    async with open_memory_rpc_client({"it": Echo()}) as client:
        for kind in ("ValueError", "KeyError", "FileNotFoundError", "ZeroDivisionError", "TimeoutError"):
            with pytest.raises(Exception, match="some text") as caught:
                await client.call("fail", kind, "some text")
            assert type(caught.value).__name__ == kind
            notes = "\n".join(caught.value.__notes__)
            assert re.search(r"method 'fail', target 'it', peer StapledStream, after \d+\.\d", notes)
            assert "Remote traceback (most recent call last):" in notes
            assert "in fail" in notes
            assert caught.value.call.method == "fail"  # type: ignore[attr-defined]
        with pytest.raises(trionet.RemoteError, match="UnicodeDecodeError: 'utf-8'"):
            await client.call("fail", "UnicodeDecodeError", "utf-8", b"x", 0, 1, "reason")
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'value'"):
            await client.call("echo")
        with pytest.raises(TypeError, match="unexpected keyword argument 'nope'"):
            await client.call("echo", nope=1)
        assert await client.call("echo", 1) == 1


async def test_what_cannot_be_encoded_is_not_sent() -> None:
    async with open_memory_rpc_client({"it": Echo()}) as client:
        with pytest.raises(TypeError, match="no PYON form"):
            await client.call("echo", object())
        with pytest.raises(TypeError, match="no PYON form"):
            await client.call("echo", value=frozenset())
        with pytest.raises(ValueError, match="reserved key"):
            await client.call("echo", {"__jsonclass__": 1})
        loop: list[Any] = []
        loop.append(loop)
        with pytest.raises(ValueError, match="contains itself"):
            await client.call("echo", loop)
        assert await client.call("echo", 1) == 1


async def test_proxy() -> None:
    async with open_memory_rpc_client({"it": Echo()}) as client:
        proxy = client.proxy
        assert await proxy.echo("a") == "a"
        assert await proxy.echo(value="b") == "b"
        assert "echo" in dir(proxy)
        assert proxy.echo.__name__ == "echo"
        assert repr(proxy) == "<RpcProxy of target 'it' at StapledStream>"
        with pytest.raises(AttributeError, match="target 'it' of StapledStream has no method 'ecko'"):
            _ = proxy.ecko
        with pytest.raises(AttributeError, match="has no method 'ecko'"):
            await client.call("ecko")


async def test_describe() -> None:
    async with open_memory_rpc_client({"it": Echo()}) as client:
        description = await client.describe()
    assert description.docstring == "Says what it is told."
    assert description.methods["echo"] == trionet.MethodDescription("(value: Any) -> Any", "Return `value`.")
    signature = description.methods["odd"].signature
    assert signature.startswith("(a: int, b: Any = \"<module 'numpy' from")
    assert signature.endswith(
        "*more: float, c: list[int], d: object = \"<class 'object'>\", **rest: Any) -> None"
    )


async def test_a_description_that_is_none() -> None:
    async with scripted_server(GREETING, METHODS) as stream, trionet.wrap_rpc_stream(stream, "a") as client:
        async with trio.open_nursery() as nursery:

            async def expect_error() -> None:
                with pytest.raises(trionet.RemoteProtocolError, match="not a description"):
                    await client.describe()

            nursery.start_soon(expect_error)
            await trio.testing.wait_all_tasks_blocked()
            answer_as_server(stream, b'{"status":"ok","ret":[]}\n')


async def test_calls_share_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rpc_client({"it": Echo()}) as client:
        results: dict[int, Any] = {}

        async def call(number: int) -> None:
            results[number] = await client.call("echo", (number, "x" * (number * 999 % 70_000)))

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(call, number)
    assert {number: value[0] for number, value in results.items()} == {
        number: number for number in range(300)
    }


async def test_large_requests_and_replies_do_not_block_each_other() -> None:
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"it": Echo()}, 0)
        async with trionet.open_rpc_client("127.0.0.1", server.port) as client:
            with trio.fail_after(60):
                async with trio.open_nursery() as calls:
                    for _ in range(4):
                        calls.start_soon(client.call, "echo", "x" * 8_000_000)
        await server.aclose()


async def test_pending_calls_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    done: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Echo()}))
        async with trionet.wrap_rpc_stream(client_end, max_pending_calls=2) as client:

            async def call() -> None:
                await client.call("wait", 1)
                done.append(trio.current_time())

            async with trio.open_nursery() as calls:
                for _ in range(5):
                    calls.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
                assert client._pipeline.outstanding == 2
    assert done == [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_cancelled_calls_keep_their_slots(autojump_clock: trio.testing.MockClock) -> None:
    """A server that is stuck is not sent more and more."""
    client_end, server_end = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Echo()}))
        async with trionet.wrap_rpc_stream(client_end, max_pending_calls=2) as client:
            for _ in range(5):
                with trio.move_on_after(1):
                    await client.call("wait", 10)
            assert trio.current_time() == 5.0
            assert client._pipeline.outstanding == 2
            with pytest.raises(TypeError):
                await client.call("echo", object())  # its turn comes at 10 s, and goes to the next
            assert trio.current_time() == 10.0
            assert await client.call("echo", 1) == 1
            assert trio.current_time() == 20.0


async def test_a_lost_connection_fails_all_calls(autojump_clock: trio.testing.MockClock) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Echo()}))
        async with trionet.wrap_rpc_stream(client_end, max_pending_calls=2) as client:
            errors: list[trionet.CallInfo] = []

            async def call() -> None:
                with pytest.raises(trionet.ConnectionLost) as caught:
                    await client.call("wait", 100)
                errors.append(caught.value.call)
                assert isinstance(caught.value, ConnectionError)

            async with trio.open_nursery() as calls:
                for _ in range(5):
                    calls.start_soon(call)
                await trio.sleep(5)
                await server_end.aclose()
            assert errors == [trionet.CallInfo("StapledStream", "it", "wait", 5.0)] * 5
            assert client.disconnect_reason is not None
            with pytest.raises(trionet.ConnectionLost):
                await client.call("echo", 1)
            with pytest.raises(trionet.ConnectionLost):
                await client.call("no such method")


async def test_calls_of_other_tasks_when_the_block_ends(autojump_clock: trio.testing.MockClock) -> None:
    async def call(client: trionet.RpcClient) -> None:
        with pytest.raises(trionet.ConnectionLost, match="connection closed"):
            await client.call("wait", 100)

    async with trio.open_nursery() as nursery, open_memory_rpc_client({"it": Echo()}) as client:
        nursery.start_soon(call, client)
        await trio.sleep(1)


async def test_what_the_block_raises_is_not_wrapped() -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    cause, context = KeyError("cause"), IndexError("context")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Echo()}))
        with pytest.raises(ZeroDivisionError) as caught:
            async with trionet.wrap_rpc_stream(client_end):
                try:
                    raise context
                except IndexError:
                    raise ZeroDivisionError from cause
    assert caught.value.__cause__ is cause
    assert caught.value.__context__ is context


async def test_a_client_can_be_opened_and_closed_under_cancellation(
    autojump_clock: trio.testing.MockClock,
) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Echo()}))
        with trio.move_on_after(2) as scope:
            async with trionet.wrap_rpc_stream(client_end):
                await trio.sleep_forever()
        assert scope.cancelled_caught
    assert trio.current_time() == 2.0


async def test_an_interrupt_in_the_reader_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may hit any task. That the call fails meanwhile, and is handled, must not hide it."""

    class Interrupt(BaseException):
        """Stands in for KeyboardInterrupt."""

    def interrupt(wire: ClientConnection) -> None:
        raise Interrupt

    client_end, server_end = trio.testing.memory_stream_pair()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Echo()}))
            async with trionet.wrap_rpc_stream(client_end) as client:
                monkeypatch.setattr(ClientConnection, "next_event", interrupt)
                with pytest.raises(trionet.ConnectionLost):
                    await client.call("echo", 1)
    assert caught.value.subgroup(Interrupt) is not None


@pytest.mark.parametrize("method", ["send_nowait", "send"])
async def test_sending_that_fails(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, by the caller, or later, by the writer: before the reader has noticed anything."""

    def fail(data: bytes) -> None:
        raise trio.BrokenResourceError("the cable is out")

    async with open_memory_rpc_client({"it": Echo()}) as client:
        monkeypatch.setattr(client._transport, method, fail)
        for text in ("connection lost: the cable is out", "connection lost"):
            with pytest.raises(trionet.ConnectionLost, match=text):
                await client.call("echo", 1)
        await client.wait_disconnected()


async def test_a_lost_connection_is_noticed_by_callers_that_wait_for_their_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Echo()}))
        async with trionet.wrap_rpc_stream(client_end, max_pending_calls=1) as client:
            with trio.move_on_after(1):
                await client.call("wait", 100)
            nursery.start_soon(server_end.aclose)
            with trio.fail_after(10), pytest.raises(trionet.ConnectionLost):
                await client.call("echo", 1)


async def test_the_connection_is_closed_as_soon_as_it_is_lost() -> None:
    """And not only when the block ends, which may be much later."""
    async with scripted_server(GREETING, METHODS) as stream, trionet.wrap_rpc_stream(stream, "a") as client:
        answer_as_server(stream, b"a reply to no request\n")
        await client.wait_disconnected()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()


async def test_a_turn_that_cannot_be_used_goes_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    ended: dict[str, float] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Echo()}))
        async with trionet.wrap_rpc_stream(client_end, max_pending_calls=1) as client:

            async def call(name: str, value: Any) -> None:
                with contextlib.suppress(TypeError):
                    await client.call(name, value)
                ended[str(value)] = trio.current_time()

            async with trio.open_nursery() as calls:
                for name, value in (("wait", 5), ("echo", frozenset()), ("echo", "next")):
                    calls.start_soon(call, name, value)
                    await trio.testing.wait_all_tasks_blocked()
    assert ended == {"5": 5.0, "frozenset()": 5.0, "next": 5.0}


async def test_the_turn_of_a_call_that_is_taken_back_goes_to_the_next() -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Echo()}))
        async with trionet.wrap_rpc_stream(client_end, max_pending_calls=2) as client:
            client_end.send_stream.send_all_hook = trio.sleep_forever
            scopes = [trio.CancelScope() for _ in range(3)]

            async def call(scope: trio.CancelScope) -> None:
                # At the end all are cancelled, the first while it is being sent: that ends the others.
                with scope, contextlib.suppress(trionet.ConnectionLost):
                    await client.call("echo", 1)

            for scope in scopes:
                nursery.start_soon(call, scope)
                await trio.testing.wait_all_tasks_blocked()
            assert [call_id for call_id, _ in client._pipeline._unsent] == [2]
            scopes[1].cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert [call_id for call_id, _ in client._pipeline._unsent] == [3]
            nursery.cancel_scope.cancel()
