"""One of two processes that run collective sections; run by test_devices.py.

python together_worker.py COORDINATOR PROCESS_ID runs three sections, in which no process, process 1 and
process 0 fail, and prints the outcomes.
"""

import sys

from jaxnets.errors import ConfigError, JaxnetsError
from jaxnets.training.devices import Devices, initialize_distributed


def main(coordinator: str, process: int) -> None:
    initialize_distributed(coordinator, 2, process)
    devices = Devices.all()
    assert devices.all_reduce_max(None) is None
    assert devices.all_reduce_max(7 if process == 1 else None) == 7
    for failing in (None, 1, 0):
        try:
            with devices.collective_section():
                if process == failing:
                    raise ConfigError("mine")
            print("both continue")
        except JaxnetsError as error:
            print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
