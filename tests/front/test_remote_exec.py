"""Remote execution: the recorded session both ways, then who sees which names, and where code runs."""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import weakref
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

import trionet
import trionet.rpc.remote_exec as remote_exec_module
from tests.front.test_golden_transcripts import Lines, check_outcome, functions_of, our_client
from tests.front.test_rpc_server import MemoryListener
from tests.wire.transcripts import Recording, load
from tests.wire.values import identical
from trionet.rpc.remote_exec import (
    RemoteExec,
    RemoteExecSession,
    open_remote_exec,
    remote_exec_targets,
    serve_remote_exec,
)
from trionet.testing import open_memory_rpc_client
from trionet.wire.rpc_messages import V2, Call, ListMethods

RECORDINGS = load("remote_exec_session")


class Driver:
    """The driver of the recorded server, and more."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def value(self) -> int:
        return 42

    async def move(self, seconds: float) -> None:
        self.log.append(("begin", trio.current_time()))
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.log.append(("cancelled", trio.current_time()))
            raise
        self.log.append(("end", trio.current_time()))


Connect = Callable[[], contextlib.AbstractAsyncContextManager[RemoteExec]]


@contextlib.asynccontextmanager
async def serving(driver: Any = None, wait: bool = False, **options: Any) -> AsyncIterator[Connect]:
    """`serve_remote_exec` with clients that connect through memory. With `wait`, it must end by itself."""
    send_stream, receive_stream = trio.open_memory_channel[trio.abc.Stream](100)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[RemoteExec]:
        client_end, server_end = trio.testing.memory_stream_pair()
        send_stream.send_nowait(server_end)
        async with trionet.wrap_rpc_stream(client_end, "dev_rexec") as client:
            yield RemoteExec(client)

    async with trio.open_nursery() as nursery:
        listeners: list[Any] = [MemoryListener(receive_stream)]
        await nursery.start(
            lambda **kw: serve_remote_exec(
                "dev", Driver() if driver is None else driver, 0, listeners=listeners, **options, **kw
            )
        )
        yield connect
        if not wait:
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def connected(driver: Any = None, **options: Any) -> AsyncIterator[RemoteExec]:
    async with serving(driver, **options) as connect, connect() as remote:
        yield remote


# -- the recorded session --------------------------------------------------------------------------------


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
async def test_recorded_client_and_our_server(recording: Recording) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    targets = remote_exec_targets("dev", Driver())
    lines = Lines(ours)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: trionet.handle_rpc_stream(theirs, targets, allow_terminate=True))
            answers = recording.lines("server")
            for number, request in enumerate(recording.lines("client")):
                await ours.send_all(request)
                check_answer(number, request, await lines.read(), answers[number])
            await ours.send_eof()
            assert await lines.read() == b""


def check_answer(number: int, request: bytes, ours: bytes, recorded: bytes) -> None:
    if number == 0:
        assert json.loads(ours) == json.loads(recorded)
    elif number == 1:
        public = {name for name in V2.decode_methods(recorded[:-1]) if not name.startswith("_")}
        assert V2.decode_methods(ours[:-1]) == public == {"add_code", "call", "terminate"}
    else:
        result, failure = V2.decode_reply(ours[:-1])
        recorded_result, recorded_failure = V2.decode_reply(recorded[:-1])
        if isinstance(V2.decode_request(request[:-1]), ListMethods):
            assert signatures(result) == signatures(recorded_result)
            return
        assert identical(result, recorded_result)
        assert (failure is None) == (recorded_failure is None)
        if failure is not None and recorded_failure is not None:
            assert (failure.class_name, failure.message) == (
                recorded_failure.class_name,
                recorded_failure.message,
            )
            # Only the frames of remote code; upstream shows its own, too.
            assert functions_of(failure.traceback) == [
                name
                for name in functions_of(recorded_failure.traceback)
                if "_process" not in name and name not in ("call", "add_code")
            ]


def signatures(description: Any) -> dict[str, Any]:
    """What a description says, without the texts and annotations: those are ours."""
    return {
        name: {key: value for key, value in spec.items() if key != "annotations"}
        for name, (spec, _) in description["methods"].items()
    }


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
async def test_our_client_and_recorded_server(recording: Recording) -> None:
    answers = recording.lines("server")
    async with our_client(recording, "dev_rexec") as (client, server):
        remote = RemoteExec(client)
        for number, line in enumerate(recording.lines("client")[2:]):
            request = V2.decode_request(line[:-1])
            result = await outcome(remote, request)
            assert server.received[-1] == line
            check_outcome(request, result, *V2.decode_reply(answers[number + 2][:-1]))
    assert server.received == recording.lines("client")


async def outcome(remote: RemoteExec, request: Any) -> Any:
    try:
        if isinstance(request, ListMethods):
            return await remote.client.describe()
        assert isinstance(request, Call)
        if request.method == "add_code":
            await remote.add_code(*request.args)
            return None
        return await remote.call(*request.args, **request.kwargs)
    except Exception as error:
        return error


# -- code and functions ----------------------------------------------------------------------------------


async def test_async_functions_are_awaited(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as remote:
        await remote.add_code("""
