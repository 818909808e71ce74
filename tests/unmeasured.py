"""Programs whose lines coverage does not count."""

from __future__ import annotations

import os


def unmeasured_environment() -> dict[str, str]:
    """The environment for a program that is interrupted by a signal.

    Coverage would measure programs that tests start. But a KeyboardInterrupt that is raised within its tracer
    leaves a lock of it held (`Collector.lock_data`, seen in 7.17): such a program hangs at the next line.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}
