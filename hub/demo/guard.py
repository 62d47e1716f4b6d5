"""A process that outlives the demo by a moment: it ends what the demo could not end itself.

`hub demo` ends its processes in order. When it is killed (SIGKILL, a closed terminal), the pipe
to this guard closes, and the guard kills what was told to it and still is the same process.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import Final

from hub.broker.endpoint import process_start

_MODULE: Final = "hub.demo.guard"


class Guard:
    """The demo's end of the pipe."""

    def __init__(self) -> None:
        # Own session: Ctrl-C and the end of a terminal must not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE], stdin=subprocess.PIPE, start_new_session=True
        )

    def watch(self, pid: int) -> None:
        """End `pid` with the demo, should the demo not do it."""
        pipe = self._process.stdin
        assert pipe is not None
        start = process_start(pid)
        if start is None:
            return
        try:
            pipe.write(f"{pid} {start}\n".encode())
            pipe.flush()
        except BrokenPipeError:
            pass  # The guard was killed; the demo goes on and ends its processes itself.

    def close(self) -> None:
        """Let the guard kill what still lives, and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def kill_listed(lines: Iterable[str]) -> None:
    """SIGKILL each `<pid> <start>` that is still that process."""
    for line in lines:
        pid, _, start = line.strip().partition(" ")
        if pid.isdigit() and process_start(int(pid)) == start:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass  # It ended by itself in between.


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kill_listed(sys.stdin.readlines())
