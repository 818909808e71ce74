"""Encodes and decodes: ``pyon_worker trionet``, ``sipyco CHECKOUT``, or ``standard library``."""

from __future__ import annotations

import base64
import functools
import gc
import json
import random
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from tests.benchmarks.peers._program import commands, run, say

Encode = Callable[[Any], str]
Decode = Callable[[str], Any]
#: By version of PYON.
Codecs = dict[int, tuple[Encode, Decode]]


def _trionet() -> Codecs:
    from trionet import pyon
    from trionet.pyon import v1

    return {1: (v1.encode, v1.decode), 2: (pyon.encode, pyon.decode)}


def _sipyco(checkout: str) -> Codecs:
    sys.path.insert(0, checkout)
    from sipyco import pyon, pyon_v1

    return {1: (pyon_v1.encode, pyon_v1.decode), 2: (pyon.encode, pyon.decode)}


def _standard_library() -> Codecs:
    """What comes with Python: evaluated literals; JSON, and base64 in it."""

    def array_to_json(array: np.ndarray[Any, Any]) -> Any:
        return {"array": [array.shape, array.dtype.str, base64.b64encode(array.tobytes()).decode()]}

    def array_from_json(value: dict[str, Any]) -> Any:
        if "array" not in value:
            return value
        shape, dtype, text = value["array"]
        return np.frombuffer(bytearray(base64.b64decode(text)), dtype).reshape(shape)

    decoder = json.JSONDecoder(object_hook=array_from_json)
    encoder = json.JSONEncoder(default=array_to_json, separators=(",", ":"))
    names = {"true": True, "false": False, "null": None}
    return {1: (encoder.encode, lambda text: eval(text, names)), 2: (encoder.encode, decoder.decode)}


def nested(tiny: bool) -> dict[str, Any]:
    """Settings and results as they are kept in a laboratory: 36 kB of text."""
    numbers = random.Random(1)
    scale = 1e-6 if tiny else 1.0
    return {
        "experiment": {"id": 4711, "name": "Rabi flop", "tags": ["daily", "calibration"], "comment": None},
        "channels": {
            f"channel_{index}": {
                "enabled": index % 3 > 0,
                "label": f"Photomultiplier {index}, left",
                "gain": round(numbers.uniform(1, 10), 3),
                "delay": scale * round(numbers.uniform(1, 10), 3),
                "ports": [index, index + 1, index + 2],
                "limits": {"low": -10.0, "high": 10.0, "unit": "V"},
                "calibrated": None,
                "trace": [numbers.uniform(1, 10) for _ in range(8)],
            }
            for index in range(109)
        },
    }


@functools.cache
def make_data(name: str) -> Any:
    """The same data in each process."""
    if name == "ints":
        return [number * 7919 % 1_000_003 for number in range(10_000)]
    if name.startswith("array "):
        return np.random.default_rng(1).random(int(name.removeprefix("array ")) // 8)
    return nested(tiny=name == "nested tiny")


def time_codec(encode: Encode, decode: Decode, data: Any, seconds: float) -> dict[str, float]:
    """How often per second `data` can be encoded, decoded, and both."""
    text = encode(data)
    if not np.array_equal(decode(text), data):
        raise RuntimeError("what was decoded is not what was encoded")
    to_encode = _time(encode, data, seconds / 2)
    to_decode = _time(decode, text, seconds / 2)
    return {"encode": 1 / to_encode, "decode": 1 / to_decode, "both": 1 / (to_encode + to_decode)}


def _time(function: Callable[[Any], Any], argument: Any, seconds: float) -> float:
    gc.collect()
    start = perf_counter()
    count = 0
    while (passed := perf_counter() - start) < seconds or not count:
        function(argument)
        count += 1
    return passed / count


def traced_peak(encode: Encode, data: Any) -> float:
    """Megabytes that encoding takes at most, as Python's allocators see it."""
    tracemalloc.start()
    try:
        encode(data)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def resident_peak(encode: Encode, data: Any) -> float:
    """Megabytes by which encoding makes this process grow at most, as the kernel sees it. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest size begins anew
    before = _status("VmRSS")
    encode(data)
    return (_status("VmHWM") - before) / 1e6


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"this kernel does not tell {key}")


def program(name: str, *arguments: str) -> None:
    if name == "sipyco":
        codecs = _sipyco(*arguments)
    else:
        codecs = _trionet() if name == "trionet" else _standard_library()
    say(ready=True)
    for command in commands():
        encode, decode = codecs[command.get("version", 2)]
        data = make_data(command["data"])
        encode(data[:10] if isinstance(data, np.ndarray) else data)
        match command["do"]:
            case "time":
                say(**time_codec(encode, decode, data, command["seconds"]))
            case "traced":
                say(traced=traced_peak(encode, data))
            case "resident":
                say(resident=resident_peak(encode, data))


if __name__ == "__main__":
    run(program)
