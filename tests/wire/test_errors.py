"""The errors: what they say, what they carry, and that copies and pickles are the same."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from trionet.wire.errors import (
    CallInfo,
    ConnectionLost,
    IncompatibleServer,
    LocalProtocolError,
    RemoteError,
    RemoteProtocolError,
    TrionetError,
)

INFO = CallInfo("127.0.0.1:3251", "laser", "set_power", 1.23456, ("  File one\n", "  File two\n"))

ERRORS = [
    *(cls("it broke", INFO) for cls in (TrionetError, LocalProtocolError, RemoteProtocolError)),
    *(cls("it broke", INFO) for cls in (IncompatibleServer, ConnectionLost)),
    ConnectionLost("without a place"),
    RemoteError("ZeroDivisor", "lab.ZeroDivisor: no", INFO),
    RemoteError("GenericRemoteException", ""),
]


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (CallInfo(), ""),
        (CallInfo(peer="[::1]:3"), "peer [::1]:3"),
        (CallInfo(method="f", target="t"), "method 'f', target 't'"),
        (CallInfo(elapsed=0.0), "after 0.000 s"),
        (INFO, "method 'set_power', target 'laser', peer 127.0.0.1:3251, after 1.235 s"),
    ],
)
def test_place(info: CallInfo, text: str) -> None:
    assert str(info) == text
    error = TrionetError("it broke", info)
    assert str(error) == (f"it broke ({text})" if text else "it broke")
    assert (error.message, error.call) == ("it broke", info)


def test_place_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        INFO.peer = "elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deep", "pickle"],
)
def test_copies_are_the_same(error: TrionetError, again: Callable[[Any], Any]) -> None:
    error.add_note("a note")
    other = again(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert repr(other) == repr(error)
    assert (other.message, other.call, other.args) == (error.message, error.call, error.args)
    assert other.__notes__ == error.__notes__
    assert getattr(other, "class_name", None) == getattr(error, "class_name", None)


def test_remote_error() -> None:
    error = RemoteError("Refused", "lab.Refused: too hot", INFO)
    assert error.class_name == "Refused"
    assert error.message == "lab.Refused: too hot"
    assert error.remote_traceback == ("  File one\n", "  File two\n")
    assert str(error).startswith("lab.Refused: too hot (method 'set_power', ")
    assert RemoteError("Refused", "text").remote_traceback == ()


@pytest.mark.parametrize("cls", [LocalProtocolError, RemoteProtocolError, IncompatibleServer, RemoteError])
def test_only_a_lost_connection_is_an_os_error(cls: type[Exception]) -> None:
    assert issubclass(cls, TrionetError)
    assert not issubclass(cls, OSError)


def test_lost_connection_is_a_connection_error() -> None:
    assert issubclass(ConnectionLost, ConnectionError)
    with pytest.raises(OSError, match=r"^gone$"):
        raise ConnectionLost("gone")


@pytest.mark.parametrize("error", [ConnectionLost("gone"), ConnectionLost("gone", INFO)])
def test_lost_connection_has_no_error_number(error: ConnectionLost) -> None:
    """Code for any OSError compares errno with numbers and shows strerror."""
    assert error.errno is None
    assert error.strerror is None
    assert error.filename is None
