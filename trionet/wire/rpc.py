"""pc_rpc as two state machines without I/O: one for each side of a connection.

    client                                   server
    SEND_BANNER    -- ARTIQ pc_rpc ------>   WAIT_BANNER
    WAIT_GREETING  <-- targets, features --  SEND_GREETING
    SEND_TARGET    -- target, features --->  WAIT_TARGET
    WAIT_METHODS   <-- method names -------  SEND_METHODS
    READY          -- request ------------>  WAIT_REQUEST
    READY          <-- reply --------------  SEND_REPLY

A step is taken by a line that comes in (a WAIT state) or by a method of this side (a SEND state), and the
tables below say which step leads where. What else comes in is a `RemoteProtocolError` and ends the
connection: its state is CLOSED. A method in the wrong state is a `LocalProtocolError` and changes nothing.

The methods that send return the bytes to be sent. `receive_data` takes what came; `next_event` gives what
it meant, one step at a time, and None when nothing more can be said, because the line is not complete yet
or because it is this side's turn. Lines that the peer sent ahead wait until then, so requests may be
pipelined. A client may have many calls under way: replies come in the order of the requests, and each is
given the number that `call` returned.

Protocol facts: recorded from sipyco 1.10 and its predecessors (tests/data/transcripts).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from trionet.wire.errors import IncompatibleServer, LocalProtocolError, RemoteProtocolError
from trionet.wire.feeds import PyonVersion, check_pyon_version
from trionet.wire.lines import MAX_MESSAGE_SIZE, LineBuffer, LineTooLong
from trionet.wire.packed_exceptions import PackedException
from trionet.wire.rpc_messages import (
    BANNER,
    PYON_V2,
    V1,
    V2,
    BadRequest,
    Call,
    Codec,
    Greeting,
    ListMethods,
    decode_greeting,
    encode_greeting,
)


class AutoTarget(Enum):
    """Type of `AUTO`."""

    AUTO = auto()

    def __repr__(self) -> str:
        return "AUTO"


#: Choose the only target that the server has.
AUTO: Final = AutoTarget.AUTO


class State(Enum):
    """The states of both sides."""

    SEND_BANNER = auto()
    WAIT_BANNER = auto()
    SEND_GREETING = auto()
    WAIT_GREETING = auto()
    SEND_TARGET = auto()
    WAIT_TARGET = auto()
    SEND_METHODS = auto()
    WAIT_METHODS = auto()
    WAIT_REQUEST = auto()
    SEND_REPLY = auto()
    READY = auto()
    CLOSED = auto()


#: What a line that comes in leads to, per state. In the states that are missing, lines wait.
RECEIVING: Final[Mapping[State, State]] = {
    # client
    State.WAIT_GREETING: State.SEND_TARGET,
    State.WAIT_METHODS: State.READY,
    State.READY: State.READY,
    # server
    State.WAIT_BANNER: State.SEND_GREETING,
    State.WAIT_TARGET: State.SEND_METHODS,
    State.WAIT_REQUEST: State.SEND_REPLY,
}

#: What sending leads to, per state. In the states that are missing, sending is a mistake.
SENDING: Final[Mapping[State, State]] = {
    # client
    State.SEND_BANNER: State.WAIT_GREETING,
    State.SEND_TARGET: State.WAIT_METHODS,
    State.READY: State.READY,
    # server
    State.SEND_GREETING: State.WAIT_TARGET,
    State.SEND_METHODS: State.WAIT_REQUEST,
    State.SEND_REPLY: State.WAIT_REQUEST,
}


@dataclass(frozen=True, slots=True)
class ClientArrived:
    """A client has sent the banner: `ServerConnection.greet` it."""


@dataclass(frozen=True, slots=True)
class TargetSelected:
    """A client has chosen a target: answer with `ServerConnection.send_methods`."""

    target: str


@dataclass(frozen=True, slots=True)
class MethodsReceived:
    """The server has accepted the target."""

    methods: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a call, or the exception it ended with."""

    call_id: int
    result: Any
    failure: PackedException | None


ServerEvent = ClientArrived | TargetSelected | Call | ListMethods | BadRequest
ClientEvent = Greeting | MethodsReceived | Reply


