"""What iblrig.net has besides Auxiliaries."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.compat.asyncio_programs import run
from tests.compat.echoing import free_uri, serve
from trionet_compat.iblrig import net
from trionet_compat.iblutil.io.net import base


def test_its_logger() -> None:
    assert net.log.name == "iblrig.net"
    assert net.log.level == logging.DEBUG


def test_exp_info() -> None:
    info = net.ExpInfo("ref", True)
    assert info.to_dict() == {
        "exp_ref": "ref",
        "main_sync": True,
        "experiment_description": {},
        "master": False,
        "rig_version": "",
        "spec_version": "1.0.0",
    }
    assert info.to_dict() is info.__dict__
    assert net.ExpInfo("ref", False, {"a": 1}, True, "8.24.7").rig_version == "8.24.7"


def test_remote_devices(tmp_path: Path) -> None:
    file = tmp_path / "remote_devices.yaml"
    assert net.get_remote_devices() == {}
    assert net.get_remote_devices(tmp_path) == {}
    file.write_text("cameras: udp://10.0.0.1:11001\nsound: 10.0.0.2\n")
    devices = {"cameras": "udp://10.0.0.1:11001", "sound": "10.0.0.2"}
    assert net.get_remote_devices(tmp_path) == net.get_remote_devices(str(file)) == devices
    file.write_text("")
    assert net.get_remote_devices(file) is None
    assert net.get_remote_devices_file() is None


def test_without_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "remote_devices.yaml").write_text("a: b")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"trionet\[iblrig\]"):
        net.get_remote_devices(tmp_path)


def test_a_uri_is_compared_with_the_file(tmp_path: Path) -> None:
    async def main() -> None:
        com = await serve("udp", name="cameras")
        file = tmp_path / "made" / "remote_devices.yaml"
        assert await net.check_uri_match(com, False, file) == (com, False)
        assert not file.exists()
        assert await net.check_uri_match(com, None, file) == (com, False)
        assert net.get_remote_devices(file) == {"cameras": com.server_uri}
        assert await net.check_uri_match(com, None, file) == (com, True)
        file.write_text("sound: 10.0.0.2\ncameras: 10.0.0.1\n")
        assert await net.check_uri_match(com, True, file) == (com, False)
        assert net.get_remote_devices(file) == {"sound": "10.0.0.2", "cameras": com.server_uri}
        file.write_text(f"cameras: {com.server_uri.removeprefix('udp://')}\n")
        assert await net.check_uri_match(com, None, file) == (com, True)
        assert sorted(os.listdir(file.parent)) in (
            ["remote_devices.yaml"],
            ["remote_devices.yaml", "remote_devices.yaml.lock"],
        )
        com.close()

    run(main)


def test_without_a_file(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        com = await serve("udp", name="cameras")
        assert await net.check_uri_match(com) == (com, False)
        with pytest.raises(FileNotFoundError):
            await net.check_uri_match(com, update=True)
        com.close()

    run(main)
    assert any(record.name == "iblrig.net" and "cameras" in record.message for record in caplog.records)


def test_the_communicator_of_a_service(tmp_path: Path) -> None:
    async def main() -> None:
        assert await net.get_server_communicator(False, "cameras") == (None, False)
        uri = free_uri("udp")
        file = tmp_path / "remote_devices.yaml"
        file.write_text(f"cameras: {uri}\n")
        com, matches = await net.get_server_communicator(uri, "cameras", file)
        assert matches
        assert com is not None
        assert (com.server_uri, com.name, com.role) == (uri, "cameras", "server")
        com.close()
        file.write_text(": : not yaml")
        with pytest.raises(Exception, match="mapping"):
            await net.get_server_communicator(uri, "cameras", file)
        again, _ = await net.get_server_communicator(uri, "cameras")  # nobody listens there any more
        assert again is not None
        again.close()

    run(main)


@pytest.mark.parametrize("place", [None, True, ""])
def test_a_service_is_on_this_host_by_default(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def server(uri: str, name: str) -> Any:
        opened.append((uri, name))
        return communicators[0]

    async def main() -> None:
        communicators.append(await serve("udp", name="cameras"))
        assert await net.get_server_communicator(place, "cameras") == (communicators[0], False)
        communicators[0].close()

    communicators: list[Any] = []
    opened: list[tuple[str, str]] = []
    monkeypatch.setattr("trionet_compat.iblrig._remote_devices.EchoProtocol.server", server)
    monkeypatch.setattr(base, "hostname2ip", lambda: "10.0.0.7")
    run(main)
    assert opened == [("10.0.0.7", "cameras")]


def test_lines_of_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        lines = net.read_stdin()
        assert isinstance(lines, AsyncGenerator)
        assert await anext(lines) == "one\n"
        assert [line async for line in lines] == ["two\n", "three"]

    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\nthree"))
    run(main)
    sys.stdin.seek(0)
    trio.run(main)
