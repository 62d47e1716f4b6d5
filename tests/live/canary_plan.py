"""What the canary run posts: random tokens in every field that a citizen fills in freely.

Which fields those are is read from the `hub.pii` tags of the schemas. A new tagged field is in
neither `FREE` nor `BOUND` and fails `tests/unit/test_canary_plan.py` until it has its canaries.
"""

import json
import random
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from hub.contract import CO_MOVER, RELOCATION_REPORTED, REPORT_SUBMITTED
from hub.contract.library import default_folder, read_library
from hub.contract.model import Array, Optional, Record, Type
from hub.demo.backoffice import MARK_REFUSED, MARK_UNREADABLE
from hub.demo.people import Place
from hub.demo.requests import DESTINATIONS, DemoRequest, today
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION
from hub.gazetteer import Gazetteer
from hub.privacy import passes_eleven_test

FieldPath = tuple[str, str]
"""Full name of a schema, and the dotted path of a field in it."""

PER_FIELD: Final = 200
"""So many different tokens are posted in each free field (issue 3, done when 7)."""

_PLACE: Final = ("street", "place", "postcode")
FREE: Final[frozenset[FieldPath]] = frozenset(
    {
        *((RELOCATION_REPORTED, f"contact.{name}") for name in ("name", "email", "phone")),
        *(
            (RELOCATION_REPORTED, f"{which}.{name}")
            for which in ("previous_address", "new_address")
            for name in (*_PLACE, "address_object_id")
        ),
        (RELOCATION_REPORTED, "applicant.bsn"),
        (CO_MOVER, "bsn"),
        (REPORT_SUBMITTED, "text"),
        *((REPORT_SUBMITTED, f"location.{name}") for name in (*_PLACE, "latitude", "longitude")),
        *(
            (REPORT_SUBMITTED, f"reporter.{name}")
            for name in ("bsn", "kvk", "name", "email", "phone")
        ),
    }
)

_NUMBER: Final = "a number up to 99999: any file holds it by chance"
_SHORT: Final = "at most four characters: any file holds them by chance"
_CHOICE: Final = "one of a few values: it says nothing that could be looked for"
BOUND: Final[Mapping[FieldPath, str]] = {
    **{
        (RELOCATION_REPORTED, f"{which}.{name}"): why
        for which in ("previous_address", "new_address")
        for name, why in (
            ("house_number", _NUMBER),
            ("house_letter", _SHORT),
            ("house_number_suffix", _SHORT),
        )
    },
    (RELOCATION_REPORTED, "residence_kind"): _CHOICE,
    (RELOCATION_REPORTED, "main_occupant_consent"): _CHOICE,
    (CO_MOVER, "relation"): _CHOICE,
    (REPORT_SUBMITTED, "location.house_number"): _NUMBER,
}
"""Tagged fields that hold no token of their own, and why. They travel beside fields that do."""


def personal_fields() -> dict[FieldPath, str]:
    """Kind of personal data per field, as the newest version of each schema tags it."""
    found: dict[FieldPath, str] = {}
    for file in sorted(read_library(default_folder()).files, key=lambda f: f.version):
        for path, kind in _tagged(file.record, ()):
            if kind != "none":
                found[file.name, path] = kind
    return found


