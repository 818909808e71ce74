"""What is wrong with the way to a rig, and what to do about it, in words."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from trionet import RigURI, TrionetError
from trionet.cli.output import error_text
from trionet.cli.rig.probe import QUESTION, Heard
from trionet.cli.rig.report import Trouble
from trionet.cli.rig.uris import address_text

# The systems' words for having no way to a network, and for nobody being at an address.
_NO_ROUTE: Final = {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_NO_HOST: Final = {errno.EHOSTUNREACH, errno.EHOSTDOWN}
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM}

# Characters of what has come that are shown.
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rig should be.

    Attributes:
        uri: What was asked for.
        host: The name, or the address if there is no name.
        addresses: What the name stands for; the first one is used, or tried first.
        here: Whether that is an address of this machine.
    """

    uri: RigURI
    host: str
    addresses: tuple[str, ...] = ()
    here: bool = False

    @property
    def address(self) -> str:
        """The address that counts."""
        return self.addresses[0] if self.addresses else self.host

    @property
    def transport(self) -> str:
        """UDP or TCP."""
        return "TCP" if self.uri.is_stream else "UDP"

    @property
    def port(self) -> str:
        """The port, in words."""
        return f"{self.transport} port {self.uri.port}"

    @property
    def machine(self) -> str:
        """The machine, in words."""
        return "this machine" if self.here else self.address


def reason_text(error: BaseException) -> str:
    """What has happened. Where is known."""
    return error.message if isinstance(error, TrionetError) else error_text(error)


# -- names ---------------------------------------------------------------------------------------------


def of_name(host: str, error: OSError | None) -> Trouble:
    """A name that cannot be looked up; no error if the answer did not come in time."""
    spelling = "Write the IP address instead: the rig's machine tells it with `ip addr` or `ipconfig`."
    if error is None or error.errno == socket.EAI_AGAIN:
        return Trouble(
            "name",
            "no answer" if error is None else error_text(error),
            f"The name server does not answer, so nobody knows where {host} is.",
            ["Is this machine connected to the network?", spelling],
        )
    return Trouble(
        "name",
        error_text(error),
        f"There is no machine called {host}, as far as this one knows.",
        ["Is it spelt correctly? Some networks need the full name, such as cameras.lab.org.", spelling],
    )


def of_wildcard(host: str) -> Trouble:
    """An address to listen on, not to send to."""
    return Trouble(
        "address",
        f"{host} stands for all addresses of a machine",
        f"{host} is where a rig may listen; to talk to it, name its machine.",
        [
            "For this machine, that is 127.0.0.1; for another one, its name, or the address that `ip addr` "
            "or `ipconfig` tells there.",
        ],
    )


# -- errors of the system ------------------------------------------------------------------------------


def of_error(place: Place, step: str, error: BaseException) -> Trouble:
    """What the system, or TLS, reports when we connect or send."""
    reasons = list(_reasons(error))
    finding = error_text(reasons[0])
    for reason in reasons:
        if isinstance(reason, ssl.SSLError):
            return of_tls(place, step, reason)
        if isinstance(reason, ConnectionResetError) and place.uri.scheme == "wss":
            return of_tls(place, step, reason)
        if isinstance(reason, ConnectionError):  # Windows: reset, where others say refused
            return _refused(place, step, error_text(reason))
    for reason in reasons:
        number = reason.errno if isinstance(reason, OSError) else None
        if isinstance(reason, TimeoutError):
            return of_silence(place, step, error_text(reason))
        if number in _NO_ROUTE:
            return _no_route(place, step, finding)
        if number in _NO_HOST:
            return _no_host(place, step, finding)
        if number in _FORBIDDEN:
            return _forbidden(place, step, finding)
    return Trouble(step, finding, f"It is not possible to send to {place.port} of {place.machine}.", [])


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """The errors behind trio's "all attempts failed", if the addresses of a name failed differently."""
    cause = error.__cause__
    if isinstance(error, OSError) and not error.errno and isinstance(cause, BaseExceptionGroup):
        yield from cause.exceptions
    else:
        yield error


