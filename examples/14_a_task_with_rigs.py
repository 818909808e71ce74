"""A task in the manner of iblrig: ``python examples/14_a_task_with_rigs.py [PORT_LEFT PORT_RIGHT]``.

Each of the two is an 08_a_rig.py.
"""

import sys

from trionet_compat.iblrig.net import Auxiliaries


def check(responses: dict[str, list[object]] | Exception) -> dict[str, list[object]]:
    """The answers of all rigs. A rig that did not answer is an exception, which is returned, not raised."""
    if isinstance(responses, Exception):
        raise responses
    return responses


def run_task(rigs: Auxiliaries) -> None:
    exp_ref = {"subject": "mouse", "date": "2026-01-31", "sequence": "001"}
    print("init:", check(rigs.push("EXPINIT", {"exp_ref": exp_ref}, wait=True)))
    print("start:", check(rigs.push("EXPSTART", exp_ref, wait=True)))
    # Here are the trials. The rigs record, and nobody has to wait for them.
    print("stop:", check(rigs.push("EXPEND", wait=True)))


def main(ports: list[int]) -> None:
    left, right = ports
    rigs = Auxiliaries({"left": f"udp://127.0.0.1:{left}", "right": f"udp://127.0.0.1:{right}"})
    try:
        run_task(rigs)
    finally:
        rigs.close()


if __name__ == "__main__":
    main([int(port) for port in sys.argv[1:]] or [11001, 11002])
