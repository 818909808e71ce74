"""``trionet rig doctor``: find out whether a rig is well, and what is wrong if it is not."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import logging
import socket
import ssl
import statistics
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from trionet import (
    EchoTimeout,
    RigCommunicator,
    RigURI,
    open_rig_communicator,
)
from trionet.cli.connecting import positive_seconds
from trionet.cli.feeds import log_told
from trionet.cli.output import EXPECTED_ERRORS
from trionet.cli.parser import CommandParser
from trionet.cli.rig import diagnosis, probe
from trionet.cli.rig.diagnosis import Place
from trionet.cli.rig.report import Report, Trouble
from trionet.cli.rig.uris import add_rig, address_text, rig_context

#: The options, and how many words follow each of them.
DOCTOR_OPTIONS: Final = {"--tls": 3, "--timeout": 1}

_PATIENCE: Final = 3.0
_ROUND_TRIPS: Final = 20
# Lost messages in a row after which no more are sent.
_MANY_LOST: Final = 3
# Seconds: half of what programs wait for an echo by default; how long to look at what comes instead.
_SLOW: Final = 0.5
_LONGEST_LOOK: Final = 1.0
_NAMES: Final = {"udp": "UDP", "tcp": "TCP", "ws": "TCP", "wss": "TCP with TLS"}

_HELP: Final = """\
Examine the way to a rig, step by step: its name, our socket, the echo of a message, 20 round trips.
Says in words what is wrong, and what to do about it.

All messages are pings: EXPSTATUS without a status, which a rig confirms and does nothing about. But
over TCP, rigs of iblutil listen only to who has connected last: do not examine one in the middle of
an experiment.
"""

_EPILOG: Final = """\
examples:
  trionet rig doctor cameras
  trionet rig doctor tcp://10.0.0.5:11001 --timeout 10

Exit status: 0 if the rig is well, 1 if it is not, 2 if the command line makes no sense, 130 after
Ctrl-C.
"""


def add_doctor(actions: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``doctor`` to the actions."""
    doctor = actions.add_parser(
        "doctor", help="find out why a rig does not answer", description=_HELP, epilog=_EPILOG
    )
    add_rig(doctor)
    doctor.add_argument(
        "--timeout",
        type=positive_seconds,
        metavar="SECONDS",
        default=_PATIENCE,
        help="wait so long for each answer (default: 3)",
    )
    doctor.set_defaults(run=_run_doctor)


def _run_doctor(options: argparse.Namespace) -> int:
    well = trio.run(examine, options.uri, options.timeout, rig_context(options))
    return 0 if well else 1


async def examine(uri: RigURI, patience: float, context: ssl.SSLContext | None = None) -> bool:
    """Examine the way to a rig, and print what is found.

    Args:
        uri: Where it should be.
        patience: Seconds to wait for each answer.
        context: For ``wss``; by default the system's authorities are trusted.

    Returns:
        Whether all is well.
    """
    report = Report()
    try:
        examination = _Examination(report, uri, patience, context)
        with log_told(logging.getLogger("trionet"), examination.warnings.append):
            await examination.run()
    except Trouble as trouble:
        report.trouble(trouble)
        return False
    report.conclude()
    return True


@dataclass(slots=True)
class _RoundTrips:
    """How long echoes took, in seconds, and how many did not come."""

    times: list[float] = field(default_factory=list)
    lost: int = 0

    def __str__(self) -> str:
        text = f"{len(self.times)} of {len(self.times) + self.lost}"
        if not self.times:
            return text
        fastest, median, slowest = min(self.times), statistics.median(self.times), max(self.times)
        return (
            f"{text}; fastest {_duration(fastest)}, median {_duration(median)}, slowest {_duration(slowest)}"
        )


