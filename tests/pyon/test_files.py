"""PYON files: whole or not there at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.pyon.values import same
from trionet import pyon
from trionet.pyon import PyonDecodeError, _files, v1

VALUE = {"b": [1, 2.5], "a": np.array([1, 2]), "é": (None,)}

both = pytest.mark.parametrize("version", [pyon, v1], ids=["v2", "v1"])
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither")


@both
def test_round_trip(version: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "new.pyon", str(tmp_path / "other.pyon")):
        version.store_file(path, {"old": 1})
        version.store_file(path, VALUE)
        loaded = version.load_file(path)
        assert all(same(loaded[key], VALUE[key]) for key in VALUE)
        assert len(loaded) == len(VALUE)


def test_the_content_is_the_pretty_form(tmp_path: Path) -> None:
    file = tmp_path / "file"
    pyon.store_file(file, VALUE)
    assert file.read_bytes() == pyon.encode(VALUE, pretty=True).encode()
    v1.store_file(file, VALUE)
    assert file.read_bytes() == v1.encode(VALUE, pretty=True).encode() + b"\n"
    v1.store_file(file, slice("é\n", None))
    assert file.read_bytes() == "slice('é\\n', None, None)\n".encode()


class CrashError(Exception):
    """Stands for the power going off."""


def crash(*_: Any, **__: Any) -> None:
    raise CrashError


@both
@pytest.mark.parametrize(
    ("module", "name"),
    [(os, "fsync"), (Path, "replace"), (Path, "chmod"), (_files, "open")],
    ids=lambda x: str(x),
)
def test_a_crash_leaves_the_old_file(
    version: Any, module: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    version.store_file(file, {"old": 1})
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, name, crash, raising=False)
        with pytest.raises(CrashError):
            version.store_file(file, VALUE)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@both
def test_a_value_that_cannot_be_encoded_leaves_the_old_file(version: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    version.store_file(file, 1)
    for value in (object(), np.array(["2024"], "M8[D]")):
        with pytest.raises((TypeError, ValueError)):
            version.store_file(file, [value])
    assert version.load_file(file) == 1
    assert list(tmp_path.iterdir()) == [file]


@both
def test_a_directory_that_is_not_there(version: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        version.store_file(tmp_path / "no" / "file", 1)
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o400])
def test_permissions_are_kept(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    pyon.store_file(file, 1)
    file.chmod(mode)
    pyon.store_file(file, 2)
    assert file.stat().st_mode & 0o7777 == mode
    assert pyon.load_file(file) == 2


@posix
def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    pyon.store_file(tmp_path / "file", 1)
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


@posix
def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    target = tmp_path / "there" / "target"
    target.parent.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    for value in (1, 2):
        pyon.store_file(link, value)
        assert link.is_symlink()
        assert pyon.load_file(target) == value
    assert list(target.parent.iterdir()) == [target]


@posix
def test_the_directory_is_synchronised_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronised: list[str] = []

    def fsync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synchronised.append("directory" if is_directory else "file")
        assert (tmp_path / "file").exists() == is_directory

    monkeypatch.setattr(os, "fsync", fsync)
    pyon.store_file(tmp_path / "file", 1)
    assert synchronised == ["file", "directory"]


def test_windows_has_no_directories_to_synchronise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "sys", type("sys", (), {"platform": "win32"}))
    monkeypatch.setattr(os, "open", crash)
    pyon.store_file(tmp_path / "file", 1)
    assert pyon.load_file(tmp_path / "file") == 1


@both
@pytest.mark.parametrize("content", [b"[1,\n?]", b"\xff", b"", b'{"a": [1, 2}'])
def test_a_bad_file_is_named(version: Any, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "broken.pyon"
    file.write_bytes(content)
    with pytest.raises(PyonDecodeError) as info:
        version.load_file(file)
    assert info.value.reason.startswith(f"{file}: ")
    assert info.value.where


@both
def test_a_file_that_is_not_there(version: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        version.load_file(tmp_path / "no")


def test_the_error_of_a_file_keeps_its_cause(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text('{"__jsonclass__":["slice",[1]]}')
    with pytest.raises(PyonDecodeError, match=r"file: class 'slice' takes 3 argument\(s\), not 1 \(at \$\)"):
        pyon.load_file(file)
