"""``python -m trionet.pyon``: files from v1 to v2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trionet import pyon
from trionet.pyon import __main__ as converter
from trionet.pyon import v1

VALUE = {"b": (1, 2.5), "a": {3, 4}, 5: b"x"}


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    file = tmp_path / "data.pyon"
    v1.store_file(file, VALUE)
    return file


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run it, expect it to fail with one line, and return that."""
    assert converter.main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    return captured.err


def test_convert(old_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = old_file.read_bytes()
    assert converter.main([str(old_file)]) == 0
    backup = old_file.with_name("data.pyon_v1")
    assert files(old_file.parent) == {
        "data.pyon": pyon.encode(v1.decode(old), pretty=True).encode(),
        "data.pyon_v1": old,
    }
    assert pyon.load_file(old_file) == v1.load_file(backup) == VALUE
    captured = capsys.readouterr()
    assert captured.out == f"{old_file}: converted, the old content is in {backup}\n"
    assert captured.err == ""


def test_again_changes_nothing(old_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert converter.main([str(old_file)]) == 0
    after = files(old_file.parent)
    capsys.readouterr()
    assert converter.main([str(old_file)]) == 0
    assert files(old_file.parent) == after
    assert capsys.readouterr().out == f"{old_file}: is PYON v2 already, left alone\n"


def test_a_backup_is_never_overwritten(old_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old_file.with_name("data.pyon_v1").write_text("precious")
    before = files(old_file.parent)
    message = failure(capsys, old_file)
    assert message == f"{old_file}: not converted, the backup {old_file}_v1 exists\n"
    assert files(old_file.parent) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "(1, 2",
            "not PYON v1: unexpected end, '(' of character 0 is open (at line 1 column 6, character 5)",
        ),
        ("__import__('os')", "not PYON v1: unknown name '__import__' (at line 1 column 1, character 0)"),
        ("[('__jsonclass__',), {'__jsonclass__': 1}]", "no PYON v2 form: a dict with the reserved key"),
        # How deep is too deep for the JSON encoder differs between Pythons; an int that is too long does not.
        ("(" + "9" * 4300 + "0,)", "not PYON v1: Exceeds the limit"),
    ],
)
def test_what_cannot_be_converted_is_left_alone(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    assert failure(capsys, file).startswith(f"{file}: {message}")
    assert files(tmp_path) == {"file": content.encode()}


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, tmp_path / "no") == f"{tmp_path / 'no'}: No such file or directory\n"
    assert failure(capsys, tmp_path).startswith(f"{tmp_path}: ")


def test_one_bad_file_does_not_stop_the_others(old_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = old_file.with_name("two\nlines")
    assert failure(capsys, bad, old_file) == f"{str(bad).replace(chr(10), ' ')}: No such file or directory\n"
    assert pyon.load_file(old_file) == VALUE


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_crash_at_any_moment_leaves_the_file_whole(
    failing: int, old_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """First the backup is synchronised, then the new file, then the directory."""
    old = old_file.read_bytes()
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    if failing < 3:
        assert failure(capsys, old_file) == f"{old_file}: No space left on device\n"
        assert files(old_file.parent) == {"data.pyon": old}
    else:  # it is converted then, only not certain to survive the power going off
        assert converter.main([str(old_file)]) == 0
        assert pyon.load_file(old_file) == v1.load_file(f"{old_file}_v1") == VALUE


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_secret_stays_one(old_file: Path) -> None:
    old_file.chmod(0o600)
    assert converter.main([str(old_file)]) == 0
    for path in old_file.parent.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="Windows needs a privilege for links")
def test_a_link_is_followed(old_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(old_file)
    assert converter.main([str(link)]) == 0
    assert link.is_symlink()
    assert pyon.load_file(old_file) == v1.load_file(tmp_path / "link_v1") == VALUE


def test_names_that_the_terminal_cannot_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "é☃"
    file.write_text("1")

    class Ascii:
        encoding = None
        written = ""

        def write(self, text: str) -> None:
            self.written += text

    stream = Ascii()
    monkeypatch.setattr(sys, "stdout", stream)
    assert converter.main([str(file)]) == 0
    assert stream.written == f"{tmp_path}{os.sep}\\xe9\\u2603: is PYON v2 already, left alone\n"


def test_an_error_without_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> str:
        raise OSError

    monkeypatch.setattr(converter, "convert", fail)
    assert failure(capsys, "file") == "file: OSError\n"


def test_as_a_command(old_file: Path) -> None:
    command = [sys.executable, "-m", "trionet.pyon"]
    done = subprocess.run([*command, old_file, "no such file"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.endswith("data.pyon_v1\n")
    assert done.stderr == "no such file: No such file or directory\n"
    usage = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert usage.returncode == 2
    assert usage.stderr.startswith("usage: python -m trionet.pyon")
