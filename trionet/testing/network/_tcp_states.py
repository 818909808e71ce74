"""The states of a TCP connection, and what leads from one to another (RFC 9293, figure 5)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


class State(enum.Enum):
    """As netstat shows them."""

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN_SENT"
    SYN_RECEIVED = "SYN_RECV"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN_WAIT1"
    FIN_WAIT_2 = "FIN_WAIT2"
    CLOSE_WAIT = "CLOSE_WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST_ACK"
    TIME_WAIT = "TIME_WAIT"


class Cause(enum.Enum):
    """Why a state is left. `END` is possible in each: a reset, a timeout, an abort."""

    CONNECT = enum.auto()
    SYN = enum.auto()
    SYN_ACKNOWLEDGED = enum.auto()
    FIN_SENT = enum.auto()
    FIN_RECEIVED = enum.auto()
    FIN_ACKNOWLEDGED = enum.auto()
    END = enum.auto()


TRANSITIONS: Final[Mapping[State, Mapping[Cause, State]]] = MappingProxyType(
    {
        State.CLOSED: {
            Cause.CONNECT: State.SYN_SENT,
            Cause.SYN: State.SYN_RECEIVED,
        },
        State.SYN_SENT: {
            Cause.SYN_ACKNOWLEDGED: State.ESTABLISHED,
            Cause.SYN: State.SYN_RECEIVED,  # both have connected at the same time
        },
        State.SYN_RECEIVED: {
            Cause.SYN_ACKNOWLEDGED: State.ESTABLISHED,
        },
        State.ESTABLISHED: {
            Cause.FIN_SENT: State.FIN_WAIT_1,
            Cause.FIN_RECEIVED: State.CLOSE_WAIT,
        },
        State.FIN_WAIT_1: {
            Cause.FIN_ACKNOWLEDGED: State.FIN_WAIT_2,
            Cause.FIN_RECEIVED: State.CLOSING,
        },
        State.FIN_WAIT_2: {
            Cause.FIN_RECEIVED: State.TIME_WAIT,
        },
        State.CLOSING: {
            Cause.FIN_ACKNOWLEDGED: State.TIME_WAIT,
        },
        State.CLOSE_WAIT: {
            Cause.FIN_SENT: State.LAST_ACK,
        },
        State.LAST_ACK: {
            Cause.FIN_ACKNOWLEDGED: State.CLOSED,
        },
        State.TIME_WAIT: {},
    }
)

#: States in which this side may send what it has.
CAN_SEND: Final = frozenset({State.ESTABLISHED, State.CLOSE_WAIT})
#: States in which a connection is not made yet.
OPENING: Final = frozenset({State.SYN_SENT, State.SYN_RECEIVED})
