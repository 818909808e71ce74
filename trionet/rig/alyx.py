"""Tokens of the Alyx database, which rigs pass on to each other."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from trionet.wire.rig_messages import ExpMessage, Message


class AlyxClient(Protocol):
    """What is used of a client of Alyx. ONE's `AlyxClient` is one; nothing of it is imported here."""

    @property
    def base_url(self) -> str | None:
        """Where the database is."""

    @property
    def user(self) -> str | None:
        """Who is logged in."""

    @property
    def _token(self) -> Any:
        """The token, as the database has given it."""

    @property
    def is_logged_in(self) -> bool:
        """Whether there is a token."""


class AlyxToken(NamedTuple):
    """The answer to a request for a token.

    Attributes:
        base_url: Where the database is, or None.
        tokens: By user.
    """

    base_url: str | None
    tokens: dict[str, Any]


def alyx_message(client: AlyxClient | None) -> Message:
    """The message with the token of a client; without one, the request for a token."""
    if client is None:
        return [ExpMessage.ALYX, None, {}]
    tokens = {client.user: client._token} if client.is_logged_in else {}
    return [ExpMessage.ALYX, client.base_url, tokens]