import functools, trio

async def add(x, *, y):
    await trio.sleep(2)
    return x + y + controller_driver.value()

def returns_coroutine():
    return add(1, y=1)

partial = functools.partial(add, y=3)
""")
        assert await remote.call("add", 1, y=2) == 45
        assert trio.current_time() == 2.0
        assert await remote.call("returns_coroutine") == 44
        assert await remote.call("partial", 1) == 46
        assert trio.current_time() == 6.0


async def test_functions_of_any_kind_and_arguments_of_any_name() -> None:
    async with connected() as remote:
        await remote.add_code(
            "class C:\n    value = 1\ndef both(*args, **kwargs):\n    return args, kwargs\n"
        )
        await remote.add_code("def add(a):\n    return C.value + a\nnumber = 1\n")
        assert await remote.call("add", 1) == 2
        assert await remote.call("both", 1, code=2, method=3) == ((1,), {"code": 2, "method": 3})
        with pytest.raises(KeyError, match="nope"):
            await remote.call("nope")
        with pytest.raises(TypeError, match="not callable"):
            await remote.call("number")
        with pytest.raises(TypeError, match="'function'"):
            await remote.call("both", function=1)


async def test_code_has_no_future_imports_of_ours() -> None:
    async with connected() as remote:
        await remote.add_code("def f(x: int): pass\ndef annotation(): return f.__annotations__['x'] is int\n")
        assert await remote.call("annotation") is True


async def test_an_async_function_is_cancelled_when_its_client_leaves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    driver = Driver()
    async with serving(driver) as connect:
        async with connect() as remote:
            await remote.add_code("async def f():\n    await controller_driver.move(100)\n")
            with trio.move_on_after(5):
                await remote.call("f")
        async with connect() as remote:
            await remote.add_code("def g(): return 1")  # the lock is free
    assert driver.log == [("begin", 0.0), ("cancelled", 5.0)]


@pytest.mark.parametrize("allow_parallel", [False, True])
async def test_calls_of_remote_code_take_turns(
    allow_parallel: bool, autojump_clock: trio.testing.MockClock
) -> None:
    driver = Driver()
    async with serving(driver, allow_parallel=allow_parallel) as connect:
        async with connect() as first, connect() as second, trio.open_nursery() as nursery:
            for remote in (first, second):
                await remote.add_code("async def f():\n    await controller_driver.move(1)\n")
                nursery.start_soon(remote.call, "f")
    kinds = [kind for kind, _ in driver.log]
    assert kinds == (["begin", "begin", "end", "end"] if allow_parallel else ["begin", "end"] * 2)


@pytest.mark.parametrize("sync_methods", ["inline", "thread"])
async def test_where_functions_run(sync_methods: Any) -> None:
    async with connected(sync_methods=sync_methods) as remote:
        await remote.add_code("""
