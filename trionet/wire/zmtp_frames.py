"""Frames of ZMTP 3, ZeroMQ's wire protocol: how they are written, and cut out of a stream.

    flags (1 byte)  length (1 byte)               body     up to 255 bytes
    flags + LONG    length (8 bytes, big endian)  body     more

A message is one frame or more; all but the last have the flag MORE. Commands are single frames with the flag
COMMAND, see `zmtp_commands`; they may come between the frames of a message.

A frame may be 100 MiB of samples, so a large one is received into memory of its own, and given as a view of
that: its bytes are kept once. What a peer announces and does not send costs next to nothing: half a MiB, or
address space. Large frames that are sent are not copied either.

Protocol facts: RFC 37 (ZMTP 3.1), and recorded from libzmq 4.3.5 (tests/data/transcripts).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Flags of a frame. The five bits above them are reserved, and have to be 0.
MORE: Final = 1
LONG: Final = 2
COMMAND: Final = 4

#: A received frame: bytes, or a read-only view of bytes if there are many.
Frame = bytes | memoryview

# From this size on, frames are not copied: received ones are given as a view of the memory they were received
# into, and sent ones are buffers of their own.
_LARGE: Final = 64 * 1024
# Memory of a bytearray costs its zeroing, but is mostly memory that the program has had before, while numpy's
# comes from the system, page by page, as bytes come. That is worth it for very large frames, and until so
# many bytes have come that the peer is believed to send the rest.
_LONGEST_ZEROED: Final = 16 * 2**20
_TRUSTED: Final = 2**19
#: A body of so many bytes needs a long header.
SHORTEST_LONG: Final = 256
# By flags and length, because nearly all frames have one of these.
_SHORT_HEADERS: Final = {
    flags: [bytes((flags, length)) for length in range(SHORTEST_LONG)] for flags in (0, MORE)
}


class BadFrame(Exception):
    """What comes is no frame, or is longer than the limit. There is no way to read on behind it."""


class FrameBuffer:
    """Takes pieces of a stream, gives frames.

    It keeps what was fed and not taken. Take all frames there are before feeding more.

    Args:
        max_message_frame: The longest frame of a message accepted from now on, in bytes.
        max_command: The longest command accepted, in bytes.
    """

    __slots__ = (
        "_body",
        "_data",
        "_filled",
        "_flags",
        "_length",
        "_start",
        "max_command",
        "max_message_frame",
    )

    def __init__(self, max_message_frame: int, max_command: int) -> None:
        self.max_message_frame = max_message_frame
        self.max_command = max_command
        # What has come and was not taken: everything behind `_start`.
        self._data = b""
        self._start = 0
        # A frame whose header was taken and whose body was not. While there is one, `_data` begins behind it.
        self._flags = 0
        self._length = 0
        self._body: memoryview | None = None
        self._filled = 0

    @property
    def buffered(self) -> int:
        """Bytes that have come and were not given, without the header of the frame they belong to."""
        return len(self._data) - self._start + (self._filled if self._body is not None else 0)

    @property
    def is_between_frames(self) -> bool:
        """Whether no frame has come in part, or waits to be taken."""
        return self._body is None and self._start == len(self._data)

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream."""
        start = 0
        while (vacant := self.vacant()) is not None:
            size = min(len(vacant), len(data) - start)
            vacant[:size] = memoryview(data)[start : start + size]
            self.fill(size)
            start += size
            if start == len(data):
                return
        if self._start == len(self._data):
            self._data, self._start = data, start
        else:
            self._data, self._start = self._data[self._start :] + data, 0

    def vacant(self) -> memoryview | None:
        """Where what comes next can be received into, at most so much; call `fill` then. None: `feed` it.

        It may be only the beginning of what is vacant: look again after `fill`.
        """
        if self._body is None or self._filled == len(self._body):
            return None
        return self._body[self._filled :]

    def fill(self, size: int) -> None:
        """The first `size` bytes of `vacant()` have been received."""
        self._filled += size
        if self._body is not None and self._filled == len(self._body) < self._length:
            body = memoryview(bytearray(self._length))
            body[: self._filled] = self._body
            self._body = body

    def take(self, size: int) -> bytes | None:
        """So many bytes as they are, or None if there are fewer."""
        end = self._start + size
        if end > len(self._data):
            return None
        taken = self._data[self._start : end]
        self._start = end
        return taken

    def peek(self) -> bytes:
        """What has come and was not taken."""
        return self._data[self._start :]

    def next_short_message(self, max_frames: int) -> list[Frame] | None:
        """The frames of the next message, if all of it is there, and all of them are short: in one go.

        None: see what `next_frame` says. Nothing has been taken.
        """
        if self._body is not None:
            return None
        data, end = self._data, self._start
        limit = min(len(data), end + self.max_message_frame)
        frames: list[Frame] = []
        while end + 2 <= limit and len(frames) < max_frames:
            flags, start = data[end], end + 2
            end = start + data[start - 1]
            if flags > MORE or end > limit:
                return None
            frames.append(data[start:end])
            if not flags:
                self._start = end
                return frames
        return None

    def next_frame(self) -> tuple[int, Frame] | None:
        """The flags and the body of the next frame, or None while it is not complete.

        Raises:
            BadFrame: for a header that makes no sense, or announces too much, as soon as that is there.
        """
        if self._body is not None:
            return self._take_body(self._body)
        data, start = self._data, self._start
        if len(data) - start < 2:
            self._trim()
            return None
        flags = data[start]
        if flags > 7 or flags & (MORE | COMMAND) == MORE | COMMAND:
            raise BadFrame(f"a frame with the flags {flags:#04x}")
        if flags & LONG:
            start += 9
            if len(data) < start:
                self._trim()
                return None
            length = int.from_bytes(data[start - 8 : start], "big")
        else:
            start += 2
            length = data[start - 1]
        if length > (self.max_command if flags & COMMAND else self.max_message_frame):
            raise BadFrame(self._too_long(flags, length))
        end = start + length
        if end <= len(data):
            self._start = end
            return flags, data[start:end]
        self._begin_body(flags, length, start)
        return None

    def _trim(self) -> None:
        """Let go of what has been taken: a connection that is idle keeps nothing of it."""
        self._data, self._start = self._data[self._start :], 0

    def _begin_body(self, flags: int, length: int, start: int) -> None:
        """Make room for a body of which not all has come; what has is everything behind `start`."""
        self._flags = flags
        self._length = length
        self._filled = len(self._data) - start
        if length > _LONGEST_ZEROED:
            self._body = np.empty(length, np.uint8).data
        else:
            self._body = memoryview(bytearray(length if self._filled >= _TRUSTED else min(length, _TRUSTED)))
        self._body[: self._filled] = memoryview(self._data)[start:]
        self._data, self._start = b"", 0

    def _take_body(self, body: memoryview) -> tuple[int, Frame] | None:
        if self._filled < self._length:
            return None
        self._body = None
        return self._flags, body.toreadonly() if len(body) >= _LARGE else bytes(body)

    def _too_long(self, flags: int, length: int) -> str:
        if flags & COMMAND:
            return f"a command of {length} bytes, {self.max_command} are allowed"
        return f"a frame of {length} bytes where {self.max_message_frame} are allowed"


def encode_message(frames: Sequence[Buffer]) -> list[Frame]:
    """The buffers to send for a message: large frames as they are, what is between them joined.

    Raises:
        ValueError: for a message without frames.
        BufferError: for a frame whose bytes are not one behind the other (TypeError if it has none).
    """
    if not frames:
        raise ValueError("a message has one frame at least")
    buffers: list[Frame] = []
    small: list[Frame] = []
    last = len(frames) - 1
    for number, frame in enumerate(frames):
        body = frame if type(frame) is bytes else _flat(frame)
        flags = MORE if number < last else 0
        length = len(body)
        if length < SHORTEST_LONG:
            small += (_SHORT_HEADERS[flags][length], body)
            continue
        small.append(bytes((flags | LONG,)) + length.to_bytes(8, "big"))
        if length < _LARGE:
            small.append(body)
        else:
            buffers += (b"".join(small), body)
            small.clear()
    if small:
        buffers.append(b"".join(small))
    return buffers


def _flat(frame: Buffer) -> memoryview | bytes:
    view = memoryview(frame)
    if not view.c_contiguous:
        raise BufferError("a frame has to be contiguous")
    return view.cast("B") if view.nbytes else b""  # an empty array cannot be cast
