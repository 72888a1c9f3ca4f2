"""Becomes a command that does not outlive its parent: python -I -S parent_death.py PARENT SIGNAL COMMAND...

`jaxnets.runtime.child_process` starts it by its path, so that nothing else is imported.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Ties this process to the parent and executes the command."""
    parent, number, *command = sys.argv[1:]
    exit_with_parent(int(parent), int(number))
    os.execv(command[0], command)


def exit_with_parent(parent: int, number: int) -> None:
    """Asks Linux for a signal when the parent dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before it could be asked for
        sys.exit(128 + number)


if __name__ == "__main__":
    main()
