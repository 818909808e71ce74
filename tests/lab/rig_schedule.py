"""What rigs do wrong, decided by a seed, and what becomes of it: who answers, and who fails in which way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import trio

import trionet
from tests.lab.rigs import LabRig, answer
from tests.lab.servers import set_weather
from trionet import ConnectionLost, EchoTimeout, RemoteError, ResponseTimeout, RigCommunicator, RigEvent
from trionet.testing import DROP, Lab, Packet, Reset, Verdict

#: Seconds from a message to its answer.
RESPONSE_TIMEOUT = 100.0

#: How messages are sent over UDP: often enough that none is lost for ever by the weather alone.
UDP: dict[str, Any] = {"echo_timeout": 0.5, "attempts": 14}

#: And over TCP, which sends again by itself.
TCP: dict[str, Any] = {"echo_timeout": 20.0, "attempts": 1, "connect_timeout": 30.0}

#: Longer than the other side goes on sending, and than anything is on its way.
DEDUP_WINDOW = 60.0

UDP_FATES = (
    "answers",
    "answers",
    "answers late",
    "never answers",
    "reports an error",
    "reports an error",
    "is down",
    "is not started",
    "is not started",
    "crashes at the message",
    "crashes at work",
    "message lost",
    "echo lost",
    "answer lost",
)
TCP_FATES = (
    "answers",
    "answers",
    "answers late",
    "never answers",
    "reports an error",
    "is down",
    "is not started",
    "crashes at the message",
    "crashes at work",
    "reset in the message",
    "reset in the echo",
    "reset in the answer",
    "answer lost",
)


@dataclass
class Outcome:
    """What a rig's fate leads to.

    Attributes:
        failure: The class of the reason, and nothing derived from it; None if it answers.
        seconds: After which it fails, if that does not depend on the weather.
        asked: Whether its callback is called, which happens once then.
    """

    failure: type[Exception] | None
    seconds: float | None = None
    asked: bool = True


class ScheduledRig(LabRig):
    """A rig with a fate.

    Args:
        lab: The lab.
        number: Which rig this is; the first has 0.
        scheme: ``udp`` or ``tcp``.

    Attributes:
        fate: One of `UDP_FATES` or `TCP_FATES`.
        work: Seconds from a message to its answer.
        message_length: Of the message that meets this fate; over TCP it is the first of a connection.
    """

    def __init__(self, lab: Lab, number: int, scheme: str) -> None:
        options = {"echo_timeout": UDP["echo_timeout"], "attempts": UDP["attempts"]}
        if scheme == "tcp":
            options = {"echo_timeout": TCP["echo_timeout"]}
        super().__init__(lab.host(f"rig{number}"), scheme, self._behave, dedup_window=DEDUP_WINDOW, **options)
        random = lab.random
        self._lab = lab
        self.fate = random.choice(UDP_FATES if scheme == "udp" else TCP_FATES)
        self.work = random.choice([0.0, 0.0, random.uniform(0, 50)])
        if self.fate == "answers late":
            self.work = RESPONSE_TIMEOUT + random.uniform(0, 20)
        self.message_length = 0
        set_weather(lab, lab.host("client"), self.host)
        if (scheme, self.fate) == ("tcp", "answer lost"):
            # Sent again, the echo could travel with the answer.
            lab.link(lab.host("client"), self.host).loss = 0
        if (scheme, self.fate) == ("udp", "reports an error"):
            # A report is sent once: of some of them nothing is heard.
            lab.link(lab.host("client"), self.host).loss = 0.2

    async def prepare(self) -> None:
        """Be there, or not."""
        if self.fate not in ("is down", "is not started"):
            await self.start()
        if self.fate == "is down":
            self.host.crash()

    async def recover(self) -> None:
        """Be there, and do what a rig has to do, from now on."""
        if not self.serving:
            await self.start()
        self.fate, self.work = "answers", 0.0

    async def _behave(self, event: RigEvent, rig: RigCommunicator) -> None:
        if self.fate == "never answers":
            return
        if self.fate == "crashes at work":
            await trio.sleep(10)  # by then the echo has arrived, in any weather
            self.host.crash()
        await trio.sleep(self.work)
        if self.fate == "reports an error":
            raise LookupError(f"{rig.name} has no camera for {event.data}")
        with contextlib.suppress(EchoTimeout, OSError):
            await answer(event, rig)

    def rule(self, packet: Packet) -> Verdict | None:
        """What becomes of a packet between the client and this rig."""
        if not packet.payload:
            return None
        to_rig = packet.dst.host == self.host.name
        if self.fate == "crashes at the message" and to_rig:
            self.host.crash()
            return DROP
        if self.scheme == "udp":
            return self._udp_rule(packet, to_rig)
        return self._tcp_rule(packet, to_rig)

    def _udp_rule(self, packet: Packet, to_rig: bool) -> Verdict | None:
        is_answer = b'["rig' in packet.payload
        lost = {
            "message lost": to_rig,
            "echo lost": not to_rig and not is_answer,
            "answer lost": not to_rig and is_answer,
        }
        return DROP if lost.get(self.fate) else None

    def _tcp_rule(self, packet: Packet, to_rig: bool) -> Verdict | None:
        # Both directions of the stream begin with the message.
        length, end = self.message_length, packet.offset + len(packet.payload)
        if self.fate == ("reset in the message" if to_rig else "reset in the echo"):
            return Reset(max(0, length // 2 - packet.offset))
        if not to_rig and end > length:
            if self.fate == "answer lost":
                return DROP
            if self.fate == "reset in the answer":
                return Reset(max(0, length + 3 - packet.offset))
        return None

    def expect(self, began: float) -> Outcome:
        """What has become of a message that was sent at a time of the trace, once it is over."""
        udp = self.scheme == "udp"
        silent = Outcome(EchoTimeout, UDP["echo_timeout"] * UDP["attempts"] if udp else None, asked=False)
        unanswered = Outcome(ResponseTimeout, RESPONSE_TIMEOUT)
        match self.fate:
            case "answers":
                return Outcome(None)
            case "answers late" | "never answers" | "answer lost":
                return unanswered
            case "reports an error":  # once, and nobody confirms that
                return Outcome(RemoteError) if self._report_arrived() else unanswered
            case "message lost" | "crashes at the message":
                return silent
            case "echo lost":
                return replace(silent, asked=True)
            case "reset in the message":
                return Outcome(ConnectionLost, asked=False)
            case "reset in the echo" | "reset in the answer":
                return Outcome(ConnectionLost)
            case "crashes at work":
                return unanswered if udp else Outcome(ConnectionLost)
            case "is down":
                return silent if udp else Outcome(TimeoutError, TCP["connect_timeout"], asked=False)
            case "is not started":
                if udp and not self._last_attempt_refused(began):
                    return silent
                return Outcome(ConnectionRefusedError, asked=False)
        raise AssertionError(self.fate)

    def _report_arrived(self) -> bool:
        return any(b"has no camera" in packet.payload for _, packet in self._delivered())

    def _last_attempt_refused(self, began: float) -> bool:
        end = began + UDP["echo_timeout"] * UDP["attempts"]
        begin = end - UDP["echo_timeout"]
        return any(packet.protocol == "icmp" and begin <= time < end for time, packet in self._delivered())

    def _delivered(self) -> Iterator[tuple[float, Packet]]:
        for entry in self._lab.trace:
            packet = entry.packet
            if packet is not None and entry.what == "delivered" and packet.src.host == self.host.name:
                yield entry.time, packet


@contextlib.asynccontextmanager
async def open_services(rigs: list[ScheduledRig]) -> AsyncIterator[trionet.RigServices]:
    """Services of these rigs, with the options of `UDP` and `TCP`."""
    async with contextlib.AsyncExitStack() as stack:
        opened = {}
        for rig in rigs:
            options = UDP if rig.scheme == "udp" else TCP
            opened[rig.host.name] = await stack.enter_async_context(
                trionet.open_rig_communicator(
                    rig.uri, name=rig.host.name, dedup_window=DEDUP_WINDOW, connect_first=False, **options
                )
            )
        yield trionet.RigServices(opened, response_timeout=RESPONSE_TIMEOUT)
