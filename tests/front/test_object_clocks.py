"""How the clock of an object server differs from that of its client."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from tests.front.objects import open_pair
from trionet.objects import _host


async def test_the_offset_is_known_as_well_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_host, "time", SimpleNamespace(perf_counter=lambda: time.perf_counter() + 1000))
    async with open_pair() as (client, _):
        offset = await client.measure_clock_offset()
    assert offset.uncertainty > 0
    assert abs(offset.seconds - 1000) <= offset.uncertainty + 1e-9  # of rounding


async def test_a_server_of_pyacq_is_asked_for_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_host._ACTIONS, "clock")
    async with open_pair(allow_import=["time"]) as (client, _):
        offset = await client.measure_clock_offset()
    assert abs(offset.seconds) <= offset.uncertainty + 1e-9
    async with open_pair() as (client, _):
        with pytest.raises(PermissionError, match=r"allow_import=\['time'\]"):
            await client.measure_clock_offset()
