"""Finds the municipality that must act. Never guesses: in doubt it refuses and names candidates.

Which municipality posted plays no part, but for one: a report on a border goes to the poster if it
is one of the two. An ended municipality stands for its successor throughout.
"""

from typing import Final

from hub.admission.requests import Location, RelocationRequest, Request
from hub.errors import InvalidField, Refused
from hub.gazetteer import Gazetteer, Located

_NEW_POSTCODE: Final = "gegevens.nieuwAdres.postcode"
_PLACE: Final = "gegevens.locatie"
_CHOICE: Final = "gemeente"


def find_handler(gazetteer: Gazetteer, request: Request, origin: str) -> str:
    """Code of the handler. Raises Refused with `candidates` where the caller can decide."""
    if isinstance(request, RelocationRequest):
        where = gazetteer.by_postcode(request.content.new_address.postcode)
        field = _NEW_POSTCODE
        if where.po_box:
            raise _refused(
                "po_box",
                "Een postbus kan geen nieuw woonadres zijn.",
                field,
                "Op deze postcode woont niemand: het is een postbusnummer.",
            )
    else:
        where, field = _report_place(gazetteer, request.content.location)
        at_home = gazetteer.successor(origin)
        if not where.certain and at_home in where.candidates and request.municipality_code is None:
            return str(at_home)
    if not where.candidates:
        raise _refused(
            "municipality_unknown",
            "Niet te bepalen welke gemeente dit moet behandelen.",
            field,
            "Deze plek ligt in geen bekende gemeente.",
        )
    return _decide(gazetteer, where, field, request.municipality_code)


def _report_place(gazetteer: Gazetteer, location: Location) -> tuple[Located, str]:
    """The point decides where there is one; else the postcode of the spot."""
    if location.point is not None:
        point = location.point
        return gazetteer.by_point(point.latitude, point.longitude), f"{_PLACE}.punt"
    return gazetteer.by_postcode(location.postcode or ""), f"{_PLACE}.postcode"


def _decide(gazetteer: Gazetteer, where: Located, field: str, choice: str | None) -> str:
    """The caller's choice if it is a candidate; the only candidate if there is no choice."""
    chosen = gazetteer.successor(choice) if choice else None
    if choice is None and where.certain:
        return where.candidates[0]
    if chosen is not None and chosen in where.candidates:
        return chosen
    if choice is not None:
        raise _refused(
            "municipality_not_a_candidate",
            "De opgegeven gemeente hoort niet bij deze plek; kies een van de kandidaten.",
            _CHOICE,
            "Deze gemeente hoort niet bij de opgegeven plek.",
            where.candidates,
        )
    raise _refused(
        "municipality_ambiguous",
        "Deze plek kan in meer dan een gemeente liggen; vraag het na en stuur het verzoek opnieuw "
        "met `gemeente`.",
        field,
        "Ligt in of dichtbij meer dan een gemeente.",
        where.candidates,
    )


def _refused(
    code: str, detail: str, field: str, reason: str, candidates: tuple[str, ...] = ()
) -> Refused:
    return Refused(code, detail, (InvalidField(field, code, reason),), candidates)
