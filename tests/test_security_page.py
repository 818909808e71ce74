"""What docs/security.md says of object servers is so: refused by default, and allowed by that setting."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio

import trionet
from tests.front.objects import open_pair

PAGE: Final = (Path(__file__).parents[1] / "docs" / "security.md").read_text(encoding="utf-8")
ROW: Final = re.compile(r"^\| `((?:laser|client)\..*)` \| `(\w+=.*)` \|$", re.MULTILINE)
ROWS: Final = ROW.findall(PAGE)


class Kind:
    """A class that clients can reach."""

    limit = 1


class Laser:
    """As the page describes it."""

    kind = Kind

    def __init__(self) -> None:
        self._serial = 7
        self.os = os
        self.name = "laser {}"
        self.steps = self._run()

    def _run(self) -> Iterator[int]:
        yield 1


def test_the_page_has_every_setting_that_allows_something() -> None:
    parameters = inspect.signature(trionet.serve_objects).parameters
    settings = {name for name in parameters if name.startswith(("allow_", "unrestricted"))}
    assert {setting.partition("=")[0] for _, setting in ROWS} == settings
    assert {name for name in settings if f"| `{name}` | " in PAGE} == settings
    for limit in (name for name in parameters if name.startswith("max_")):
        assert f"`{limit}`" in PAGE


@pytest.mark.parametrize(("request_text", "setting"), ROWS)
async def test_refused_by_default_and_allowed_by_the_setting(request_text: str, setting: str) -> None:
    async with open_pair(Laser()) as (client, laser):
        with pytest.raises(PermissionError, match=re.escape(setting.replace('"', "'"))):
            await eval(request_text, {"client": client, "laser": laser})
    options: dict[str, Any] = eval(f"dict({setting})")
    async with open_pair(Laser(), **options) as (client, laser):
        await eval(request_text, {"client": client, "laser": laser})


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the page has openssl make the keys")
async def test_keys_as_the_page_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in re.findall(r"^\$ (openssl .*)$", PAGE, re.MULTILINE):
        await trio.run_process(shlex.split(command), capture_stderr=True)
    (code,) = re.findall(r"```python\n(server = .*?)```", PAGE, re.DOTALL)
    sides: dict[str, Any] = {"trionet": trionet}
    exec(code, sides)
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(
            lambda **kw: trionet.serve_rpc({"laser": Laser()}, 0, ssl_context=sides["server"], **kw)
        )
        async with trionet.open_rpc_client("127.0.0.1", server.port, ssl_context=sides["client"]) as client:
            assert client.targets == ("laser",)
        await server.aclose()
