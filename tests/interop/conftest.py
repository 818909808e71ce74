"""A process with iblutil in it, for all tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.interop.peer_process import Iblutil, PeerProcess, open_iblutil


@pytest.fixture(scope="module")
def peer_process() -> Iterator[PeerProcess]:
    process = PeerProcess()
    yield process
    process.close()


@pytest.fixture
async def iblutil(peer_process: PeerProcess) -> AsyncIterator[Iblutil]:
    async with open_iblutil(peer_process) as peer:
        yield peer


@pytest.fixture
async def second_iblutil() -> AsyncIterator[Iblutil]:
    """One more, that may die."""
    process = PeerProcess()
    async with open_iblutil(process) as peer:
        yield peer
    process.close()
