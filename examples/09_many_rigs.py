"""Marches rigs through an experiment: ``python examples/09_many_rigs.py [PORT_LEFT PORT_RIGHT]``.

Each of the two is an 08_a_rig.py.
"""

import sys

import trio

from trionet import ExpMessage, ExpStatus, RigServices, ServicesError, open_rig_services


async def run_experiment(rigs: RigServices) -> None:
    """The answers of the rigs come by name. Whatever happens, in the end all rigs are stopped."""
    print("init:", await rigs.init())
    try:
        print("start:", await rigs.start("2026-01-31_1_mouse"))
        await interrupt_right(rigs)
    finally:
        with trio.CancelScope(shield=True):  # also when this program is being stopped
            await stop_all(rigs)


async def interrupt_right(rigs: RigServices) -> None:
    """One rig by itself is a communicator. The stream is opened before, so no answer comes too early."""
    with rigs["right"].open_events(ExpMessage.EXPINTERRUPT) as answers:
        await rigs["right"].stop(immediately=True)
        print("right alone:", (await answers.receive()).data)


async def stop_all(rigs: RigServices) -> None:
    try:
        print("stop:", await rigs.stop())
    except ServicesError as error:
        # The others were asked, too, and their answers are not lost.
        for name, reason in error.failed.items():
            print(f"{name} failed: {reason}")
        print("the others:", error.responses)


async def main(ports: list[int]) -> None:
    left, right = ports
    uris = {"left": f"udp://localhost:{left}", "right": f"udp://localhost:{right}"}
    async with open_rig_services(uris, echo_timeout=5, response_timeout=5) as rigs:
        await rigs.ready()  # in which order the programs were started does not matter
        await run_experiment(rigs)
        print("info:", await rigs.info(ExpStatus.STOPPED))


if __name__ == "__main__":
    trio.run(main, [int(port) for port in sys.argv[1:]] or [11001, 11002])
