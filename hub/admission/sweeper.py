"""Brings to Kafka what stayed pending: its intake was killed, and its website never came back."""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from hub.admission import rows
from hub.admission.admission import Admission
from hub.admission.rows import AdmissionRow
from hub.errors import Away, Problem
from hub.outcome import Outcome
from hub.store import Store
from hub.telemetry import logger

PENDING_FOR: Final = timedelta(seconds=60)
"""Younger rows are still in the hands of the request that made them."""
_ROUND_SECONDS: Final = 10.0
_LEASE: Final = timedelta(seconds=45)
_BATCH: Final = 100


class Steps(Protocol):
    """What the sweeper needs of the status: outcomes of an event id."""

    async def asteps(self, key: str) -> list[Outcome]: ...


class Sweeper:
    """One in each intake; a row lease lets one of them work at a time.

    The lease only saves work: two at once would append a second copy of the same id, which every
    queue drops. Failure policy: what is away is tried again in the next round.
    """

    def __init__(
        self,
        admission: Admission,
        store: Store,
        status: Steps,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._admission = admission
        self._store = store
        self._status = status
        self._now = now
        self._holder = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except Away as away:
                logger().warning("sweep_away", error=str(away))
            await asyncio.sleep(_ROUND_SECONDS)

    async def sweep(self) -> int:
        """One round, oldest first, one after the other; how many rows are no longer pending.

        Raises StoreAway or BrokerAway; what is left waits for the next round.
        """
        now = self._now()
        mine = await self._store.awrite(
            lambda c: rows.take_lease(c, "sweeper", self._holder, now, now + _LEASE)
        )
        if not mine:
            return 0
        pending = await self._store.aread(
            lambda c: rows.pending_since(c, now - PENDING_FOR, _BATCH)
        )
        swept = 0
        for row in pending:
            try:
                await self._finish(row)
            except Problem as problem:
                # Failure policy: bytes that Kafka never takes stay pending, and hold up no other.
                logger().error("sweep_refused", event_id=row.id, error=type(problem).__name__)
            else:
                swept += 1
                logger().info("swept", event_id=row.id, reference=row.reference)
        return swept

    async def _finish(self, row: AdmissionRow) -> None:
        # An outcome shows that Kafka has it: its producer died between ack and mark.
        if await self._status.asteps(row.id):
            await self._admission.mark(row)
        else:
            await self._admission.publish(row)
