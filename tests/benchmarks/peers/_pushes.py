"""Pushing messages to rigs from blocking code: the same for all `Auxiliaries`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any

from tests.benchmarks.peers._program import commands, say
from tests.benchmarks.peers._rig_session import REFERENCE, answer_to, rig_name

# Seconds between a response and the next push: rigs are idle then, as they are in experiments.
_PAUSE = 0.01

# Seconds in which the rigs are connected to.
_PATIENCE = 10.0


def push_to_rigs(auxiliaries: Callable[[Mapping[str, str]], Any], ports: list[str]) -> None:
    """Push as often as the time allows that commands give; say the time of a push, the median."""
    output = sys.stdout
    # They print, and log to the standard output, which is for answers here.
    with contextlib.redirect_stdout(sys.stderr):
        rigs = {rig_name(index): f"udp://127.0.0.1:{port}" for index, port in enumerate(ports)}
        aux = auxiliaries(rigs)
        _wait_connected(aux)
        pushes = 0
        with contextlib.redirect_stdout(output):
            say(ready=True)
        for command in commands():
            end = perf_counter() + command["seconds"]
            times: list[float] = []
            while not times or perf_counter() < end:
                time.sleep(_PAUSE)
                begun = perf_counter()
                answers = aux.push("EXPSTART", REFERENCE, pushes, wait=True)
                times.append(perf_counter() - begun)
                _check(answers, len(rigs), pushes)
                pushes += 1
            with contextlib.redirect_stdout(output):
                say(time=median(times))
        aux.close()


def _wait_connected(aux: Any) -> None:
    end = perf_counter() + _PATIENCE
    while not aux.is_connected:
        if perf_counter() > end:
            raise RuntimeError("the rigs cannot be connected to")
        time.sleep(_PAUSE)


def _check(answers: Any, rigs: int, number: int) -> None:
    right = {rig_name(index): [REFERENCE, answer_to(index, number)] for index in range(rigs)}
    if answers != right:
        raise RuntimeError(f"a wrong answer: {answers!r}")
