"""The transcripts that were recorded between real peers, cut into connections and lines."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent.parent / "data" / "transcripts"

#: Those of pc_rpc.
SCENARIOS = (
    "edge_cases",
    "v1_old_client",
    "v1_old_server",
    "v1_values",
    "v2_asyncio_client",
    "v2_best_effort_client",
    "v2_session",
    "v2_sys_exit",
    "v2_two_targets",
    "v2_values",
)


@dataclass(frozen=True)
class Message:
    """One line, or the end of a stream when `line` is empty."""

    sender: str
    line: bytes
    note: str


@dataclass
class Recording:
    """One connection. Line n of one side and line n of the other belong together."""

    scenario: str
    number: int
    messages: list[Message] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.scenario}-{self.number}"

    def lines(self, sender: str) -> list[bytes]:
        """What one side sent, with the line feeds."""
        return [message.line for message in self.messages if message.sender == sender and message.line]

    @property
    def exchanges(self) -> list[tuple[bytes, bytes]]:
        """Requests and their replies; a request without one is left out."""
        return [*zip(self.lines("client")[2:], self.lines("server")[2:], strict=False)]

    @property
    def is_v2(self) -> bool:
        """Whether the client chose PYON v2."""
        return b" pyon_v2" in b"".join(self.lines("client")[1:2])


def recordings(scenario: str) -> tuple[Recording, ...]:
    """The connections of ``pc_rpc_SCENARIO.json``."""
    return load(f"pc_rpc_{scenario}", scenario)


@cache
def load(file: str, scenario: str = "") -> tuple[Recording, ...]:
    """The connections of ``FILE.json``, in the order of their numbers' first appearance."""
    content: dict[str, Any] = json.loads((_FOLDER / f"{file}.json").read_text())
    found: dict[int, Recording] = {}
    scenario = scenario or file
    for message in content["messages"]:
        number = message.get("conn", 0)
        recording = found.setdefault(number, Recording(scenario, number))
        line = base64.b64decode(message["bytes_b64"])
        recording.messages.append(Message(message["from"], line, message.get("note", "")))
    return tuple(found.values())


def all_recordings() -> Iterator[Recording]:
    """Every connection of every scenario of pc_rpc."""
    for scenario in SCENARIOS:
        yield from recordings(scenario)
