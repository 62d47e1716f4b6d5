"""From bytes to a request, or to all that is wrong with them, in the caller's own words."""

import difflib
import json
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json, to_json
from pydantic_core.core_schema import ErrorType

from hub.admission import names
from hub.admission.formats import TIME_REASON, Rules
from hub.admission.requests import MODELS, Request
from hub.errors import InvalidField, Refused

MAX_FIELDS: Final = 100
"""So many faults are listed; a body of 256 kB can hold far more."""

_LONGEST_NAME: Final = max(map(len, names.FIELDS.values())) + 3
_DETAIL: Final = "De inhoud van het verzoek is niet in orde; zie invalidParams."
_KNOWN: Final = frozenset(get_args(ErrorType))
_TIME: Final = ("time_invalid", TIME_REASON)
_DATE: Final = ("date_invalid", "Moet een datum zijn als 2026-12-31.")
_OBJECT: Final = ("wrong_type", "Moet een object zijn.")
_LIST: Final = ("wrong_type", "Moet een lijst zijn.")
_NUMBER: Final = ("wrong_type", "Moet een getal zijn.")
_INVALID: Final = ("invalid", "De waarde is niet geldig.")
_REASONS: Final[dict[str, tuple[str, str]]] = {
    "missing": ("required", "Dit veld is verplicht."),
    "extra_forbidden": ("unknown_field", "Bevat een veld dat hier niet hoort."),
    "string_type": ("wrong_type", "Moet tekst zijn."),
    "int_type": ("wrong_type", "Moet een geheel getal zijn."),
    "int_from_float": ("wrong_type", "Moet een geheel getal zijn."),
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": ("wrong_type", "Moet true of false zijn."),
    "list_type": _LIST,
    "tuple_type": _LIST,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
    "string_too_short": ("too_short", "Mag niet leeg zijn."),
    "string_too_long": ("too_long", "Mag hoogstens {max_length} tekens hebben."),
    "too_long": ("too_many", "Mag hoogstens {max_length} onderdelen hebben."),
    "greater_than_equal": ("out_of_range", "Moet {ge} of meer zijn."),
    "less_than_equal": ("out_of_range", "Moet {le} of minder zijn."),
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "timezone_aware": _TIME,
}
"""Pydantic's word for a fault: our stable code and the Dutch reason (limits only, no values)."""


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """A JSON body as a door took it in, one object. It never shows in a text."""

    body: bytes = field(repr=False)
    intake_channel: str = "website"

    def lift(self, pointer: str) -> "tuple[AdmissionRequest, str | None]":
        """Take the text at JSON pointer `pointer` out; None if there is none.

        For a website that sends its idempotency key in a field of the body, which is no field of
        ours. Raises Refused as `read` does for what is not a JSON object.
        """
        content = _object(self.body)
        tokens = [t.replace("~1", "/").replace("~0", "~") for t in pointer.split("/")[1:]]
        holder: Any = content
        for token in tokens[:-1]:
            holder = holder.get(token) if isinstance(holder, dict) else None
        found = holder.get(tokens[-1]) if tokens and isinstance(holder, dict) else None
        if not isinstance(found, str):
            return self, None
        del holder[tokens[-1]]
        return AdmissionRequest(to_json(content), self.intake_channel), found


def read(request: AdmissionRequest, rules: Rules | None) -> Request:
    """The request in `request`, shape checked, and held against `rules` unless they are None.

    Raises Refused with everything that is wrong (at most `MAX_FIELDS`), and no value.
    """
    said = _object(request.body).get("type")
    service = names.english_value("service", said) if isinstance(said, str) else None
    if service is None:
        choices = ", ".join(names.VALUES["service"].values())
        fault = InvalidField("type", "not_a_choice", f"Kies een van: {choices}.")
        raise Refused("invalid_request", _DETAIL, (fault,))
    try:
        return MODELS[service].model_validate_json(request.body, context=rules)
    except ValidationError as bad:
        faults = bad.errors(include_url=False, include_input=False)
    # One line per place and code: a thousand unknown fields in one object are one fault, and only
    # of what is told a text is made.
    told = islice({_where(fault): fault for fault in faults}.items(), MAX_FIELDS)
    fields = tuple(InvalidField(*where, _reason(fault)) for where, fault in told)
    raise Refused("invalid_request", _DETAIL, fields)


def canonical(request: Request) -> bytes:
    """The same bytes for the same meaning: order, blanks, absent or null make no difference.

    What is at its default is left out, so a field added later changes no fingerprint of before.
    """
    plain = request.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise Refused("json_invalid", "De inhoud is geen geldige JSON.") from None
    if not isinstance(content, dict):
        raise Refused("json_invalid", "De inhoud is geen JSON-object.")
    return content


def _where(fault: ErrorDetails) -> tuple[str, str]:
    """Path and code."""
    kind, place = fault["type"], fault["loc"]
    if kind not in _KNOWN:
        return _path(place), kind
    # The name of a field is the caller's text: it may hold anything, so it is not repeated.
    known = place[:-1] if kind == "extra_forbidden" else place
    return _path(known), _REASONS.get(kind, _INVALID)[0]


def _reason(fault: ErrorDetails) -> str:
    kind = fault["type"]
    if kind not in _KNOWN:
        return fault["msg"]
    reason = _REASONS.get(kind, _INVALID)[1]
    if kind == "extra_forbidden":
        return reason + _suggestion(str(fault["loc"][-1]))
    return reason.format(**fault.get("ctx", {}))


def _path(place: tuple[int | str, ...]) -> str:
    """`gegevens.meeverhuizers[0].bsn`; `$` is the whole body."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return path.removeprefix(".") or "$"


def _suggestion(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        return ""
    near = difflib.get_close_matches(name, names.FIELDS.values(), 1)
    return f" Bedoelt u `{near[0]}`?" if near else ""