import threading

def here():
    return threading.current_thread() is threading.main_thread()

async def here_async():
    return here()

def returns_coroutine():
    return here_async()

def fail():
    raise ValueError("out of range")

at_import = here()

def at_add_code():
    return at_import
""")
        inline = sync_methods == "inline"
        assert await remote.call("here") is inline
        assert await remote.call("at_add_code") is inline
        assert await remote.call("here_async") is True
        assert await remote.call("returns_coroutine") is True
        with pytest.raises(ValueError, match="out of range") as caught:
            await remote.call("fail")
        assert "in fail" in caught.value.__notes__[1]


async def test_errors_name_what_the_code_calls_them() -> None:
    async with connected() as remote:
        await remote.add_code("class Oops(Exception): pass\ndef f():\n    raise Oops('text')\n")
        with pytest.raises(trionet.RemoteError, match=r"^sipyco\.remote_exec\.Oops: text") as caught:
            await remote.call("f")
        (entry,) = caught.value.remote_traceback
        assert entry.startswith('  File "<string>", line 3, in f\n')
        with pytest.raises(SyntaxError, match=r"invalid syntax \(<string>, line 2\)"):
            await remote.add_code("x = 1\nx x\n")
        with pytest.raises(SyntaxError, match="'await' outside function"):
            await remote.add_code("import trio\nawait trio.sleep(0)\n")
        with pytest.raises(ZeroDivisionError) as division:
            await remote.add_code("x = 2\n1 / 0\n")
        assert '  File "<string>", line 2, in <module>' in division.value.__notes__[1]
        with pytest.raises(TypeError, match="no PYON form"):
            await remote.call("Oops")
        await remote.add_code("def x_is(): return x")  # what came before an error has happened
        assert await remote.call("x_is") == 2


async def test_system_exit_is_an_error_unless_terminate_is_allowed() -> None:
    async with connected() as remote:
        await remote.add_code("def f(): raise SystemExit(3)")
        with pytest.raises(trionet.RemoteError, match="SystemExit: 3"):
            await remote.call("f")
        with pytest.raises(trionet.RemoteError, match="SystemExit: 3"):
            await remote.add_code("raise SystemExit(3)")
    async with serving(wait=True, allow_terminate=True) as connect, connect() as remote:
        await remote.add_code("def f(): raise SystemExit(3)")
        with pytest.raises(trionet.ConnectionLost):
            await remote.call("f")


# -- namespaces ------------------------------------------------------------------------------------------


async def test_each_connection_has_its_own_namespace() -> None:
    async with serving() as connect:
        async with connect() as first, connect() as second:
            for number, remote in enumerate((first, second)):
                await remote.add_code(f"def f(): return {number}")
            assert [await first.call("f"), await second.call("f")] == [0, 1]
        async with connect() as third:
            with pytest.raises(KeyError, match="'f'"):
                await third.call("f")


async def test_what_a_namespace_holds() -> None:
    driver = Driver()
    given = {"answer": 42, "__name__": "given", "controller_driver": None}
    async with serving(driver, namespace=given) as connect:
        async with connect() as earlier, connect() as remote:
            await remote.add_code("""
def names():
    return set(globals())

def shared_names():
    return set(controller_initial_namespace)

def name():
    return __name__

def store():
    controller_initial_namespace["stored"] = 7
    controller_driver.log.append(controller_driver.value())
