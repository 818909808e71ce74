"""The code in the README works as it stands there, but for the port."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio

import trionet

README = Path(__file__).parents[1] / "README.md"


async def test_controller_and_client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    controller, client = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
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