class _Connection:
    """What both sides have in common: the state, the lines and the encoding."""

    __slots__ = ("_codec", "_lines", "state")

    def __init__(self, state: State, max_message_size: int) -> None:
        self.state = state
        self._lines = LineBuffer(max_message_size)
        self._codec: Codec = V1

    @property
    def pyon_version(self) -> PyonVersion:
        """The encoding in use behind the handshake: 1 or 2."""
        return 2 if self._codec is V2 else 1

    @property
    def buffered(self) -> int:
        """Bytes received and not yet consumed."""
        return self._lines.buffered

    def receive_data(self, data: bytes) -> None:
        """Take bytes that came from the peer."""
        if self.state is not State.CLOSED:
            self._lines.feed(data)

    def close(self) -> None:
        """The stream has ended or is about to: nothing more is received or sent."""
        self.state = State.CLOSED

    def _next_line(self) -> bytes | None:
        if self.state not in RECEIVING:
            return None
        try:
            line = self._lines.next_line()
        except LineTooLong as error:
            raise self._refuse(str(error)) from None
        if line is not None:
            self.state = RECEIVING[self.state]
        return line

    def _refuse(self, reason: str) -> RemoteProtocolError:
        self.state = State.CLOSED
        return RemoteProtocolError(reason)

    def _sends(self, *allowed: State) -> None:
        if self.state not in allowed:
            raise LocalProtocolError(f"not possible in state {self.state.name}")
        self.state = SENDING[self.state]


class ServerConnection(_Connection):
    """The server's side of one connection.

    Args:
        targets: The names that clients may choose from.
        description: Free text about the server, sent to clients.
        max_message_size: The longest line accepted, in bytes; a longer one ends the connection.
        pyon_version: 1 not to offer PYON v2.
    """

    __slots__ = ("_description", "_features", "_targets")

    def __init__(
        self,
        targets: Sequence[str],
        description: str | None = None,
        max_message_size: int = MAX_MESSAGE_SIZE,
        pyon_version: PyonVersion = 2,
    ) -> None:
        check_pyon_version(pyon_version)
        super().__init__(State.WAIT_BANNER, max_message_size)
        self._features = (PYON_V2,) if pyon_version == 2 else ()
        self._targets = tuple(targets)
        self._description = description

    def next_event(self) -> ServerEvent | None:
        """What the client wants next.

        Raises:
            RemoteProtocolError: for what has to end the connection without an answer.
        """
        state = self.state
        line = self._next_line()
        if line is None:
            return None
        if state is State.WAIT_REQUEST:
            try:
                return self._codec.decode_request(line)
            except ValueError as error:
                raise self._refuse(f"a request that is not PYON: {error}") from error
        if state is State.WAIT_TARGET:
            return self._select(line)
        if line != BANNER:
            raise self._refuse(f"not the banner of an RPC client: {line[:40]!r}")
        return ClientArrived()

    def _select(self, line: bytes) -> TargetSelected:
        try:
            target, *features = line.decode().split(" ")
        except UnicodeDecodeError:
            raise self._refuse(f"a target line that is not UTF-8: {line[:40]!r}") from None
        for feature in features:
            if feature not in self._features:
                raise self._refuse(f"unknown feature {feature[:40]!r}")
        if target not in self._targets:
            raise self._refuse(f"unknown target {target[:40]!r}")
        self._codec = V2 if PYON_V2 in features else V1
        return TargetSelected(target)

    def greet(self) -> bytes:
        """Say what targets and features there are."""
        self._sends(State.SEND_GREETING)
        return encode_greeting(Greeting(self._targets, self._description, self._features))

    def send_methods(self, names: Sequence[str]) -> bytes:
        """Name the methods of the target that was selected."""
        self._sends(State.SEND_METHODS)
        return self._codec.encode_methods(names)

    def send_result(self, value: Any) -> bytes:
        """Answer a request.

        Raises:
            TypeError: if PYON cannot carry the value (ValueError likewise). The request still waits for
                an answer then: send this failure.
        """
        if self.state is not State.SEND_REPLY:
            raise LocalProtocolError(f"no request waits for an answer in state {self.state.name}")
        line = self._codec.encode_result(value)
        self._sends(State.SEND_REPLY)
        return line

    def send_failure(self, packed: PackedException) -> bytes:
        """Answer a request with the exception that it ended with."""
        self._sends(State.SEND_REPLY)
        return self._codec.encode_failure(packed)


