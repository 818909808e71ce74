"""Exceptions on their way: what is sent, what is read, and that a peer cannot choose what is called."""

from __future__ import annotations

import builtins
import copy
import pickle
from typing import Any, NoReturn

import pytest

from trionet.wire.errors import CallInfo, RemoteError
from trionet.wire.packed_exceptions import GENERIC, PackedException, pack, rebuild, unpack

INFO = CallInfo("peer:1", "laser", "fire", 0.5, ("  File remote\n",))

REBUILT = [
    *("Exception", "ArithmeticError", "AssertionError", "AttributeError", "BufferError", "EOFError"),
    *("FloatingPointError", "ImportError", "ModuleNotFoundError", "IndexError", "KeyError"),
    *("LookupError", "MemoryError", "NameError", "NotImplementedError", "OverflowError"),
    *("RecursionError", "ReferenceError", "RuntimeError", "SyntaxError", "IndentationError", "TabError"),
    *("SystemError", "TypeError", "UnboundLocalError", "UnicodeError", "ValueError"),
    *("ZeroDivisionError", "OSError", "BlockingIOError", "BrokenPipeError", "ChildProcessError"),
    *("ConnectionAbortedError", "ConnectionError", "ConnectionRefusedError", "ConnectionResetError"),
    *("FileExistsError", "FileNotFoundError", "InterruptedError", "IsADirectoryError"),
    *("NotADirectoryError", "PermissionError", "ProcessLookupError", "TimeoutError", "Warning"),
    *("BytesWarning", "DeprecationWarning", "EncodingWarning", "FutureWarning", "ImportWarning"),
    *("PendingDeprecationWarning", "ResourceWarning", "RuntimeWarning", "SyntaxWarning"),
    *("UnicodeWarning", "UserWarning"),
]

# Builtins that need other arguments, stop a program, or cannot pass through a coroutine.
GENERIC_BUILTINS: list[BaseException] = [
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError("ascii", "\xff", 0, 1, "ordinal not in range(128)"),
    UnicodeTranslateError("\xff", 0, 1, "no"),
    ExceptionGroup("group", [ValueError("a")]),
    BaseExceptionGroup("group", [KeyboardInterrupt("a")]),
    KeyboardInterrupt("ctrl-c"),
    SystemExit("1"),
    GeneratorExit("g"),
    StopIteration("s"),
    StopAsyncIteration("s"),
]


def refuse(*_: object) -> NoReturn:
    raise AssertionError("called")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class Own(ValueError):
    """A subclass of a builtin."""


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_table_is_what_the_builtins_are() -> None:
    """A builtin that is new in some Python must be put into one of the two lists."""
    known = {*REBUILT, *(type(error).__name__ for error in GENERIC_BUILTINS), "BaseException"}
    known |= {
        "IOError",
        "EnvironmentError",
        "WindowsError",
        "PythonFinalizationError",
        "_IncompleteInputError",
    }
    exceptions = {
        name
        for name, cls in vars(builtins).items()
        if isinstance(cls, type) and issubclass(cls, BaseException)
    }
    assert exceptions <= known


@pytest.mark.parametrize("name", REBUILT)
def test_builtin_there_and_back(name: str) -> None:
    cls = getattr(builtins, name)
    packed = pack(raised(cls("some text")))
    assert (packed.class_name, packed.message) == (name, str(cls("some text")))
    error = rebuild(unpack(packed.as_dict()), INFO)
    assert type(error) is cls
    assert error.args == (packed.message,)


@pytest.mark.parametrize("name", ["IOError", "EnvironmentError", "WindowsError"])
def test_aliases_of_oserror(name: str) -> None:
    """sipyco says IOError for OSError; OSError is understood there just as well."""
    error = rebuild(PackedException(name, "text", ()), INFO)
    assert type(error) is OSError
    assert pack(OSError("text")).class_name == "OSError"


def test_os_error_keeps_its_text_only() -> None:
    packed = pack(OSError(2, "No such file", "name"))
    assert (packed.class_name, packed.message) == ("FileNotFoundError", "[Errno 2] No such file: 'name'")
    error = rebuild(packed, INFO)
    assert isinstance(error, FileNotFoundError)
    assert error.errno is None


def test_quotes_of_a_key_error_pile_up() -> None:
    packed = pack(KeyError("missing"))
    assert packed.message == "'missing'"
    assert str(rebuild(packed, INFO)) == "\"'missing'\""


@pytest.mark.parametrize("error", GENERIC_BUILTINS, ids=lambda error: type(error).__name__)
def test_builtin_that_goes_as_generic(error: BaseException) -> None:
    packed = pack(error)
    assert packed.class_name == GENERIC
    assert packed.message == f"{type(error).__name__}: {error}"
    back = rebuild(packed, INFO)
    assert type(back) is RemoteError
    assert back.message == packed.message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Own("text"), f"{__name__}.Own: text"),
        (Own(), f"{__name__}.Own"),
        (Own("line one\nline two"), f"{__name__}.Own: line one\nline two"),
        (Speechless(), f"{__name__}.Speechless: <no text: RuntimeError in str() of the exception>"),
        (type("ValueError", (Exception,), {"__module__": "lab"})("impostor"), "lab.ValueError: impostor"),
        (type("Local", (Exception,), {"__module__": "__main__"})("text"), "Local: text"),
        (type("In", (Exception,), {"__module__": "lab", "__qualname__": "Out.In"})(), "lab.Out.In"),
        (pickle.PicklingError("text"), "_pickle.PicklingError: text"),
    ],
)
def test_other_classes_go_as_generic(error: Exception, message: str) -> None:
    assert pack(error) == PackedException(GENERIC, message, ())


