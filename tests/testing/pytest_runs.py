"""Runs of pytest inside of tests, with test files as a user would write them."""

from __future__ import annotations

import textwrap

import pytest

STRICT = ["-ra", "--strict-markers", "--strict-config", "-p", "no:cacheprovider"]

# What all test files begin with.
_PRELUDE = """
import pytest
import trio
import trio.testing
from trionet.testing import Lab, VirtualNetwork, open_lab, open_virtual_network

async def echo(stream):
    async for chunk in stream:
        await stream.send_all(chunk)

async def open_echo(network):
    server, client = network.host("server"), network.host("client")
    await server.start(trio.serve_tcp, echo, 7)
    with client.entered():
        stream = await trio.open_tcp_stream("server", 7)
    await stream.send_all(b"ping")
    assert await stream.receive_some() == b"ping"
    return stream

"""


def write(pytester: pytest.Pytester, source: str, *, trio_mode: bool = True) -> None:
    """Write a test file `test_lab.py` with a configuration in which warnings are errors."""
    mode = "trio_mode = true\n" if trio_mode else ""
    pytester.makeini(f"[pytest]\n{mode}filterwarnings = error\n")
    pytester.makepyfile(test_lab=_PRELUDE + textwrap.dedent(source))


def run(pytester: pytest.Pytester, source: str, *options: str, trio_mode: bool = True) -> pytest.RunResult:
    """Write a test file and run it."""
    write(pytester, source, trio_mode=trio_mode)
    return again(pytester, *options)


def again(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run what was written before."""
    return pytester.runpytest_inprocess(*STRICT, *options)
