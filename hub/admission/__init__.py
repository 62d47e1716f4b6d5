"""Admission: from what a website posts to a durable, sealed event; the same for every door."""

from hub.admission.admission import Admission, Admitted, KeyReused, SubjectErased, erase_subject
from hub.admission.api_keys import ApiKey, ApiKeys, Principal
from hub.admission.reading import AdmissionRequest
from hub.admission.rows import AdmissionRow, find_by_reference
from hub.admission.sweeper import Sweeper
from hub.keys import METADATA

__all__ = [
    "METADATA",
    "Admission",
    "AdmissionRequest",
    "AdmissionRow",
    "Admitted",
    "ApiKey",
    "ApiKeys",
    "KeyReused",
    "Principal",
    "SubjectErased",
    "Sweeper",
    "erase_subject",
    "find_by_reference",
]
