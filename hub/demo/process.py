"""One process of the demo: started, killed, started again, with its own log."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hub.demo.guard import Guard

_STOP_SECONDS: Final = 20.0


class Process:
    """A child in a session of its own, so that Ctrl-C in the terminal reaches the demo alone."""

    def __init__(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._environment = dict(environment)
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and before its first start."""
        return self._child.poll() if self._child else None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, guard: Guard, extra: Mapping[str, str] | None = None) -> None:
        """Start it, or again after its end; `extra` is added to its environment this once."""
        if self.running:
            raise RuntimeError(f"{self.name} is running already")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                self._argv,
                env={**self._environment, **(extra or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1
        guard.watch(self._child.pid)

    def kill(self) -> None:
        """SIGKILL, and wait for its death. Its own children are its own affair."""
        if self._child:
            self._child.kill()
            self._child.wait()

    def ask_to_stop(self) -> None:
        if self._child and self.running:
            self._child.terminate()

    def await_stop(self) -> None:
        """Wait for the end that was asked for; then the whole session is killed."""
        if not self._child:
            return
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # It ended by itself in between.
            self._child.wait()

    def last_words(self) -> str:
        """The end of its log, for an error."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return " | ".join(text.strip().splitlines()[-3:]) or f"nothing in {self._log}"
