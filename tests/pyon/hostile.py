"""Text that is nearly PYON."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import strategies as st

_FRAGMENTS = [
    *('"', "\\", "\\/", "\\u", "d83d", "\\ude00", "0041", "\\n", "\\x41", "\t", "\n", "\x00", "é", "a"),
    *("[", "]", "{", "}", ",", ":", " ", "-", "+", ".", "0", "1", "99", "e", "E5", "e999", "e-999"),
    *("null", "true", "false", "NaN", "Infinity", "-Infinity", '"k"', '"k":', "1.5"),
    *("\ufeff", "\ud800", "\x7f", "12345678901234567890", "0.1e-5", "123456789012345678901234567890.5"),
    *('"__jsonclass__":', '["tuple",[['),
]


def near_json(*more: str) -> st.SearchStrategy[str]:
    """What one gets by stringing together pieces of JSON, and these."""
    return st.lists(st.sampled_from([*_FRAGMENTS, *more]), max_size=12).map("".join)


def mutations(source: bytes, special: bytes, count: int = 2000) -> Iterator[bytes]:
    """The source with a few bytes changed, taken out or repeated; always the same ones.

    Args:
        source: A document.
        special: Bytes that mean something there, to be put in more often than others.
        count: How many.
    """
    chance = random.Random(1)
    for _ in range(count):
        mutated = bytearray(source)
        for _ in range(chance.randint(1, 4)):
            position = chance.randrange(len(mutated))
            match chance.randrange(3):
                case 0:
                    mutated[position] = chance.choice((chance.randrange(256), *special))
                case 1:
                    del mutated[position]
                case _:
                    start = chance.randrange(len(mutated))
                    mutated[position:position] = mutated[start : start + 5]
        yield bytes(mutated)
