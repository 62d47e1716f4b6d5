"""What admission or routing could not accept: kept for 14 days, sealed, with the reason."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from hub.contract import QUARANTINED, Contract
from hub.errors import Poison, Problem
from hub.keys import KeyStore
from hub.topics import QUARANTINE, RECORD_CAP_BYTES, LogRecord

_NAMESPACE: Final = uuid.UUID("3f8f3c5e-7d51-5d0e-9b0a-5b8a7a5c1d11")
_KEPT_BYTES: Final = RECORD_CAP_BYTES - 64 * 1024


class Quarantine:
    """Writes to the `quarantine` topic. The bytes are sealed under a key of the hub."""

    def __init__(
        self,
        contract: Contract,
        keys: KeyStore,
        send: Callable[[str, bytes, bytes], Awaitable[None]],
    ) -> None:
        self._contract = contract
        self._keys = keys
        self._send = send

    async def put(self, record: LogRecord, problem: Problem) -> None:
        """Set `record` aside because of `problem`. A repeat writes the same record id.

        Raises Away without an ack: the source must not be acknowledged then.
        """
        place = f"{record.topic}:{record.partition}:{record.offset}"
        record_id = str(uuid.uuid5(_NAMESPACE, place))
        # One that fills a record leaves no room for its envelope; it stays in its own topic, which
        # nothing trims by time, and this record says where.
        fits = len(record.value) <= _KEPT_BYTES
        value = self._contract.encode(
            QUARANTINED,
            {
                "record_id": record_id,
                "source_topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "reason": "poison" if isinstance(problem, Poison) else "refused",
                "code": getattr(problem, "code", "poison"),
                "text": str(problem)[:200] if fits else f"too large to copy: {problem}"[:200],
                "sealed": self._keys.seal_quarantined(record.value if fits else b"", record_id),
                "time": datetime.now(UTC),
                "event_id": None,
                "reference": None,
            },
        )
        await self._send(QUARANTINE, record_id.encode(), value)
