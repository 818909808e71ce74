"""What the commands print: values, and errors in one line."""

from __future__ import annotations

import io
import math
import pprint
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

from trionet import (
    CallInfo,
    MethodDescription,
    ObjectDescription,
    RemoteError,
    TargetDescription,
    TrionetError,
    pyon,
)

#: What can go wrong with a connection or a call, apart from what a remote method raises.
EXPECTED_ERRORS: Final = (OSError, TrionetError, ValueError, TypeError, AttributeError)


class CommandError(Exception):
    """The command ends here. Its text is for the user.

    Attributes:
        remote_traceback: Where a remote exception was raised, outermost call first.
    """

    def __init__(self, message: str, remote_traceback: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.remote_traceback = tuple(remote_traceback)


def prepare_streams() -> None:
    """Have characters that the terminal's encoding lacks escaped, instead of failing at them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """The text without control characters: what a server says must not control the terminal."""
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def one_row(text: str) -> str:
    """The text as a row of a table or a screen: printable, with its spaces."""
    return printable(text.replace("\n", " ").replace("\t", " "))


def one_line(text: str) -> str:
    """The text in one line, printable."""
    return printable(" ".join(text.split()))


def say_error(message: str, stream: TextIO | None = None) -> None:
    """Tell the user, in one line, what is wrong."""
    print(f"trionet: error: {one_line(message)}", file=stream or sys.stderr)


def say_aside(text: str) -> None:
    """Tell the user something that is no result, in one line on standard error."""
    print(f"trionet: {one_line(text)}", file=sys.stderr, flush=True)


def remote_call(error: BaseException) -> CallInfo | None:
    """Where it was raised, if it was raised by a remote method; else None."""
    if isinstance(error, RemoteError):
        return error.call
    call = getattr(error, "call", None)
    return call if isinstance(call, CallInfo) and not isinstance(error, TrionetError) else None


def error_text(error: BaseException) -> str:
    """What happened, in words: class and text for what a remote method raised."""
    if isinstance(error, RemoteError):
        return error.message
    if remote_call(error) is not None:
        text = str(error.args[0]) if error.args else ""
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, OSError) and not isinstance(error, TrionetError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def traceback_text(lines: Sequence[str]) -> str:
    """A remote traceback, headed as the interpreter does it."""
    return printable("Remote traceback (most recent call last):\n" + "".join(lines).rstrip("\n"))


def result_text(result: Any) -> str:
    """A result for people. Nothing for None."""
    if result is None:
        return ""
    width = shutil.get_terminal_size().columns
    return pprint.pformat(result, width=width, sort_dicts=False)


def result_json(result: Any) -> str:
    """A result for programs: plain JSON in one line if there is one, else PYON v2, which is JSON, too."""
    return pyon.encode(_without_tuples(result) if _is_plain(result) else result)


def _is_plain(value: Any) -> bool:
    """Whether JSON has the value, if a tuple counts as a list."""
    if value is None or type(value) in (bool, int, str):
        return True
    if type(value) is float:
        return math.isfinite(value)
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) is dict and all(type(key) is str and _is_plain(item) for key, item in value.items())


def _without_tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_tuples(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_tuples(item) for key, item in value.items()}
    return value


def targets_text(targets: Sequence[str], description: str | None) -> str:
    """What a server offers, as upstream's tool prints it."""
    text = f"Target(s):   {', '.join(targets)}"
    return printable(text if description is None else f"{text}\nDescription: {description}")


def methods_text(description: TargetDescription) -> str:
    """The documentation of a target and of all its methods."""
    parts = [method_text(name, method) for name, method in sorted(description.methods.items())]
    if description.docstring:
        parts.insert(0, printable(description.docstring))
    return "\n\n".join(parts)


def method_text(name: str, method: MethodDescription) -> str:
    """The signature of one method, with its documentation below."""
    text = f"{name}{method.signature}"
    if method.docstring:
        text += "\n" + textwrap.indent(method.docstring, "    ")
    return printable(text)


def methods_as_dict(description: TargetDescription) -> dict[str, Any]:
    """The documentation of a target for `result_json`."""
    methods = {
        name: {"signature": method.signature, "docstring": method.docstring}
        for name, method in sorted(description.methods.items())
    }
    return {"docstring": description.docstring, "methods": methods}


def descriptions_text(described: Mapping[str, ObjectDescription]) -> str:
    """The documentation of objects, with their public attributes below."""
    return _list_text([_description_text(name, item) for name, item in described.items()])


def _description_text(name: str, described: ObjectDescription) -> str:
    """One object, with its documentation and its attributes below."""
    text = printable(name + (f": {described.type}" if described.signature is None else described.signature))
    if described.docstring:
        text += "\n" + textwrap.indent(printable(described.docstring), "    ")
    if described.attributes:
        attributes = _list_text([_description_text(*item) for item in described.attributes.items()])
        text += ("\n\n" if described.docstring else "\n") + textwrap.indent(attributes, "    ")
    return text


def _list_text(texts: Sequence[str]) -> str:
    """One below the other, with an empty line on either side of those that have several lines."""
    joined = ""
    for text, before in zip(texts, ("", *texts), strict=False):
        if before:
            joined += "\n\n" if "\n" in text or "\n" in before else "\n"
        joined += text
    return joined


def descriptions_as_dict(described: Mapping[str, ObjectDescription]) -> dict[str, Any]:
    """The documentation of objects for `result_json`."""
    return {
        name: {
            "type": item.type,
            "docstring": item.docstring,
            "signature": item.signature,
            "attributes": descriptions_as_dict(item.attributes),
        }
        for name, item in described.items()
    }
