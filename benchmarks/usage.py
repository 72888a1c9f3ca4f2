"""Runs a command and says, on a last line of its own, what that took.

    python -I usage.py PROGRAM ARGUMENTS ...

The line is {"code", "seconds", "peak_memory"}: the exit code and, in bytes, the most that one of the
command's processes held. A process begins with the peak of the one that starts it (getrusage's ru_maxrss),
and a side may hold a gigabyte: so this one, which imports nothing of ours, stands between.
"""

import json
import os
import sys
import time


def main(command: list[str]) -> None:
    """Runs the command; its output goes where ours goes."""
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
