"""What became of a request: records of `outcomes`, their read model, and the status they fold to.

An outcome holds no personal data, so erasing a person leaves these rows as they are.
"""

from hub.outcome.fold import DestinationStatus, RequestStatus, StatusStep, StatusWord, fold
from hub.outcome.record import FINAL, Outcome, OutcomeKind, outcome_record_id
from hub.outcome.status import METADATA, StatusStore

__all__ = [
    "FINAL",
    "METADATA",
    "DestinationStatus",
    "Outcome",
    "OutcomeKind",
    "RequestStatus",
    "StatusStep",
    "StatusStore",
    "StatusWord",
    "fold",
    "outcome_record_id",
]
