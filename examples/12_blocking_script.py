"""A script without any async, such as those for sipyco: ``python examples/12_blocking_script.py [PORT]``.

It calls 01_controller.py.
"""

import sys

from trionet_compat.sipyco.pc_rpc import Client


def main(port: int) -> None:
    laser = Client("localhost", port, "laser", timeout=2.0)
    try:
        laser.set_power(12.5)
        print("power:", laser.get_power(), "mW")
        try:
            laser.calibrate(2.5)
        except TimeoutError as error:
            print("calibration:", error)
        # The late answer of the calibration is not taken for that of another call.
        laser.calibrate(0.0)
        print("power:", laser.get_power(), "mW")
    finally:
        laser.close_rpc()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3251)
