"""For the tests of controllers and of the programs that call them.

With Trio's mock clock (the fixture ``autojump_clock`` of pytest-trio) and streams in memory, or a whole
simulated network (`trionet.testing.network`), a test of hours of waiting takes milliseconds and always gives
the same result.
"""

from trionet.testing._lab import Lab, open_lab
from trionet.testing._rpc import open_memory_rpc_client
from trionet.testing.network._errors import NotOnHostError, UnknownHostError
from trionet.testing.network._host import VirtualHost
from trionet.testing.network._links import Direction, Link
from trionet.testing.network._netstat import Netstat, SocketInfo
from trionet.testing.network._network import VirtualNetwork, open_virtual_network
from trionet.testing.network._packets import Endpoint, Packet
from trionet.testing.network._rules import (
    DELIVER,
    DROP,
    Delay,
    Deliver,
    Drop,
    Duplicate,
    Reset,
    Rule,
    Verdict,
    reset_after,
)
from trionet.testing.network._trace import Trace, TraceEntry

__all__ = [
    "DELIVER",
    "DROP",
    "Delay",
    "Deliver",
    "Direction",
    "Drop",
    "Duplicate",
    "Endpoint",
    "Lab",
    "Link",
    "Netstat",
    "NotOnHostError",
    "Packet",
    "Reset",
    "Rule",
    "SocketInfo",
    "Trace",
    "TraceEntry",
    "UnknownHostError",
    "Verdict",
    "VirtualHost",
    "VirtualNetwork",
    "open_lab",
    "open_memory_rpc_client",
    "open_virtual_network",
    "reset_after",
]
