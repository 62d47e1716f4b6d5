"""From a request as posted to the parts of its event: who each is about, and the Avro record."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from hub.admission.requests import Address, RelocationRequest, ReportRequest, Request
from hub.contract import CO_MOVER, RELOCATION_REPORTED, REPORT_SUBMITTED
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION
from hub.keys import SubjectKind


@dataclass(frozen=True, slots=True)
class Who:
    """A subject before it has a `subject_ref`. No identity: the request itself."""

    kind: SubjectKind
    identity: str | None

    def __repr__(self) -> str:
        return f"Who({self.kind})"


@dataclass(frozen=True, slots=True)
class PartBody:
    """One person's share, in clear; never shown."""

    who: Who
    schema: str
    record: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"PartBody({self.who!r}, {self.schema})"


@dataclass(frozen=True, slots=True)
class EventKind:
    """What the envelope says of a service. `product` is a URI of the UPL."""

    type: str
    product: str
    body_schema: str


_OWMS: Final = "http://standaarden.overheid.nl/owms/terms/"

EVENT_KINDS: Final[Mapping[str, EventKind]] = {
    RELOCATION: EventKind(
        "nl.midoffice.relocation.reported.v1",
        _OWMS + "verhuismelding",
        RELOCATION_REPORTED + ".v1",
    ),
    PUBLIC_SPACE_REPORT: EventKind(
        "nl.midoffice.report.submitted.v1",
        _OWMS + "melding_openbare_ruimte_(algemeen)",
        REPORT_SUBMITTED + ".v1",
    ),
}


def parts_of(request: Request) -> tuple[PartBody, ...]:
    """Part 0 is the applicant's with what is about all; then one for each co-mover."""
    if isinstance(request, RelocationRequest):
        return _relocation(request)
    return (_report(request),)


def effective_date_of(request: Request) -> date | None:
    return request.content.effective_date if isinstance(request, RelocationRequest) else None


def _relocation(request: RelocationRequest) -> tuple[PartBody, ...]:
    content = request.content
    record = {
        "effective_date": content.effective_date,
        "applicant": {"bsn": request.applicant.bsn.reveal()},
        "previous_address": _address(content.previous_address),
        "new_address": _address(content.new_address),
        "residence_kind": content.residence_kind,
        "main_occupant_consent": content.main_occupant_consent,
        "contact": content.contact.model_dump(),
    }
    mover = Who(SubjectKind.PERSON, request.applicant.bsn.reveal())
    co_movers = (
        PartBody(
            Who(SubjectKind.PERSON, other.bsn.reveal()),
            CO_MOVER,
            {"bsn": other.bsn.reveal(), "relation": other.relation},
        )
        for other in content.co_movers
    )
    return (PartBody(mover, RELOCATION_REPORTED, record), *co_movers)


def _report(request: ReportRequest) -> PartBody:
    content, place = request.content, request.content.location
    record = {
        "category_main": content.category.category_main,
        "category_sub": content.category.category_sub,
        "text": content.text,
        "location": {
            "latitude": place.point.latitude if place.point else None,
            "longitude": place.point.longitude if place.point else None,
            "postcode": place.postcode,
            "house_number": place.house_number,
            "street": place.street,
            "place": place.place,
        },
        "observed_at": content.observed_at,
        "reporter": _reporter(request),
    }
    return PartBody(_reporting(request), REPORT_SUBMITTED, record)


def _reporting(request: ReportRequest) -> Who:
    """Who a report is about: a login, never a name or an address that anyone can type in."""
    if request.applicant.bsn is not None:
        return Who(SubjectKind.PERSON, request.applicant.bsn.reveal())
    if request.applicant.kvk is not None:
        return Who(SubjectKind.ORGANISATION, request.applicant.kvk)
    return Who(SubjectKind.REQUEST, None)


def _reporter(request: ReportRequest) -> dict[str, Any] | None:
    person = request.applicant
    if person.bsn is None and person.kvk is None and person.contact is None:
        return None
    return {
        "bsn": person.bsn.reveal() if person.bsn else None,
        "kvk": person.kvk,
        "name": person.contact.name if person.contact else None,
        "email": person.contact.email if person.contact else None,
        "phone": person.contact.phone if person.contact else None,
        "sharing_allowed": request.content.sharing_allowed,
    }


def _address(address: Address | None) -> dict[str, Any] | None:
    return address.model_dump() if address else None