def _refused(place: Place, step: str, finding: str) -> Trouble:
    other = "udp" if place.uri.is_stream else "tcp"
    advice = [
        "Does the rig's program run? It says where it listens, or its log does.",
        f"Is the port right, and does it listen by {place.transport}? If not, the URI begins with {other}://.",
    ]
    if not place.here:
        advice.append("Does it listen on 127.0.0.1 only? For others to reach it, it has to be 0.0.0.0.")
    known = "" if place.here else ", which is there and says so"
    return Trouble(step, finding, f"Nobody listens at {place.port} of {place.machine}{known}.", advice)


def _no_route(place: Place, step: str, finding: str) -> Trouble:
    return Trouble(
        step,
        finding,
        f"This machine knows no way to {place.address}.",
        [
            "Is its cable plugged in, its Wi-Fi on, its VPN connected?",
            "Is the address right? The rig's machine tells it with `ip addr` or `ipconfig`.",
            "Is there a route to that network? See `ip route`, `netstat -rn` or `route print`.",
        ],
    )


def _no_host(place: Place, step: str, finding: str) -> Trouble:
    return Trouble(
        step,
        finding,
        f"No machine can be reached at {place.address}, or a firewall turns messages back.",
        [
            "Is the rig's machine on, and connected to the network?",
            "Is the address still its own? It tells with `ip addr` or `ipconfig`.",
            f"Does its firewall, or one on the way, let {place.port} in?",
        ],
    )


def _forbidden(place: Place, step: str, finding: str) -> Trouble:
    return Trouble(
        step,
        finding,
        f"This machine does not let programs send to {place.port} of {place.address}.",
        [
            "Its firewall may forbid it: allow what goes out to that port.",
            "Is it the address of a network, such as 10.0.0.255, instead of a machine's?",
        ],
    )


def of_tls(place: Place, step: str, reason: BaseException) -> Trouble:
    """A connection was accepted, but what it has to begin with has failed, or did not come."""
    advice = [
        "Our certificate and the rig's are given with --tls CERT KEY PEER_CERT. Without that, the rig's has "
        "to be one that this system trusts.",
    ]
    if not isinstance(reason, ssl.SSLCertVerificationError):
        advice.insert(0, "iblutil's rigs speak TCP without TLS, whatever they call it: use tcp://.")
    verdict = f"{place.port} of {place.machine} accepts connections, but TLS cannot be agreed upon."
    return Trouble(step, error_text(reason), verdict, advice)


# -- silence, and answers that are none ----------------------------------------------------------------


def of_silence(place: Place, step: str, finding: str) -> Trouble:
    """Nothing comes back, neither an answer nor an error."""
    port, transport = place.uri.port, place.transport.lower()
    if place.here:
        return Trouble(
            step,
            finding,
            f"A program on this machine has {place.port}, but does not answer.",
            [
                "If it is the rig's, it hangs: look into its log, and start it anew.",
                f"It may be another one. Linux says which: `ss -lnp{transport[0]} sport = {port}`; macOS: "
                f"`lsof -nPi {transport}:{port}`; Windows: `netstat -abno`.",
            ],
        )
    return Trouble(
        step,
        finding,
        f"Messages to {place.port} of {place.address} vanish, which looks like a firewall.",
        [
            f"Have the firewall of the rig's machine let {place.port} in. That of Windows drops what comes "
            "until the program is allowed, for the kind of network that it is in: private or public.",
            f"Is the machine on, and {place.address} still its address? See whether `ping {place.address}` "
            "is answered.",
            "Does the rig's program run? Some machines, Windows among them, do not say when nobody listens.",
        ],
    )


