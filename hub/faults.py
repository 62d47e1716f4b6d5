"""Faults planted on purpose: crash points and stores that are away. Loopback only.

`CRASH_POINTS` is the list that the live test walks; a point that is never reached fails it.
"""

import os
import time
from pathlib import Path
from typing import Final

from hub.errors import ConfigError, StoreAway

CRASH_POINTS: Final[dict[str, str]] = {
    "admission.before_commit": "the admission row is written, its transaction not committed",
    "admission.after_commit": "the admission row is durable and pending, nothing is produced",
    "admission.after_produce": "Kafka has acked the request, the row still says pending",
    "admission.after_mark": "the row is marked, the website has no answer yet",
    "routing.before_produce": "requests are taken, nothing is on a queue",
    "routing.after_produce": "the queue has acked, the `routed` outcome is not written",
    "routing.after_outcome": "the `routed` outcome is acked, the request is not",
    "routing.after_ack": "the request is acknowledged, its offset perhaps not committed",
    "delivery.after_intake": "a queue record is taken, nothing is sent",
    "delivery.before_send": "the lease is checked, nothing is on the wire",
    "delivery.after_send": "the request is on the wire, its answer is not read",
    "delivery.after_2xx": "the back-office said yes, nothing is written",
    "delivery.after_outcome": "the outcome is acked, the offset is not committed",
    "delivery.before_commit": "a commit is about to be sent",
    "delivery.after_commit": "a commit was acked, the lane has not yet advanced",
    "delivery.before_park_row": "a record failed, its row is not written",
    "delivery.after_park_row": "the row is durable, the offset is not committed",
    "projection.before_store": "outcomes are taken, no row is written",
    "projection.after_store": "rows are durable, the outcomes are not acknowledged",
}


class Faults:
    """The planted faults of this process; `NONE` plants nothing."""

    def __init__(self, crash_at: str | None, fault: str | None, home: Path) -> None:
        self._point, self._pass = self._parse_crash(crash_at)
        self._store, self._away_until = self._parse_fault(fault)
        self._home = home
        self._passes = 0

    @staticmethod
    def _parse_crash(crash_at: str | None) -> tuple[str | None, int]:
        if not crash_at:
            return None, 1
        point, _, nth = crash_at.partition(":")
        if point not in CRASH_POINTS:
            known = ", ".join(CRASH_POINTS)
            raise ConfigError(f"HUB_CRASH_AT: no such point {point!r}; choose one of {known}")
        if nth and not (nth.isdigit() and int(nth) > 0):
            raise ConfigError("HUB_CRASH_AT: after the colon a whole number from 1, as in point:3")
        return point, int(nth or 1)

    @staticmethod
    def _parse_fault(fault: str | None) -> tuple[str | None, float]:
        if not fault:
            return None, 0.0
        store, _, seconds = fault.partition(":")
        if store != "keys" or not seconds.isdigit():
            raise ConfigError("HUB_FAULT: write keys:<seconds>, for example keys:60")
        # Children inherit the start of their supervisor, so a restart does not begin anew.
        since = float(os.environ.setdefault("HUB_FAULT_SINCE", repr(time.time())))
        return store, time.monotonic() + (since + float(seconds) - time.time())

    def crash(self, point: str) -> None:
        """End this process with exit 137 if `point` is planted, once per HUB_HOME.

        The marker is written first, so that the process that a supervisor starts in its place
        goes on, and a test can see that the point was reached.
        """
        if point != self._point:
            return
        self._passes += 1
        marker = self._home / "crashed" / point
        if self._passes < self._pass or marker.exists():
            return
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(str(os.getpid()))
        os._exit(137)

    def plants(self, point: str) -> bool:
        """Whether `crash(point)` may end this process; for hooks that cost something."""
        return point == self._point

    def check(self, store: str) -> None:
        """Raise StoreAway while `store` is planted as away."""
        if store == self._store and time.monotonic() < self._away_until:
            raise StoreAway(f"{store}: away (planted by HUB_FAULT)")


NONE: Final = Faults(None, None, Path())