class _Examination:
    """The steps, each of which raises `Trouble` if it is the last one."""

    def __init__(self, report: Report, uri: RigURI, patience: float, context: ssl.SSLContext | None) -> None:
        self.report = report
        self.uri = uri
        self.patience = patience
        self.context = context
        if uri.scheme == "wss" and context is None:
            self.context = ssl.create_default_context()
        self.place = Place(uri, uri.host or ("localhost" if uri.is_stream else socket.gethostname()))
        self.warnings: list[str] = []

    async def run(self) -> None:
        self.report.well("URI", f"{self.uri} ({_NAMES[self.uri.scheme]})")
        await self.find_addresses()
        await self.look_here()
        async with contextlib.AsyncExitStack() as stack:
            rig = await self.connect(stack)
            await self.first_echo(rig)
            await self.round_trips(rig)
        for warning in self.warnings:
            self.report.note("warning", warning)

    async def find_addresses(self) -> None:
        """Look the name up, if it is one."""
        host = self.place.host
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            self.place = replace(self.place, addresses=await self.look_up(host))
            known = ", ".join(self.place.addresses)
            several = len(self.place.addresses) > 1 and not self.uri.is_stream
            used = f"; programs use {self.place.address}" if several else ""
            self.report.well("name", f"{host} is {known}{used}")
            return
        if ip.is_unspecified:
            raise diagnosis.of_wildcard(host)

    async def look_up(self, host: str) -> tuple[str, ...]:
        """The addresses of a name, IPv4 first, as communicators choose."""
        kind = trio.socket.SOCK_STREAM if self.uri.is_stream else trio.socket.SOCK_DGRAM
        with trio.move_on_after(self.patience):
            try:
                found = await trio.socket.getaddrinfo(host, self.uri.port, type=kind)
            except OSError as error:
                raise diagnosis.of_name(host, error) from error
            found.sort(key=lambda one: one[0] != trio.socket.AF_INET)
            return tuple(dict.fromkeys(str(one[4][0]) for one in found))
        raise diagnosis.of_name(host, None)

    async def look_here(self) -> None:
        """Find out whether the rig should be on this machine, and whether something has its port."""
        address = self.place.address
        self.place = replace(self.place, here=await probe.is_here(address, self.uri.port))
        if not self.place.here:
            self.report.well("address", f"{address} is another machine's")
        elif self.uri.is_stream:
            self.report.well("address", f"{address} is this machine's")
        elif await probe.is_taken(address, self.uri.port) is False:
            self.report.note("address", f"{address} is this machine's, where nobody has {self.place.port}")
        else:
            self.report.well("address", f"{address} is this machine's, where a program has {self.place.port}")

    async def connect(self, stack: contextlib.AsyncExitStack) -> RigCommunicator:
        """Open a socket as programs do: for UDP, that shows whether there is a route; TCP connects."""
        stream = self.uri.is_stream
        opened = open_rig_communicator(
            self.uri if stream else replace(self.uri, host=self.place.address),
            name=str(self.uri),
            ssl_context=self.context,
            echo_timeout=self.patience,
            connect_timeout=self.patience,
        )
        step = "connection" if stream else "our socket"
        began = trio.current_time()
        try:
            rig = await stack.enter_async_context(opened)
        except EXPECTED_ERRORS as error:
            if isinstance(error, TimeoutError) and self.context is not None and await self.accepts():
                raise diagnosis.of_tls(self.place, step, error) from error
            raise diagnosis.of_error(self.place, step, error) from error
        took = f"accepted after {_duration(trio.current_time() - began)}"
        self.report.well(step, took if stream else address_text(rig.addresses[0]))
        return rig

    async def accepts(self) -> bool:
        """Whether it is TLS that nobody answers, not TCP."""
        return await probe.accepts(self.place.host, self.uri.port, self.patience)

    async def first_echo(self, rig: RigCommunicator) -> None:
        """Send a message. If it is not confirmed, look at what comes instead."""
        began = trio.current_time()
        try:
            await rig.ping()
        except EXPECTED_ERRORS as error:
            raise await self.no_echo(error) from error
        seconds = trio.current_time() - began
        if seconds > _SLOW:
            raise diagnosis.slow("echo", f"after {_duration(seconds)}")
        self.report.well("echo", f"after {_duration(seconds)}")

    async def no_echo(self, error: BaseException) -> Trouble:
        """Why there was no echo."""
        host, port = self.place.host, self.uri.port
        seconds = min(self.patience, _LONGEST_LOOK)
        late = isinstance(error, EchoTimeout)
        finding = f"none within {self.patience:g} s" if late else diagnosis.reason_text(error)
        if self.uri.is_stream:
            received = await probe.ask_tcp(host, port, self.context, seconds)
            return diagnosis.of_stream(self.place, finding, received, closed=not late)
        if late:
            heard = await probe.ask_udp(self.place.address, port, seconds)
            return diagnosis.of_datagrams(self.place, finding, heard)
        return diagnosis.of_error(self.place, "echo", error)

    async def round_trips(self, rig: RigCommunicator) -> None:
        """See how long echoes take, and whether all of them come."""
        trips, lost_in_a_row = _RoundTrips(), 0
        for _ in range(_ROUND_TRIPS):
            began = trio.current_time()
            try:
                await rig.ping()
            except EchoTimeout as error:
                trips.lost += 1
                lost_in_a_row += 1
                if lost_in_a_row == _MANY_LOST:
                    raise diagnosis.of_end(self.place, str(trips), error) from error
            except EXPECTED_ERRORS as error:
                raise diagnosis.of_end(self.place, str(trips), error) from error
            else:
                lost_in_a_row = 0
                trips.times.append(trio.current_time() - began)
        if trips.lost:
            raise diagnosis.unreliable("round trips", str(trips))
        if max(trips.times) > _SLOW:
            raise diagnosis.slow("round trips", str(trips))
        self.report.well("round trips", str(trips))


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.2f} ms"
