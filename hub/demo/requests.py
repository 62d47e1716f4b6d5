"""The stream of requests: relocations and reports of the ten municipalities, from a seed.

The same seed, count and day give the same requests, byte for byte. A citizen posts several, so
that order matters; the harness posts a citizen's next one only after the former's 202.
"""

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any, Final
from zoneinfo import ZoneInfo

from hub.demo.backoffice import MARK_REFUSED, MARK_UNREADABLE
from hub.demo.people import Address, Person, Place, Spot, load_people, load_places
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION
from hub.gazetteer import Gazetteer

DESTINATIONS: Final = {RELOCATION: "burgerzaken", PUBLIC_SPACE_REPORT: "openbare-ruimte"}
"""Which system of a municipality takes which service."""

_PER_CITIZEN: Final = 8
_ANONYMOUS_SHARE: Final = 0.2
_RELOCATION_SHARE: Final = 0.6
_STAYS_SHARE: Final = 0.85
_OTHER_WEBSITE_SHARE: Final = 0.15
_METRES_PER_DEGREE: Final = 111_000
_LETTERS: Final = "ABCDEFGHJKLMNPRSTUVWXZ"

_TEXTS: Final = (
    "Zak huisvuil naast de container",
    "Stoeptegel ligt los, struikelgevaar",
    "Lantaarnpaal brandt niet",
    "Tak hangt over het fietspad",
    "Put loopt over bij regen",
    "Graffiti op het elektriciteitshuisje",
)


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One post. `subject` names whom the order is for, without a BSN; `body` is the JSON."""

    index: int
    key: str
    origin: str
    handler: str
    service: str
    destination: str
    subject: str
    body: dict[str, Any]

    @property
    def lane(self) -> str:
        return f"{self.handler}/{self.destination}/{self.subject}"


@dataclass(slots=True)
class _Citizen:
    name: str
    person: Person
    home: Place
    address: Address


class Stream:
    """An endless stream of good requests. Not thread-safe."""

    def __init__(self, seed: int, day: date, citizens: int) -> None:
        """`citizens`: how many different ones post; at most as many as there are test persons."""
        self._random = random.Random(seed)
        self._day = day
        self._gazetteer = Gazetteer.load()
        self.places = load_places(self._gazetteer)
        self._weights = [place.inhabitants for place in self.places]
        people = load_people(day)
        chosen = self._random.sample(people, min(citizens, len(people)))
        self._citizens = [
            _Citizen(f"burger-{number}", person, self._somewhere(), person.address)
            for number, person in enumerate(chosen)
        ]
        self._streets = sorted({person.address.street for person in people})

    def __iter__(self) -> Iterator[DemoRequest]:
        index = 0
        while True:
            yield self._next(index)
            index += 1

    def take(self, count: int) -> list[DemoRequest]:
        """The first `count` of a fresh stream."""
        return [request for request, _ in zip(self, range(count), strict=False)]

    def _next(self, index: int) -> DemoRequest:
        if self._random.random() < _ANONYMOUS_SHARE:
            return self._report(index, None)
        citizen = self._random.choice(self._citizens)
        if self._random.random() < _RELOCATION_SHARE:
            return self._relocation(index, citizen)
        return self._report(index, citizen)

    def _somewhere(self) -> Place:
        return self._random.choices(self.places, self._weights)[0]

    def _website(self, place: Place) -> str:
        """An ended municipality keeps its website as an origin (decision 31)."""
        return self._random.choice(place.websites)

    def _relocation(self, index: int, citizen: _Citizen) -> DemoRequest:
        if self._random.random() >= _STAYS_SHARE:
            citizen.home = self._somewhere()
        # Some post at the website of another municipality: the new address decides all the same.
        elsewhere = self._random.random() < _OTHER_WEBSITE_SHARE
        origin = self._website(self._somewhere() if elsewhere else citizen.home)
        former, citizen.address = citizen.address, self._address(citizen.home)
        movers = self._co_movers(citizen.person)
        body: dict[str, Any] = {
            "type": "verhuizing",
            "gemeente": None,
            "aanvrager": {"bsn": citizen.person.bsn.reveal()},
            "authenticatie": {"middel": "digid", "niveau": "substantieel"},
            "gegevens": {
                "verhuisdatum": (self._day + timedelta(self._random.randint(0, 27))).isoformat(),
                "vorigAdres": former.as_json(),
                "nieuwAdres": citizen.address.as_json(),
                "soortBewoning": "hoofdbewoner",
                "toestemmingHoofdbewoner": None,
                "meeverhuizers": movers,
                "contact": {
                    "naam": None,
                    "email": f"{citizen.name}@example.nl",
                    "telefoon": None,
                },
            },
            "bijlagen": [],
        }
        return self._made(index, origin, citizen.home, RELOCATION, citizen.name, body)

    def _report(self, index: int, citizen: _Citizen | None) -> DemoRequest:
        place = citizen.home if citizen else self._somewhere()
        spot = self._random.choice(self._safe_spots[place.code])
        main, sub = self._random.choice(self._categories)
        applicant: dict[str, Any] = {}
        if citizen:
            applicant = {"bsn": citizen.person.bsn.reveal()}
        elif self._random.random() < 0.5:
            contact = {"naam": None, "email": f"melder-{index}@example.nl", "telefoon": None}
            applicant = {"contact": contact}
        seen = datetime.combine(self._day, datetime.min.time(), UTC) - timedelta(
            minutes=self._random.randint(5, 24 * 60)
        )
        means = {"middel": "digid", "niveau": "substantieel"} if citizen else {"middel": "geen"}
        body: dict[str, Any] = {
            "type": "melding-openbare-ruimte",
            "aanvrager": applicant,
            "authenticatie": means,
            "gegevens": {
                "categorie": {"hoofd": main, "sub": sub},
                "omschrijving": self._random.choice(_TEXTS),
                "locatie": {"punt": {"lat": spot.latitude, "lon": spot.longitude}},
                "tijdstip": seen.isoformat(),
                "contactDelen": False,
            },
            "bijlagen": [],
        }
        subject = citizen.name if citizen else f"melding-{index}"
        origin = self._website(place)
        return self._made(index, origin, place, PUBLIC_SPACE_REPORT, subject, body)

    def _made(
        self,
        index: int,
        origin: str,
        place: Place,
        service: str,
        subject: str,
        body: dict[str, Any],
    ) -> DemoRequest:
        key = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        destination = DESTINATIONS[service]
        return DemoRequest(index, key, origin, place.code, service, destination, subject, body)

    def _address(self, place: Place) -> Address:
        spot = self._random.choice(place.spots)
        letters = "".join(self._random.choices(_LETTERS, k=2))
        # SA, SD and SS are never given out.
        postcode = spot.pc4 + (letters if letters not in {"SA", "SD", "SS"} else "AB")
        street = self._random.choice(self._streets)
        return Address(postcode, self._random.randint(1, 250), "", "", street, spot.place)

    def _co_movers(self, person: Person) -> list[dict[str, str]]:
        movers = []
        if person.partner and self._random.random() < 0.5:
            movers.append({"bsn": person.partner.reveal(), "relatie": "partner"})
        movers += [
            {"bsn": child.reveal(), "relatie": "kind"}
            for child in person.children[:2]
            if self._random.random() < 0.5
        ]
        own = person.bsn.reveal()
        distinct = {mover["bsn"]: mover for mover in movers if mover["bsn"] != own}
        return list(distinct.values())

    @cached_property
    def _categories(self) -> list[tuple[str, str]]:
        return [k for k, found in self._gazetteer.report_categories.items() if found.active]

    @cached_property
    def _safe_spots(self) -> dict[str, list[Spot]]:
        """Spots whose surroundings are without doubt in their municipality, moved a little."""
        found: dict[str, list[Spot]] = {}
        for place in self.places:
            near = [self._nearby(spot) for spot in place.spots]
            found[place.code] = [
                spot
                for spot in near
                if self._gazetteer.by_point(spot.latitude, spot.longitude).candidates
                == (place.code,)
            ]
        return found

    def _nearby(self, spot: Spot) -> Spot:
        north, east = (self._random.uniform(-80, 80) / _METRES_PER_DEGREE for _ in "ne")
        return replace(
            spot,
            latitude=round(spot.latitude + north, 6),
            longitude=round(spot.longitude + east, 6),
        )


def today() -> date:
    """The day as citizens have it."""
    return datetime.now(ZoneInfo("Europe/Amsterdam")).date()


def generate(seed: int, count: int, day: date) -> list[DemoRequest]:
    """`count` good requests, about eight per citizen."""
    return Stream(seed, day, max(1, count // _PER_CITIZEN)).take(count)


def last_of_subject(requests: Sequence[DemoRequest]) -> list[int]:
    """Indexes of the requests after which nothing of the same subject follows."""
    last = {request.subject: place for place, request in enumerate(requests)}
    return sorted(last.values())


def spoil(request: DemoRequest, status: int) -> DemoRequest:
    """The same request, such that the back-office answers it with 400 or 422."""
    mark = {400: MARK_UNREADABLE, 422: MARK_REFUSED}[status]
    details = dict(request.body["gegevens"])
    if request.service == RELOCATION:
        details["nieuwAdres"] = {**details["nieuwAdres"], "straatnaam": mark}
    else:
        details["omschrijving"] = f"{details['omschrijving']} ({mark})"
    return replace(request, body={**request.body, "gegevens": details})
