"""Who posts and where they live: RvIG's invented test persons, and postcodes people live in."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final

from hub.gazetteer import DATA, Gazetteer
from hub.privacy import Bsn, passes_eleven_test

MUNICIPALITIES: Final = 10
"""Decision 31: the current successors of the first regions with most inhabitants."""

_MAY_FILE_FROM_AGE: Final = 16


@dataclass(frozen=True, slots=True)
class Address:
    """A Dutch address. `letter` and `suffix` are empty where there is none."""

    postcode: str
    number: int
    letter: str
    suffix: str
    street: str
    place: str

    def as_json(self) -> dict[str, Any]:
        """In the words of the intake API."""
        return {
            "postcode": self.postcode,
            "huisnummer": self.number,
            "huisletter": self.letter or None,
            "huisnummertoevoeging": self.suffix or None,
            "straatnaam": self.street,
            "woonplaats": self.place,
        }


@dataclass(frozen=True, slots=True)
class Person:
    """A test person who may file: alive, registered, 16 or older, with an address."""

    bsn: Bsn
    address: Address
    partner: Bsn | None
    children: tuple[Bsn, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """A four-digit postcode where people live, wholly inside one municipality."""

    pc4: str
    place: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Place:
    """A municipality of the demo. `websites`: its own origin and those of its predecessors."""

    code: str
    name: str
    inhabitants: int
    websites: tuple[str, ...]
    spots: tuple[Spot, ...]


@cache
def load_people(day: date, folder: Path = DATA) -> tuple[Person, ...]:
    """Test persons in the order of the file, each BSN once and valid."""
    found: dict[str, Person] = {}
    for row in _rows(folder / "brp_test_persons.csv"):
        if _may_file(row, day.year) and row["bsn"] not in found:
            found[row["bsn"]] = Person(
                Bsn(row["bsn"]), _address(row), _bsn(row["partner_bsn"]), _children(row)
            )
    return tuple(found.values())


@cache
def load_places(gazetteer: Gazetteer, folder: Path = DATA) -> tuple[Place, ...]:
    """The ten municipalities, most inhabitants first."""
    spots: dict[str, list[Spot]] = {}
    for row in _rows(folder / "postcode4_municipality.csv"):
        if row["kind"].startswith("adres") and not row["mixed"]:
            spot = Spot(row["pc4"], row["place"], float(row["lat"]), float(row["lon"]))
            spots.setdefault(row["gm_code"], []).append(spot)
    return tuple(
        Place(
            municipality.code,
            municipality.name,
            municipality.inhabitants,
            _websites(gazetteer, municipality.code),
            tuple(spots[municipality.code]),
        )
        for municipality in gazetteer.seed_successors()[:MUNICIPALITIES]
    )


def _websites(gazetteer: Gazetteer, code: str) -> tuple[str, ...]:
    former = [s.code for s in gazetteer.seed if s.current_code == code and s.code != code]
    return (code, *dict.fromkeys(former))


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _may_file(row: dict[str, str], year: int) -> bool:
    born = row["birth_date"][:4]
    return (
        passes_eleven_test(row["bsn"])
        and not row["death_date"]
        and not row["suspension_reason"]
        and bool(row["postcode"] and row["house_no"] and row["street"])
        and born.isdigit()
        and 0 < int(born) < year - _MAY_FILE_FROM_AGE
    )


def _address(row: dict[str, str]) -> Address:
    return Address(
        postcode=row["postcode"],
        number=int(row["house_no"]),
        letter=row["house_letter"][:1].upper(),
        # The test set has one with a dash, which BAG does not know.
        suffix="".join(c for c in row["house_suffix"] if c.isalnum())[:4],
        street=row["street"],
        place=row["city"] or row["municipality"],
    )


def _bsn(digits: str) -> Bsn | None:
    return Bsn(digits) if passes_eleven_test(digits) else None


def _children(row: dict[str, str]) -> tuple[Bsn, ...]:
    known = (_bsn(digits) for digits in row["child_bsns"].replace(";", " ").split())
    return tuple(bsn for bsn in known if bsn)
