"""Executes a command that exits with its parent: python -I -S parent_death.py PARENT SIGNAL COMMAND...

`jaxnets.runtime.child_process` runs it by path, so that nothing else is imported.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Registers the death signal and executes the command."""
    parent, number, *command = sys.argv[1:]
    exit_with_parent(int(parent), int(number))
    os.execv(command[0], command)


def exit_with_parent(parent: int, number: int) -> None:
    """Requests a signal from Linux when the parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # the parent died before prctl
        sys.exit(128 + number)


if __name__ == "__main__":
    main()
