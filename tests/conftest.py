"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# No test is timed. In CI the examples are the same in each run; elsewhere new ones are tried.
settings.register_profile("lab", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if "CI" in os.environ else "lab")
