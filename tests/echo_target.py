"""Targets like those of the recorded peers, made after their method lists and replies."""

from __future__ import annotations

from typing import Any

import trio


class CustomError(Exception):
    """The recorded class was defined in the main script."""

    __module__ = "__main__"


class Refused(ValueError):
    """The same, and a subclass of a builtin."""

    __module__ = "__main__"


class Echo:
    """Echo target.

    Second paragraph.
    """

    attribute = "not callable"

    # The annotations are classes, not strings: the recorded method list names them.
    def add(self, a, b=2, *, c=3):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Adds.

        Indented docstrings are cleaned.
        """
        return a + b + c

    add.__annotations__ = {"return": int, "c": int}  # noqa: RUF012

    async def async_echo(self, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        await trio.lowlevel.checkpoint()
        return x

    def both(self, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN201
        return [args, kwargs]

    def echo(self, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Returns its argument."""
        return x

    def raise_custom(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise CustomError("custom text")

    def raise_custom_multiline(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise CustomError("line one\nline two \u269b")

    def raise_empty(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise RuntimeError

    def raise_key_error(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise KeyError("missing")

    def raise_keyboard_interrupt(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise KeyboardInterrupt("ctrl-c")

    def raise_nested(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise RuntimeError("outer") from error

    def raise_os_error(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise OSError(2, "No such file", "name")

    def raise_refused(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise Refused("sub of ValueError")

    def raise_sys_exit(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise SystemExit

    def raise_unicode_error(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        b"\xff".decode()

    def raise_value_error(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise ValueError("bad value")

    def unserializable(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        return object()

    def _private(self) -> str:
        return "private methods can be called"


class Hello:
    def __init__(self, name: str) -> None:
        self._name = name

    def hello(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        return f"hello from {self._name}"


class OldTarget:
    def echo(self, x: Any) -> Any:
        return x

    def fail(self) -> None:
        raise ValueError("old server")