def _tagged(of: Type, way: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(of, Optional):
        yield from _tagged(of.of, way)
    elif isinstance(of, Array):
        yield from _tagged(of.items, way)
    elif isinstance(of, Record):
        for entry in of.fields:
            if entry.pii:
                yield ".".join((*way, entry.name)), entry.pii
            yield from _tagged(entry.type, (*way, entry.name))


def values_at(record: Mapping[str, Any], path: str) -> Any:
    """What stands at `path` in an opened part; None where a record on the way is null."""
    found: Any = record
    for step in path.split("."):
        found = found[step] if found is not None else None
    return found


class Tokens:
    """Makes tokens, each once, and remembers what each is. Lower case, so that no case is lost.

    The random generator of the system, so that no earlier run's files hold any of them.
    """

    def __init__(self) -> None:
        self.labels: dict[str | float, str] = {}
        self._random = random.SystemRandom()

    def _new(self, label: str, make: Callable[[], Any]) -> Any:
        token = make()
        while token in self.labels:
            token = make()
        self.labels[token] = label
        return token

    def word(self, label: str) -> str:
        return str(self._new(label, lambda: f"kanarie{secrets.token_hex(6)}"))

    def digits(self, label: str, count: int) -> str:
        return str(self._new(label, lambda: self._digits(count)))

    def bsn(self, label: str, valid: bool = True) -> str:
        def make() -> str:
            while passes_eleven_test(digits := self._digits(9)) is not valid:
                pass
            return digits

        return str(self._new(label, make))

    def postcode(self, label: str, pc4: str) -> str:
        """With a letter that our own references never hold, so that none looks like it."""
        return str(
            self._new(
                label,
                lambda: pc4 + self._random.choice("IOU") + self._random.choice("BCDFGHJKMNPRTVWXZ"),
            )
        )

    def degrees(self, label: str, near: float) -> float:
        """Within a metre of `near`, with all digits that a double has."""
        return float(self._new(label, lambda: near + self._random.uniform(-1e-5, 1e-5)))

    def choice(self, options: Sequence[Any]) -> Any:
        return self._random.choice(options)

    def _digits(self, count: int) -> str:
        first = self._random.choice("123456789")
        return first + "".join(self._random.choices("0123456789", k=count - 1))


@dataclass
class Plan:
    """Bodies with fresh tokens for the given municipalities. `day`: the citizens' today."""

    places: Sequence[Place]
    tokens: Tokens = field(default_factory=Tokens)
    planted: dict[FieldPath, set[Any]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        gazetteer = Gazetteer.load()
        self.day = today()
        self._spots = {
            place.code: [
                spot
                for spot in place.spots
                if gazetteer.by_point(spot.latitude, spot.longitude).candidates == (place.code,)
            ]
            for place in self.places
        }
        self._count = 0

    def _plant(self, schema: str, path: str, value: Any) -> Any:
        self.planted[schema, path].add(value)
        return value

    def relocation(self, place: Place, mark: str = "", **changes: Any) -> DemoRequest:
        """`mark` says what the back-office makes of it; `bsn` gives a known citizen's."""
        tokens, pc4 = self.tokens, self.tokens.choice(self._spots[place.code]).pc4
        previous = self._address("previous_address", str(self._count % 8999 + 1000))
        new = self._address("new_address", pc4, mark)
        who = changes.get("bsn") or tokens.bsn("applicant.bsn")
        other = tokens.bsn("co_mover.bsn")
        body = {
            "type": "verhuizing",
            "aanvrager": {"bsn": self._plant(RELOCATION_REPORTED, "applicant.bsn", who)},
            "authenticatie": {"middel": "digid", "niveau": "substantieel"},
            "gegevens": {
                "verhuisdatum": (self.day + timedelta(days=self._count % 28)).isoformat(),
                "vorigAdres": previous,
                "nieuwAdres": new,
                "soortBewoning": "inwonend",
                "toestemmingHoofdbewoner": True,
                "meeverhuizers": [{"bsn": self._plant(CO_MOVER, "bsn", other), "relatie": "kind"}],
                "contact": self._contact(RELOCATION_REPORTED, "contact", changes.get("name", "")),
            },
            "bijlagen": [self._attachment()],
        }
        return self._made(place, RELOCATION, who, body)

    def report(
        self, place: Place, by: str, mark: str = "", location: Mapping[str, Any] | None = None
    ) -> DemoRequest:
        """`by`: `bsn` or `kvk`, as which the reporter is logged in."""
        tokens, schema = self.tokens, REPORT_SUBMITTED
        who = tokens.bsn("reporter.bsn") if by == "bsn" else tokens.digits("reporter.kvk", 8)
        spot = tokens.choice(self._spots[place.code])
        latitude = tokens.degrees("location.latitude", spot.latitude)
        longitude = tokens.degrees("location.longitude", spot.longitude)
        word, inside = tokens.word("text"), tokens.bsn("text (a BSN in it)")
        text = f"Bij {word} ligt afval, zegt de man met bsn {inside}. {mark}".strip()
        where = {
            "punt": {
                "lat": self._plant(schema, "location.latitude", latitude),
                "lon": self._plant(schema, "location.longitude", longitude),
            },
            "postcode": self._plant(
                schema, "location.postcode", tokens.postcode("location.postcode", spot.pc4)
            ),
            "huisnummer": 3,
            "straatnaam": self._plant(schema, "location.street", tokens.word("location.street")),
            "woonplaats": self._plant(schema, "location.place", tokens.word("location.place")),
        }
        body = {
            "type": "melding-openbare-ruimte",
            "aanvrager": {
                by: self._plant(schema, f"reporter.{by}", who),
                "contact": self._contact(schema, "reporter"),
            },
            "authenticatie": {"middel": "digid" if by == "bsn" else "eherkenning"},
            "gegevens": {
                "categorie": {"hoofd": "afval", "sub": "grofvuil"},
                "omschrijving": self._plant(schema, "text", text),
                "locatie": {**where, **(location or {})},
                "tijdstip": f"{self.day.isoformat()}T00:00:00+01:00",
                "contactDelen": True,
            },
            "bijlagen": [self._attachment()],
        }
        return self._made(place, PUBLIC_SPACE_REPORT, who, body)

    def _address(self, which: str, pc4: str, mark: str = "") -> dict[str, Any]:
        tokens, schema = self.tokens, RELOCATION_REPORTED
        made = {
            "postcode": tokens.postcode(f"{which}.postcode", pc4),
            "street": f"{tokens.word(f'{which}.street')} {mark}".strip(),
            "place": tokens.word(f"{which}.place"),
            "address_object_id": tokens.digits(f"{which}.address_object_id", 16),
        }
        for name, value in made.items():
            self._plant(schema, f"{which}.{name}", value)
        return {
            "postcode": made["postcode"],
            "huisnummer": 17,
            "huisletter": "B",
            "huisnummertoevoeging": "3hg",
            "straatnaam": made["street"],
            "woonplaats": made["place"],
            "adresseerbaarObjectIdentificatie": made["address_object_id"],
        }

    def _contact(self, schema: str, where: str, before: str = "") -> dict[str, str]:
        tokens = self.tokens
        made = {
            "name": f"{before}{tokens.word(f'{where}.name')}",
            "email": f"{tokens.word(f'{where}.email')}@example.nl",
            "phone": tokens.digits(f"{where}.phone", 12),
        }
        for name, value in made.items():
            self._plant(schema, f"{where}.{name}", value)
        return {"naam": made["name"], "email": made["email"], "telefoon": made["phone"]}

    def _attachment(self) -> dict[str, Any]:
        """Stands in clear by design: an id, and letters only, so that no number comes by chance."""
        letters = "".join(self.tokens.choice("abcdef") for _ in range(64))
        return {
            "referentie": f"foto-{letters[:8]}",
            "mediatype": "image/jpeg",
            "grootte": 123456,
            "sha256": letters,
        }

    def _made(self, place: Place, service: str, who: str, body: dict[str, Any]) -> DemoRequest:
        """Websites that put the citizen into their Idempotency-Key exist; that must not leak."""
        self._count += 1
        key = f"{self.tokens.word('Idempotency-Key')}-{self._count}"
        destination = DESTINATIONS[service]
        return DemoRequest(
            self._count, key, place.code, place.code, service, destination, who, body
        )

    def stream(self, place: Place, each: int) -> Iterator[DemoRequest]:
        """`each` relocations, reports by citizens and reports by firms, all from other people.

        One in twenty is refused by the back-office with 400, one in twenty decided no, and one in
        twenty has a name that no HTTP header can hold, so that it cannot be mapped.
        """
        for number in range(each):
            mark = {0: MARK_UNREADABLE, 1: MARK_REFUSED}.get(number % 20, "")
            name = "Łukasz " if number % 20 == 2 else ""
            yield self.relocation(place, mark, name=name)
            yield self.report(place, "bsn", mark)
            yield self.report(place, "kvk", mark)


def as_bytes(request: DemoRequest) -> bytes:
    return json.dumps(request.body).encode()