def of_datagrams(place: Place, finding: str, heard: Sequence[Heard]) -> Trouble:
    """No echo was confirmed; this came when anything from anywhere was welcome."""
    asked = (place.address, place.uri.port)
    for one in heard:
        if one.data != QUESTION:
            return _no_rig(place, f"instead, {_shown(one.data)} has come from {address_text(one.source)}")
        if one.source != asked:
            return _from_elsewhere(place, one.source)
    if heard:
        return unreliable("echo", f"{finding}; the second message came back")
    return of_silence(place, "echo", finding)


def _from_elsewhere(place: Place, source: tuple[str, int]) -> Trouble:
    where = address_text(source)
    advice = [f"If that is where the rig is, use udp://{where}."]
    if source[0] == place.address:
        advice.append("A rig has to answer from the port at which it listens: one socket for both.")
    else:
        advice.append(
            "A machine with two networks may answer by the other one: have the rig listen on "
            f"{place.address} instead of 0.0.0.0, or leave it in one network."
        )
    return Trouble(
        "echo",
        f"from {where} instead of {address_text((place.address, place.uri.port))}",
        f"The rig answers from {where}, where programs do not expect it: they do not hear that.",
        advice,
    )


def of_stream(place: Place, finding: str, received: bytes, *, closed: bool) -> Trouble:
    """A connection, but no echo on it; this came on another one."""
    if received == QUESTION:
        return unreliable("echo", f"{finding}; on a second connection, it came")
    if received:
        return _no_rig(place, f"instead, {_shown(received)} has come")
    advice = [_another_program(place)]
    if not closed:
        advice.insert(0, "If it is the rig's, it hangs: look into its log, and start it anew.")
        verdict = f"The program at {place.port} of {place.machine} accepts connections, but does not answer."
        return Trouble("echo", finding, verdict, advice)
    advice.insert(0, "If it is the rig's, look into its log.")
    if place.uri.scheme == "wss":
        advice.insert(0, "It may not trust our certificate: give one that it knows with --tls.")
    verdict = f"The program at {place.port} of {place.machine} closes the connection when a message comes."
    return Trouble("echo", finding, verdict, advice)


def _no_rig(place: Place, finding: str) -> Trouble:
    return Trouble(
        "echo",
        finding,
        f"The program at {place.port} of {place.machine} answers, but it is no rig.",
        [_another_program(place), "A rig sends every message back as it came, byte for byte."],
    )


def _another_program(place: Place) -> str:
    return f"Another program may have the port {place.uri.port}: is it the one where the rig listens?"


def _shown(data: bytes) -> str:
    text = data.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


# -- round trips ---------------------------------------------------------------------------------------


def unreliable(step: str, finding: str) -> Trouble:
    """Some echoes come, others do not."""
    return Trouble(
        step,
        finding,
        "Messages get lost between here and the rig.",
        [
            "Is it Wi-Fi, a bad cable, or a network that other traffic, such as video, fills up?",
            "The rig's program may be busy for so long that the system drops what it does not fetch.",
            "Meanwhile, programs can send again what is not confirmed (attempts=3), best to rigs that know "
            "repeats (dedup_window=2), or use TCP.",
        ],
    )


def slow(step: str, finding: str) -> Trouble:
    """The echoes come, but late."""
    return Trouble(
        step,
        finding,
        "The rig answers, but so late that programs may give up: they wait 1 s unless told otherwise.",
        [
            "The rig's program may be busy: nothing that takes long, such as waiting for hardware, should "
            "hold up its event loop.",
            "Is it Wi-Fi, a VPN, or a network that other traffic fills up?",
            "Meanwhile, give programs more time with echo_timeout.",
        ],
    )


def of_end(place: Place, finding: str, error: Exception) -> Trouble:
    """It answered, and then no more."""
    return Trouble(
        "round trips",
        f"{finding}; then: {reason_text(error)}",
        f"The rig answered, and then no more: its program at {place.port} has ended, or hangs.",
        ["Look into its log, start it anew, and examine it again."],
    )
