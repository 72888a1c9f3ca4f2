"""Runs a command and prints its resource usage as JSON on the last line.

    python -I resource_usage.py PROGRAM ARGUMENTS ...

The line has "code" (exit code), "seconds" and "peak_memory" (bytes, of the largest process). A process
inherits its parent's peak (ru_maxrss of getrusage), and a worker may hold a gigabyte; this small process
in between avoids that.
"""

import json
import os
import sys
import time


def main(command: list[str]) -> None:
    """Runs the command with this process's stdout and stderr."""
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    message = {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "peak_memory": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    print(f"\n{json.dumps(message)}")


if __name__ == "__main__":
    main(sys.argv[1:])
