"""What the worker process of the demo hosts: the spectrum of what the photodiode has seen."""

from __future__ import annotations

import time
from typing import Any

import numpy as np


class Spectrum:
    """A spectrum. It stays in its process; others ask for what they need of it."""

    def __init__(self, samples: np.ndarray[Any, Any]) -> None:
        started = time.perf_counter()
        self._amplitudes = np.abs(np.fft.rfft(samples)) * 2 / samples.size
        milliseconds = (time.perf_counter() - started) * 1000
        print(f"{samples.size:,} samples have {self._amplitudes.size:,} frequencies: {milliseconds:.0f} ms")

    def strongest_line(self) -> tuple[int, float]:
        """Periods in the waveform, and the amplitude in mW."""
        periods = int(np.argmax(self._amplitudes))
        return periods, float(self._amplitudes[periods])
