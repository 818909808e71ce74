"""The code in the README works as it stands there, but for the port."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

import trionet

pytest_plugins = ["pytester"]

README = Path(__file__).parents[1] / "README.md"


def code_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


async def test_controller_and_client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    controller, client, *_ = code_blocks()
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr(trio, "run", lambda *arguments: started.append(arguments))
    names: dict[str, Any] = {}
    exec(controller, names)
    ((serve, targets, port),) = started
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(serve, targets, 0)
        exec(client.replace(str(port), str(server.port)), names)
        await names["main"]()
        await server.aclose()
    assert capsys.readouterr().out == "at 2.0 W\n"


class RecordingNursery:
    """Keeps what the tasks report."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.reported: list[Any] = []

    async def start(self, *arguments: Any) -> None:
        self.reported.append(await self.nursery.start(*arguments))


async def test_published_state(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, published, *_ = code_blocks()
    names: dict[str, Any] = {"trionet": trionet}
    async with trio.open_nursery() as nursery:
        recording = RecordingNursery(nursery)
        exec(published.replace("3250", "0"), names)
        await names["experiment"](recording)
        (publisher,) = recording.reported
        exec(published.replace("3250", str(publisher.port)), names)
        await names["monitor"]()
        publisher.cancel_scope.cancel()
    assert capsys.readouterr().out == "{'counts': [42]}\n"


async def test_rigs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, _, rigs, *_ = code_blocks()
    ports: list[int] = []
    listening = trio.Event()
    open_listener = trionet.open_rig_listener

    @contextlib.asynccontextmanager
    async def open_somewhere(uri: str) -> AsyncIterator[trionet.RigCommunicator]:
        async with open_listener(uri.replace("11001", "0")) as rig:
            ports.append(rig.port)
            listening.set()
            yield rig

    monkeypatch.setattr(trionet, "open_rig_listener", open_somewhere)
    names: dict[str, Any] = {"trio": trio, "trionet": trionet}
    async with trio.open_nursery() as nursery:
        exec(rigs, names)
        nursery.start_soon(names["cameras"])
        await listening.wait()
        exec(rigs.replace("11001", str(ports[0])), names)
        await names["session"]()
        nursery.cancel_scope.cancel()
    assert capsys.readouterr().out == "{'cameras': ['recording']}\n"


async def test_a_blocking_script(capsys: pytest.CaptureFixture[str]) -> None:
    controller, *_ = code_blocks()
    (script,) = (block for block in code_blocks() if "pc_rpc import Client" in block)
    names: dict[str, Any] = {}
    exec(controller.partition("\ntrio.run(")[0], names)
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"laser": names["Laser"]()}, 0)
        await trio.to_thread.run_sync(exec, script.replace("3251", str(server.port)), {})
        await server.aclose()
    assert capsys.readouterr().out == "at 2.0 W\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes to child processes need POSIX")
async def test_objects(capsys: pytest.CaptureFixture[str]) -> None:
    controller, *_ = code_blocks()
    (objects,) = (block for block in code_blocks() if "serve_objects" in block)
    names: dict[str, Any] = {}
    exec(controller.partition("\ntrio.run(")[0], names)
    async with trio.open_nursery() as nursery:
        recording = RecordingNursery(nursery)
        exec(objects.replace(":5555", ":*"), names)
        await names["laser_pc"](recording)
        (server,) = recording.reported
        exec(objects.replace("tcp://127.0.0.1:5555", server.address), names)
        await names["analysis"]()
        await server.aclose()
    assert capsys.readouterr().out == "1.5 [0. 0. 6.]\n"


def test_a_test_with_faults(pytester: pytest.Pytester) -> None:
    controller, *_, test = code_blocks()
    controller, *_ = controller.partition("\ntrio.run(")
    pytester.makeini("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    pytester.makepyfile(f"from functools import partial\nimport pytest\n{controller}\n{test}")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=200)
