"""The worker of the demo: what it computes, and that its failures are failures of the step."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from tests.cli.demo import posix_only
from trionet.cli.demo.laser import Laser
from trionet.cli.demo.narrator import Narrator, StepFailed
from trionet.cli.demo.spectrum import Spectrum
from trionet.cli.demo.worker import compute_spectrum
from trionet.cli.feeds import log_told
from trionet.testing import open_memory_rpc_client

pytestmark = posix_only
WAVEFORM = np.sin(np.linspace(0.0, 20 * np.pi, 100_000))


def test_a_spectrum() -> None:
    periods, amplitude = Spectrum(2.5 * np.sin(np.arange(1000) * 2 * np.pi * 7 / 1000)).strongest_line()
    assert periods == 7
    assert amplitude == pytest.approx(2.5)


class OtherLaser(Laser):
    """Its photodiode has seen something else."""

    def __init__(self, light: Any) -> None:
        super().__init__()
        self.set_power(12.5)
        self._light = light

    def play_waveform(self) -> Any:
        return self._light


@pytest.mark.parametrize(
    "light", [12.5 * np.sin(2 * np.pi * np.arange(1000) / 100 * 3), 12.0 * WAVEFORM], ids=["line", "power"]
)
async def test_another_spectrum_is_noticed(light: Any) -> None:
    async with open_memory_rpc_client({"laser": OtherLaser(light)}) as operator:
        with pytest.raises(StepFailed, match="the strongest line is at"):
            await compute_spectrum(Narrator(), operator)


async def test_a_worker_that_cannot_compute_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_memory_rpc_client({"laser": OtherLaser(12.5 * WAVEFORM)}) as operator:
        monkeypatch.setattr("trionet.cli.demo.spectrum.__name__", "no_module_of_that_name")
        with pytest.raises(ModuleNotFoundError):
            await compute_spectrum(Narrator(), operator)


def test_less_than_warnings_may_be_told_and_the_logger_is_as_before() -> None:
    logger, told = logging.getLogger("tests.told"), list[str]()
    logger.setLevel(logging.ERROR)
    with log_told(logger, told.append, logging.INFO):
        logger.info("started")
        logger.debug("details")
    logger.info("later")
    assert told == ["started"]
    assert (logger.level, logger.propagate, logger.handlers) == (logging.ERROR, True, [])
