"""Which municipality a place belongs to: codes, successors, postcodes, boundaries, categories.

All of it is read from `hub/data/` (sources and licences there), lazily: a process that never looks
up a coordinate never loads boundaries. An instance is read-only and may be shared by threads.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hub.errors import ConfigError

if TYPE_CHECKING:
    from hub.gazetteer.boundaries import Boundaries

DATA: Final = Path(__file__).parents[1] / "data"

NEAREST_METRES: Final = 500.0
"""How far outside every polygon a point may lie: the boundaries follow shores, not quays."""
DOUBT_METRES: Final = 100.0
"""Closer than this to a second municipality, the generalised boundaries do not decide."""


@dataclass(frozen=True, slots=True)
class Municipality:
    """A municipality of today. `code` is GMxxxx; `oin` has 20 digits."""

    code: str
    name: str
    province: str
    inhabitants: int
    oin: str


@dataclass(frozen=True, slots=True)
class SeedMunicipality:
    """A municipality of the first regions: its code of then and that of its successor today."""

    region: str
    name: str
    code: str
    ended: date | None
    current_code: str


@dataclass(frozen=True, slots=True)
class Located:
    """Which municipalities may be meant, most likely first; empty: none is known.

    `certain` is true for exactly one candidate without doubt. `po_box`: nobody lives there.
    """

    candidates: tuple[str, ...]
    certain: bool
    po_box: bool = False


_NOWHERE: Final = Located((), certain=False)


@dataclass(frozen=True, slots=True)
class ReportCategory:
    """A category of public-space reports; the names are shown, the slugs travel."""

    main_slug: str
    sub_slug: str
    main: str
    sub: str
    active: bool


@dataclass(frozen=True, slots=True)
class _Ending:
    name: str
    ended: date | None
    chain: tuple[str, ...]


class Gazetteer:
    """Lookups over the files of `folder`. Codes are GMxxxx throughout."""

    def __init__(self, folder: Path = DATA) -> None:
        self._folder = folder

    @classmethod
    @cache
    def load(cls, folder: Path = DATA) -> "Gazetteer":
        """Raises ConfigError where the data is not there; files are read when first needed.

        One per folder and process: it is read-only, and a check of the configuration and admission
        need not each read the history of all municipalities.
        """
        if not (folder / "municipalities.csv").is_file():
            raise ConfigError(
                f"{folder}: municipalities.csv is missing; install the hub with its data files "
                "(package data hub/data)"
            )
        return cls(folder)

    def _rows(self, name: str) -> Iterator[dict[str, str]]:
        with (self._folder / name).open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)

    @cached_property
    def municipalities(self) -> Mapping[str, Municipality]:
        """Today's municipalities by code."""
        return {
            row["gm_code"]: Municipality(
                row["gm_code"],
                row["name"],
                row["province"],
                int(row["inhabitants_roo_2026"]),
                row["oin"],
            )
            for row in self._rows("municipalities.csv")
        }

    @cached_property
    def _history(self) -> Mapping[str, _Ending]:
        """Every code that ever was a municipality; those abroad or of a register are left out."""
        found = {}
        for row in self._rows("municipality_history.csv"):
            chain = tuple(f"GM{code.strip()}" for code in row["chain"].split(">") if code.strip())
            if row["status"] == "active" or chain:
                ended = date.fromisoformat(row["valid_until"]) if chain else None
                found[f"GM{row['cbs_code']}"] = _Ending(row["name"], ended, chain)
        return found

    def known(self, code: str) -> bool:
        """Whether `code` is or was a municipality."""
        return code in self._history

    def name(self, code: str) -> str | None:
        """Name of a municipality of today or of the past."""
        known = self._history.get(code)
        return known.name if known else None

    def ended(self, code: str) -> date | None:
        """The first day on which `code` no longer counts; None for today's and unknown codes."""
        known = self._history.get(code)
        return known.ended if known else None

    def successor(self, code: str, on: date | None = None) -> str | None:
        """The municipality that acts for `code` on that day (default: as known today).

        Itself while it has not ended; None for a code that never was a municipality. Where land
        was divided over several, the legal successor.
        """
        known = self._history.get(code)
        if known is None:
            return None
        current = code
        for following in known.chain:
            ended = self.ended(current)
            if ended is None or (on is not None and on < ended):
                break
            current = following
        return current

    @cached_property
    def seed(self) -> tuple[SeedMunicipality, ...]:
        """The municipalities of the first regions, as the documents of then name them."""
        return tuple(
            SeedMunicipality(
                row["group"],
                row["seed_name"],
                f"GM{row['seed_code']}",
                date.fromisoformat(row["ended"]) if row["ended"] else None,
                f"GM{row['current_code']}",
            )
            for row in self._rows("seed_municipalities.csv")
        )

    def seed_successors(self) -> tuple[Municipality, ...]:
        """Today's municipalities of the first regions, most inhabitants first."""
        codes = {seed.current_code for seed in self.seed}
        found = [self.municipalities[code] for code in codes]
        return tuple(sorted(found, key=lambda m: (-m.inhabitants, m.code)))

    @cached_property
    def _postcodes(self) -> Mapping[str, Located]:
        found = {}
        for row in self._rows("postcode4_municipality.csv"):
            candidates = (row["gm_code"], *row["mixed"].split())
            po_box = row["kind"] == "postbus"
            found[row["pc4"]] = Located(candidates, len(candidates) == 1, po_box)
        return found

    def by_postcode(self, postcode: str) -> Located:
        """`1011` or `1011AB`, blanks and case ignored. Unknown: no candidates.

        Of a postcode in several municipalities the one with most of it comes first.
        """
        return self._postcodes.get(postcode.replace(" ", "")[:4], _NOWHERE)

    @cached_property
    def _boundaries(self) -> "Boundaries":
        # Imported here: it brings numpy and shapely, 0.25 s that a worker's start can do without.
        from hub.gazetteer.boundaries import Boundaries  # noqa: PLC0415

        return Boundaries(self._folder / "municipality_boundaries.geojson")

    def by_point(self, latitude: float, longitude: float) -> Located:
        """Municipality of a point in WGS84 degrees: in its polygon, else the nearest in reach.

        A second municipality within `DOUBT_METRES` is a candidate too. In no polygon and nothing
        within `NEAREST_METRES`, or not a number: no candidates.
        """
        near = self._boundaries.around(latitude, longitude, NEAREST_METRES)
        if not near:
            return _NOWHERE
        doubtful = [code for metres, code in near[1:] if metres <= DOUBT_METRES]
        return Located((near[0][1], *doubtful), certain=not doubtful)

    @cached_property
    def report_categories(self) -> Mapping[tuple[str, str], ReportCategory]:
        """Categories of public-space reports by (main slug, sub slug)."""
        return {
            (row["main_slug"], row["sub_slug"]): ReportCategory(
                row["main_slug"], row["sub_slug"], row["main"], row["sub"], row["active"] == "True"
            )
            for row in self._rows("signalen_categories.csv")
        }

    def report_category(self, main_slug: str, sub_slug: str) -> ReportCategory | None:
        """The category if reports may be made in it today."""
        found = self.report_categories.get((main_slug, sub_slug))
        return found if found and found.active else None
