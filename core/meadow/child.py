"""Child processes that cannot outlive Meadow, not even when it is killed with SIGKILL.

`parent_bound` puts this file in front of a command line. On Linux it asks the kernel to kill it when the parent dies
(prctl(2), PR_SET_PDEATHSIG, which execve(2) keeps) and becomes the command. Elsewhere it stays, and ends the command
when the pipe on its standard input closes, which also happens when the parent dies.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def parent_bound(argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` bound to the life of this process. Give it a pipe as standard input."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]


def main(argv: Sequence[str]) -> int:
    """Run `argv[1:]` bound to the process `argv[0]`."""
    parent, command = int(argv[0]), list(argv[1:])
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel knew
            return 1
        os.execvp(command[0], command)  # noqa: S606
    return _watch(command)


def _watch(command: list[str]) -> int:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while child.poll() is None and os.read(0, 1):
        pass
    child.terminate()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
