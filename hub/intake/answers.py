"""What the door answers to a website: Dutch JSON, nothing personal."""

from datetime import UTC, datetime
from typing import Any, Final

from hub.admission import AdmissionRow, Admitted
from hub.admission.names import dutch_value
from hub.event import show_reference
from hub.outcome import OutcomeKind, RequestStatus, StatusStep, StatusWord

STEP_WORDS: Final = {
    OutcomeKind.ROUTED: "doorgestuurd",
    OutcomeKind.QUARANTINED: "apart gezet",
    OutcomeKind.WAITING: "wacht",
    OutcomeKind.PARKED: "bij medewerker",
    OutcomeKind.RESUMED: "hervat",
    OutcomeKind.DELIVERED: "afgeleverd",
    OutcomeKind.REJECTED: "geweigerd",
    OutcomeKind.ERASED: "gewist",
}
_RECEIVED_TEXT: Final = "Uw verzoek is ontvangen."


def status_path(reference: str) -> str:
    """`reference` without dashes."""
    return f"/v1/verzoeken/{reference}"


def admitted_answer(admitted: Admitted) -> dict[str, Any]:
    return {
        "id": admitted.id,
        "referentie": show_reference(admitted.reference),
        "status": StatusWord.RECEIVED.value,
    }


def status_answer(row: AdmissionRow, status: RequestStatus) -> dict[str, Any]:
    """The steps begin with the receipt, which admission alone knows."""
    received = {
        "tijdstip": _moment(row.admitted_at),
        "stap": StatusWord.RECEIVED.value,
        "bestemming": None,
        "tekst": _RECEIVED_TEXT,
    }
    return {
        "id": row.id,
        "referentie": show_reference(row.reference),
        "type": dutch_value("service", row.service),
        "gemeente": row.municipality_code,
        "status": status.word.value,
        "definitief": status.final,
        "stappen": [received, *map(_step, status.steps)],
    }


def _step(step: StatusStep) -> dict[str, Any]:
    return {
        "tijdstip": _moment(step.time),
        "stap": STEP_WORDS[step.kind],
        "bestemming": step.destination,
        "tekst": step.text,
    }


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
