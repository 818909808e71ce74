"""The repr of values as the recorded peers printed it, with Python 3.11."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


def recorded_repr(value: Any) -> str:
    """As `repr`, but for an OrderedDict, which newer Pythons print like a dict."""
    if type(value) is OrderedDict and value:
        return f"OrderedDict({list(value.items())!r})"
    return repr(value)