class ClientConnection(_Connection):
    """The client's side of one connection.

    Args:
        max_message_size: The longest line accepted, in bytes; a longer one ends the connection.
        pyon_version: 1 not to ask for PYON v2.
    """

    __slots__ = ("_greeting", "_last_call_id", "_newest_version", "_pending")

    def __init__(self, max_message_size: int = MAX_MESSAGE_SIZE, pyon_version: PyonVersion = 2) -> None:
        check_pyon_version(pyon_version)
        super().__init__(State.SEND_BANNER, max_message_size)
        self._newest_version = pyon_version
        # Calls without a reply, in the order of the requests: whether their reply is still wanted.
        self._pending: OrderedDict[int, bool] = OrderedDict()
        self._last_call_id = 0
        self._greeting = Greeting((), None, ())

    def greet(self) -> bytes:
        """The first line."""
        self._sends(State.SEND_BANNER)
        return BANNER + b"\n"

    def select_target(self, target: str | AutoTarget) -> bytes:
        """Choose a target that the server has offered.

        Raises:
            IncompatibleServer: if it has not offered this one. Another can be chosen then.
            ValueError: for `AUTO`, if the server has not exactly one target. Name one then.
        """
        if self.state is not State.SEND_TARGET:
            raise LocalProtocolError(f"a target cannot be selected in state {self.state.name}")
        offered = self._greeting.targets
        names = " ".join(sorted(offered))
        if isinstance(target, AutoTarget):
            if len(offered) != 1:
                raise ValueError(f"the server has {len(offered)} targets, name one: {names}")
            target = offered[0]
        elif target not in offered:
            raise IncompatibleServer(f"the server has no target {target!r}, but: {names}")
        self._sends(State.SEND_TARGET)
        self._codec = V2 if PYON_V2 in self._greeting.features and self._newest_version == 2 else V1
        return (f"{target} {PYON_V2}" if self._codec is V2 else target).encode() + b"\n"

    def call(self, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[int, bytes]:
        """Call a method. Returns the number that the reply will have, and the bytes to send.

        Raises:
            TypeError: if PYON cannot carry an argument (ValueError likewise). Nothing has happened then.
        """
        if self.state is not State.READY:
            raise LocalProtocolError(f"not possible in state {self.state.name}")
        line = self._codec.encode_call(method, args, kwargs)
        return self._expect_reply(), line

    def list_methods(self) -> tuple[int, bytes]:
        """Ask for the documentation of the target. Returns as `call` does."""
        self._sends(State.READY)
        return self._expect_reply(), self._codec.encode_list_methods()

    def _expect_reply(self) -> int:
        self._last_call_id += 1
        self._pending[self._last_call_id] = True
        return self._last_call_id

    def abandon(self, call_id: int) -> None:
        """Nobody wants the reply to this call any more: it will be skipped when it comes."""
        if call_id in self._pending:
            self._pending[call_id] = False

    def withdraw(self, call_id: int) -> None:
        """Forget a call none of whose bytes have been sent, nor will be: no reply will come.

        KeyError if its reply has come already, or if it was never made.
        """
        del self._pending[call_id]

    @property
    def calls_in_flight(self) -> int:
        """Requests without a reply yet, abandoned ones included."""
        return len(self._pending)

    def next_event(self) -> ClientEvent | None:
        """What the server has said next.

        Raises:
            RemoteProtocolError: for anything that does not fit. The connection is of no use after it,
                because replies are told apart by their order only.
        """
        while True:
            state = self.state
            line = self._next_line()
            if line is None:
                return None
            try:
                if state is State.WAIT_GREETING:
                    self._greeting = decode_greeting(line)
                    return self._greeting
                if state is State.WAIT_METHODS:
                    return MethodsReceived(self._codec.decode_methods(line))
                if not self._pending:
                    raise self._refuse("a reply to no request")
                call_id, wanted = self._pending.popitem(last=False)
                if not wanted:
                    continue
                return Reply(call_id, *self._codec.decode_reply(line))
            except (ValueError, RecursionError) as error:
                raise self._refuse(f"expected {_EXPECTED[state]}: {error}") from error


_EXPECTED: Final = {
    State.WAIT_GREETING: "the greeting of an RPC server",
    State.WAIT_METHODS: "a set of method names",
    State.READY: "a reply",
}
