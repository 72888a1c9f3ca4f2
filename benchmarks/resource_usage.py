"""Runs a command and prints its resource usage as JSON on the last line.

    python -I resource_usage.py PROGRAM ARGUMENTS ...

The line has "code" (exit code), "seconds", "processor_seconds" (of all its processes, also of those whose
parent ended first) and "peak_memory" (bytes, of the largest process). A process inherits its parent's peak
(ru_maxrss of getrusage), and a worker may hold a gigabyte; this small process in between avoids that.
`memory_with_children` and `processor_seconds` measure all processes together at one moment.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
ORPHAN_SECONDS, POLL_SECONDS = 5.0, 0.05


def main(command: list[str]) -> None:
    """Runs the command with this process's stdout and stderr."""
    if sys.platform == "linux":  # orphans become children of this process, so that their usage is counted
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    _wait_for_orphans()
    processor = resource.getrusage(resource.RUSAGE_CHILDREN)
    message = {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "processor_seconds": processor.ru_utime + processor.ru_stime,
        "peak_memory": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    print(f"\n{json.dumps(message)}")


def _wait_for_orphans() -> None:
    """Waits until no child is left; kills those that run for longer than `ORPHAN_SECONDS`."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            if time.monotonic() > deadline:
                for child in children_of(os.getpid()):
                    os.kill(child, signal.SIGKILL)
            time.sleep(POLL_SECONDS)


def children_of(pid: int) -> list[int]:
    """Returns the children of a process; none where /proc does not exist."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for children in tasks for child in children.read_text().split()]
    return []


def memory_with_children(pid: int) -> int:
    """Returns the bytes of a process and its descendants, each shared page divided among its users.

    It is 0 where /proc does not exist.
    """
    total = sum(map(memory_with_children, children_of(pid)))
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
    return total


def processor_seconds(pid: int) -> float:
    """Returns the processor time of a process and its descendants, 0 where /proc does not exist."""
    total = sum(map(processor_seconds, children_of(pid)))
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        own_and_ended_children = map(int, fields[11:15])  # proc_pid_stat(5): utime, stime, cutime, cstime
        total += sum(own_and_ended_children) / os.sysconf("SC_CLK_TCK")
    return total


if __name__ == "__main__":
    main(sys.argv[1:])
