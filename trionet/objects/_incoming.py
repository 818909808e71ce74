"""What a client has sent: one request after the other, and a look at what is behind it."""

from __future__ import annotations

import contextlib
from typing import Final

import trio

from trionet._zmtp_stream import ZmtpStream
from trionet.wire.errors import TrionetError
from trionet.wire.objects import wants_reply
from trionet.wire.zmtp_frames import Frame

# Bytes of requests that are read while another one waits for its turn. Behind more, nothing is noticed.
_READ_AHEAD: Final = 1 << 20
# What a request takes besides its frames, about.
_OVERHEAD: Final = 512


class ClientLeft(Exception):
    """It has left while its request waited for its turn, and nobody wants what it has asked for."""


class Incoming:
    """The requests of one client, as messages."""

    def __init__(self, zmtp: ZmtpStream) -> None:
        self._zmtp = zmtp
        self._ahead: list[list[Frame]] = []  # an empty deque would take ten times as much

    @property
    def has_more(self) -> bool:
        """Whether there is another request already."""
        return bool(self._ahead)

    async def next(self) -> list[Frame] | None:
        """The next request, or None if the client has left.

        Raises:
            ConnectionLost: if the connection is lost.
            RemoteProtocolError: if the client sends what is not allowed.
        """
        frames = self._ahead.pop(0) if self._ahead else await anext(self._zmtp, None)
        if frames is not None and not self._ahead:
            with contextlib.suppress(TrionetError):  # it will be raised again, after this request
                ahead = self._zmtp.receive_nowait()
                if ahead is not None:
                    self._ahead.append(ahead)
        return frames

    async def wait_turn(self, turn: trio.Semaphore, answers: bool) -> None:
        """Acquire a semaphore; meanwhile read on, as far as that is little, to notice that the client leaves.

        Args:
            turn: The semaphore.
            answers: Whether the request that waits is to be answered.

        Raises:
            ClientLeft: if it leaves. What wants no answer is waited for all the same, here or behind.
        """
        has_turn = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_ahead, answers, nursery.cancel_scope)
            await turn.acquire()
            has_turn = True
            nursery.cancel_scope.cancel()
        if not has_turn:
            self._ahead.clear()
            raise ClientLeft

    async def _read_ahead(self, answers: bool, waiting: trio.CancelScope) -> None:
        with contextlib.suppress(TrionetError):  # it will be raised again
            size = sum(map(_size, self._ahead))
            while size < _READ_AHEAD:
                frames = await anext(self._zmtp, None)
                if frames is None:
                    break
                self._ahead.append(frames)
                size += _size(frames)
            else:
                return
        if answers and all(map(wants_reply, self._ahead)):
            waiting.cancel()


def _size(frames: list[Frame]) -> int:
    return sum(map(len, frames)) + _OVERHEAD