""")
            names = {"answer", "controller_driver", "controller_initial_namespace", "controller_global_rpc"}
            functions = {"names", "shared_names", "name", "store"}
            assert await remote.call("names") == names | functions | {"__name__", "__builtins__"}
            assert await remote.call("shared_names") == names | {"__name__"}
            assert await remote.call("name") == "given"
            await remote.call("store")
            assert "stored" not in await remote.call("names")
            await earlier.add_code("def f(): return controller_initial_namespace['stored']")
            assert await earlier.call("f") == 7
        async with connect() as later:
            await later.add_code("def f(): return stored")
            assert await later.call("f") == 7
    assert driver.log == [42]
    assert given == {"answer": 42, "__name__": "given", "controller_driver": None}


async def test_namespaces_are_not_kept() -> None:
    class Witness: ...

    driver = SimpleNamespace(witness=Witness)
    async with serving(driver) as connect:
        async with connect() as remote:
            await remote.add_code("w = controller_driver.last = controller_driver.witness()")
            seen = weakref.ref(driver.last)
            del driver.last
            assert seen() is not None
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert seen() is None


async def test_targets() -> None:
    driver = Driver()
    targets = remote_exec_targets("dev", driver)
    assert targets["dev"] is driver
    assert [*targets] == ["dev", "dev_rexec"]
    async with open_memory_rpc_client(targets, "dev") as client:
        assert client.targets == ("dev", "dev_rexec")
        assert await client.call("value") == 42
    async with open_memory_rpc_client(targets, "dev_rexec") as client:
        assert client.methods == {"add_code", "call"}
        description = await client.describe()
        assert description.docstring == RemoteExecSession.__doc__
        assert description.methods["add_code"].signature == "(code: str) -> None"
        assert description.methods["call"].signature == "(function: str, *args: Any, **kwargs: Any) -> Any"
        for name in ("namespace", "__init__"):
            with pytest.raises((AttributeError, TypeError)):
                await client.call(name)
        # By keyword, as upstream's clients may:
        assert await client.call("add_code", code="def f(x): return x") is None
        assert await client.call("call", function="f", x=1) == 1


async def test_drivers_that_cannot_be_served() -> None:
    with pytest.raises(TypeError, match="one object for all connections"):
        remote_exec_targets("dev", trionet.per_connection(Driver))
    with pytest.raises(TypeError, match="class or function"):
        await serve_remote_exec("dev", Driver, 0)
    with pytest.raises(ValueError, match="one word"):
        await serve_remote_exec("two words", Driver(), 0)


async def test_serving_listens_on_loopback() -> None:
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(serve_remote_exec, "dev", Driver(), 0)
        assert [host for host, _ in server.addresses] == ["127.0.0.1"]
        async with open_remote_exec("127.0.0.1", server.port, "dev") as remote:
            await remote.add_code("def f(): return controller_driver.value()")
            assert await remote.call("f") == 42
            assert repr(remote) == f"<RemoteExec of target 'dev_rexec' at 127.0.0.1:{server.port}>"
        with pytest.raises(trionet.IncompatibleServer, match="no target 'other_rexec'"):
            async with open_remote_exec("127.0.0.1", server.port, "other"):
                pytest.fail("there is no such target")
        await server.aclose()


async def test_options_are_those_of_rpc_and_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    received: dict[str, Any] = {}

    async def serve_rpc(targets: Any, port: int, **options: Any) -> None:
        received.update(options)

    @contextlib.asynccontextmanager
    async def open_rpc_client(host: str, port: int, target: str, **options: Any) -> AsyncIterator[object]:
        received.update(options)
        yield None

    monkeypatch.setattr(remote_exec_module, "serve_rpc", serve_rpc)
    monkeypatch.setattr(remote_exec_module, "open_rpc_client", open_rpc_client)
    options: dict[str, Any] = keyword_only(trionet.serve_rpc)
    assert keyword_only(serve_remote_exec) == {**options, "namespace": None}
    markers = {name: object() for name in options}
    await serve_remote_exec("dev", Driver(), 0, **markers)  # type: ignore[arg-type]
    assert received == markers
    received.clear()
    options = keyword_only(trionet.open_rpc_client)
    assert keyword_only(open_remote_exec) == options
    markers = {name: object() for name in options}
    async with open_remote_exec("host", 0, "dev", **markers):  # type: ignore[arg-type]
        assert received == markers


def keyword_only(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
