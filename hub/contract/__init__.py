"""The contract: `schemas/` as bytes and back; ids, lint and compatibility of schemas."""

from typing import Final

from hub.contract.codec import Contract, Decoded

ENVELOPE: Final = "nl.midoffice.Envelope"
OUTCOME: Final = "nl.midoffice.OutcomeRecorded"
QUARANTINED: Final = "nl.midoffice.Quarantined"
RELOCATION_REPORTED: Final = "nl.midoffice.relocation.RelocationReported"
CO_MOVER: Final = "nl.midoffice.relocation.CoMover"
REPORT_SUBMITTED: Final = "nl.midoffice.report.PublicSpaceReportSubmitted"

__all__ = [
    "CO_MOVER",
    "ENVELOPE",
    "OUTCOME",
    "QUARANTINED",
    "RELOCATION_REPORTED",
    "REPORT_SUBMITTED",
    "Contract",
    "Decoded",
]
