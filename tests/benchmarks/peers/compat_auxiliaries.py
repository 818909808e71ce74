"""Our `Auxiliaries`: ``compat_auxiliaries PORT...``."""

from __future__ import annotations

from tests.benchmarks.peers._program import run
from tests.benchmarks.peers._pushes import push_to_rigs


def program(*ports: str) -> None:
    from trionet_compat.iblrig.net import Auxiliaries

    push_to_rigs(Auxiliaries, list(ports))


if __name__ == "__main__":
    run(program)
