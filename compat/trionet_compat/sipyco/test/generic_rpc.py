"""Tests that start a controller and call it; stands for ``sipyco.test.generic_rpc``."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import unittest
from typing import Final

from trionet_compat.portal import current_portal
from trionet_compat.sipyco._rpc_blocking import Client
from trionet_compat.sipyco._targets import AutoTarget, TargetName

# Seconds from one attempt to connect to the next.
_RETRY: Final = 0.05


class GenericRPCCase(unittest.TestCase):
    """A test case that starts servers, and stops those that are left. Stands for sipyco's class of that name.

    Attributes:
        servers: The programs that were started, and the clients connected to them, by name.
    """

    def setUp(self) -> None:
        """Nothing is started yet."""
        self.servers: dict[str, tuple[subprocess.Popen[bytes], Client]] = {}

    def tearDown(self) -> None:
        """Stop all servers."""
        for name in list(self.servers):
            self.stop_server(name)

    def start_server(
        self,
        name: str,
        command: str,
        port: int,
        sleep: float = 2,
        target_name: TargetName = AutoTarget,
        timeout: float | None = 1,
    ) -> Client:
        """Start a server, and connect to it.

        Args:
            name: What to call it here.
            command: The command line; it is split like a shell does it, but there is no shell.
            port: Where it serves, on localhost.
            sleep: Seconds that it may take to get ready. Upstream waits that long in any case.
            target_name: The target for the client.
            timeout: For the client.

        Raises:
            ValueError: if there is one of that name.
            OSError: if it cannot be started, or does not serve in time. It is not running then.
        """
        if name in self.servers:
            raise ValueError(f"server `{name}` already started")
        process = subprocess.Popen(shlex.split(command))
        try:
            client = _connect(process, port, sleep, target_name, timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        self.servers[name] = process, client
        return client

    def stop_server(self, name: str, timeout: float = 1) -> None:
        """Stop a server: by its method ``terminate``, then by SIGTERM, then for sure.

        Args:
            name: As given to `start_server`; KeyError if there is none.
            timeout: Seconds that it may take each time.
        """
        process, client = self.servers.pop(name)
        stops = [process.terminate, process.kill]
        try:
            client.terminate()
        except (OSError, EOFError, AttributeError):
            stops.pop(0)()
        client.close_rpc()
        for stop in stops:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
                return
            stop()
        process.wait()


def _connect(
    process: subprocess.Popen[bytes],
    port: int,
    seconds: float,
    target_name: TargetName,
    timeout: float | None,
) -> Client:
    """Connect to the server as soon as it serves."""
    portal = current_portal()
    deadline = portal.current_time() + seconds
    while True:
        try:
            return Client("localhost", port, target_name, timeout)
        except ConnectionRefusedError:
            if process.poll() is not None or portal.current_time() >= deadline:
                raise
        portal.sleep(_RETRY)