@pytest.mark.parametrize(
    "name",
    [
        *("eval", "exec", "print", "compile", "open", "__import__", "type", "object", "BaseException"),
        *("SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "StopAsyncIteration"),
        *(
            "UnicodeDecodeError",
            "ExceptionGroup",
            "os.system",
            "builtins.ValueError",
            "subprocess.CalledProcessError",
        ),
        *("__class__", "", "ValueError ", "valueerror", "None", "Ellipsis"),
    ],
)
def test_name_that_is_not_in_the_table_calls_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        for function in ("eval", "exec", "print", "compile", "open", "__import__"):
            patch.setattr(builtins, function, refuse)
        error = rebuild(unpack({"class": name, "message": "1/0", "traceback": []}), INFO)
    assert type(error) is RemoteError
    assert (error.class_name, error.message, error.call) == (name, f"{name}: 1/0", INFO)


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        ({}, ("unknown exception", "", ())),
        ({"class": "ValueError"}, ("ValueError", "", ())),
        ({"message": "text"}, ("unknown exception", "text", ())),
        ({"class": 5, "message": None, "traceback": None}, ("5", "None", ())),
        ({"class": ["eval"], "message": (1,), "traceback": "text"}, ("['eval']", "(1,)", ())),
        ({"class": "C", "message": "m", "traceback": ("a\n", 5)}, ("C", "m", ("a\n", "5"))),
        ({"class": "C", "message": "m", "traceback": {"a": 1}, "more": 1}, ("C", "m", ())),
    ],
)
def test_missing_and_odd_parts_are_made_up_for(received: Any, expected: tuple[Any, ...]) -> None:
    packed = unpack(received)
    assert packed == PackedException(*expected)
    assert isinstance(rebuild(packed, INFO), Exception)


@pytest.mark.parametrize("received", [None, "ValueError", ["ValueError", "text"], 5])
def test_not_an_exception_at_all(received: Any) -> None:
    with pytest.raises(TypeError, match=type(received).__name__):
        unpack(received)


def test_traceback_is_that_of_the_method() -> None:
    packed = pack(raised(ValueError("text")))
    assert len(packed.traceback) == 1
    assert packed.traceback[0].startswith(f'  File "{__file__}", line ')
    assert packed.traceback[0].endswith("\n")
    assert packed.as_dict()["traceback"] == [*packed.traceback]


def test_hidden_are_the_outer_frames_only() -> None:
    def outer() -> None:
        exec("call()", {"__name__": "trionet.fake", "call": middle})

    def middle() -> None:
        exec("call()", {"__name__": "trionet.fake", "call": inner})

    def inner() -> None:
        raise ValueError("text")

    def names(packed: PackedException) -> list[str]:
        return [line.split("\n")[0].rpartition(" in ")[2] for line in packed.traceback]

    def caught(call: Any) -> Exception:
        try:
            exec("call()", {"__name__": "trionet.fake", "call": call})
        except ValueError as error:
            return error
        raise AssertionError

    error = caught(outer)
    everything = ["caught", "<module>", "outer", "<module>", "middle", "<module>", "inner"]
    assert names(pack(error)) == everything
    assert names(pack(error, hide=("elsewhere.",))) == everything
    assert names(pack(error, hide=("tests.", "trionet."))) == []
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    assert names(pack(error, hide=("trionet.",))) == everything[2:]


def test_error_passed_on_keeps_name_and_traceback() -> None:
    error = raised(RemoteError("Refused", "lab.Refused: too hot", INFO))
    packed = pack(error)
    assert (packed.class_name, packed.message) == (GENERIC, "lab.Refused: too hot")
    assert packed.traceback[0] == "  File remote\n"
    assert len(packed.traceback) == 2
    again = rebuild(packed, CallInfo("proxy:1"))
    assert isinstance(again, RemoteError)
    assert again.message == "lab.Refused: too hot"


@pytest.mark.parametrize("class_name", ["ValueError", GENERIC, "Unknown"])
def test_place_and_remote_traceback_are_told(class_name: str) -> None:
    error = rebuild(PackedException(class_name, "text", ("  File a\n", "  File b\n    code\n")), INFO)
    assert error.call is INFO  # type: ignore[attr-defined]
    notes = "\n".join(error.__notes__)
    assert "Remote traceback (most recent call last):\n  File a\n  File b\n    code" in notes
    assert ("method 'fire', target 'laser', peer peer:1" in notes) == (class_name == "ValueError")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert other.call == INFO  # type: ignore[attr-defined]


def test_no_note_without_a_traceback() -> None:
    assert not hasattr(rebuild(PackedException(GENERIC, "text", ()), INFO), "__notes__")
    assert len(rebuild(PackedException("ValueError", "text", ()), INFO).__notes__) == 1
