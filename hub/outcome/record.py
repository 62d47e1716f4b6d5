"""One record of the topic `outcomes`."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from hub.errors import Poison
from hub.event import Envelope
from hub.topics import QueueName


class OutcomeKind(StrEnum):
    """What happened. Routing writes the first two, delivery the others."""

    ROUTED = "routed"
    """It stands on the queue of each of `destinations`."""
    QUARANTINED = "quarantined"
    """Routing could not accept it; a person must look."""
    WAITING = "waiting"
    """The destination is sick; once per sickness."""
    PARKED = "parked"
    """A person must look: `reason` is record, in_doubt or operator; None: behind such a one."""
    RESUMED = "resumed"
    """No longer parked: it will be sent."""
    DELIVERED = "delivered"
    REJECTED = "rejected"
    ERASED = "erased"


FINAL: Final = frozenset({OutcomeKind.DELIVERED, OutcomeKind.REJECTED, OutcomeKind.ERASED})
"""Nothing follows these at the same destination."""


def outcome_record_id(
    event_id: str, destination: str | None, kind: OutcomeKind, attempt: int
) -> str:
    """The same for every repeat of the same outcome, whoever writes it."""
    return str(uuid.uuid5(uuid.UUID(event_id), f"{destination or ''}|{kind}|{attempt}"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Field names are those of schemas/outcome.avsc. Nothing in it is personal.

    `destination` is `str(QueueName)`; None for what concerns the whole request. `attempt`
    counts rounds of a delivery: 0 before the first, one more each time it comes out of park, the
    `resumed` that says so included. It never falls. `status` is an HTTP status. `time` carries a
    zone.
    """

    record_id: str
    event_id: str
    reference: str
    origin: str
    municipality_code: str
    service: str
    subject_ref: str
    destination: str | None
    kind: OutcomeKind
    attempt: int
    time: datetime
    reason: str | None
    code: str
    text: str
    status: int | None
    destinations: tuple[str, ...]
    traceparent: str

    @classmethod
    def of(
        cls,
        envelope: Envelope,
        kind: OutcomeKind,
        *,
        time: datetime,
        destination: QueueName | None = None,
        attempt: int = 0,
        reason: str | None = None,
        code: str = "",
        text: str = "",
        status: int | None = None,
        destinations: Sequence[QueueName | str] = (),
    ) -> "Outcome":
        """An outcome of `envelope`. `text` is for operators, at most 200 long."""
        place = str(destination) if destination else None
        return cls(
            record_id=outcome_record_id(envelope.id, place, kind, attempt),
            event_id=envelope.id,
            reference=envelope.reference,
            origin=envelope.origin,
            municipality_code=envelope.municipality_code,
            service=envelope.service,
            subject_ref=envelope.subject_ref,
            destination=place,
            kind=kind,
            attempt=attempt,
            time=time,
            reason=reason,
            code=code,
            text=text[:200],
            status=status,
            destinations=tuple(str(queue) for queue in destinations),
            traceparent=envelope.traceparent,
        )

    def to_record(self) -> dict[str, Any]:
        """The Avro record `OutcomeRecorded`."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        record["kind"] = self.kind.value
        record["destinations"] = list(self.destinations)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Outcome":
        """Raises Poison for a kind that a later version of the hub wrote."""
        values = {f.name: record[f.name] for f in fields(cls)}
        try:
            values["kind"] = OutcomeKind(record["kind"])
        except ValueError:
            raise Poison(
                f"outcome {record['record_id']} is of a kind that this version does not know; "
                "upgrade the worker"
            ) from None
        values["destinations"] = tuple(record["destinations"])
        return cls(**values)


def latest_of_each(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """One outcome per record id: of repeats the youngest, whatever their order."""
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        known = found.get(outcome.record_id)
        if known is None or _age(known) < _age(outcome):
            found[outcome.record_id] = outcome
    return found


def _age(outcome: Outcome) -> tuple[datetime, str]:
    """Repeats that differ though written at one moment get one order too."""
    return outcome.time, repr(outcome)
