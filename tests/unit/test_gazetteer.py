import csv
import json
import math
from datetime import date
from pathlib import Path

import pytest
import shapely

from hub.errors import ConfigError
from hub.gazetteer import DATA, Gazetteer, Located
from hub.gazetteer.boundaries import Boundaries

LATITUDE = 52.05


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer.load()


def metres_east(degrees: float) -> float:
    """Published series for the length of a degree of longitude: not the formula under test."""
    phi = math.radians(LATITUDE)
    return degrees * (
        111_412.84 * math.cos(phi) - 93.5 * math.cos(3 * phi) + 0.118 * math.cos(5 * phi)
    )


@pytest.fixture
def two_squares(tmp_path: Path) -> Gazetteer:
    """GM0001 lies west of 5.1 degrees east, GM0002 east of it; both end at 52.0 and 52.1 north."""

    def square(code: str, west: float, east: float) -> dict[str, object]:
        ring = [[west, 52.0], [east, 52.0], [east, 52.1], [west, 52.1], [west, 52.0]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        return {"type": "Feature", "properties": {"gm_code": code}, "geometry": geometry}

    features = [square("GM0001", 5.0, 5.1), square("GM0002", 5.1, 5.2)]
    (tmp_path / "municipalities.csv").write_text("gm_code\n")
    (tmp_path / "municipality_boundaries.geojson").write_text(json.dumps({"features": features}))
    return Gazetteer.load(tmp_path)


def beside(longitude: float, metres: float) -> tuple[float, float]:
    return LATITUDE, longitude + metres / metres_east(1)


@pytest.mark.parametrize(
    ("name", "latitude", "longitude", "code"),
    [
        ("Amsterdam, Dam", 52.3731, 4.8926, "GM0363"),
        ("Nijmegen, station", 51.8433, 5.8527, "GM0268"),
        ("Dordrecht, Grote Kerk", 51.8144, 4.6597, "GM0505"),
        ("Enschede, Oude Markt", 52.2208, 6.8950, "GM0153"),
        ("Brielle, Markt: today Voorne aan Zee", 51.9019, 4.1636, "GM1992"),
    ],
)
def test_a_known_place_lies_in_its_municipality(
    gazetteer: Gazetteer, name: str, latitude: float, longitude: float, code: str
) -> None:
    assert gazetteer.by_point(latitude, longitude) == Located((code,), certain=True), name


def test_a_point_in_each_municipality_is_found_there(gazetteer: Gazetteer) -> None:
    features = json.loads((DATA / "municipality_boundaries.geojson").read_text())["features"]
    for feature in features:
        inside = shapely.from_geojson(json.dumps(feature["geometry"])).representative_point()
        found = gazetteer.by_point(inside.y, inside.x)
        assert found.candidates[0] == feature["properties"]["gm_code"]
    assert {f["properties"]["gm_code"] for f in features} == set(gazetteer.municipalities)


@pytest.mark.parametrize("metres", [-5000.0, -101.0])
def test_away_from_the_border_there_is_no_doubt(two_squares: Gazetteer, metres: float) -> None:
    assert two_squares.by_point(*beside(5.1, metres)) == Located(("GM0001",), certain=True)


@pytest.mark.parametrize(("metres", "first"), [(-99.0, "GM0001"), (99.0, "GM0002")])
def test_within_100_m_of_a_second_municipality_both_may_be_meant(
    two_squares: Gazetteer, metres: float, first: str
) -> None:
    found = two_squares.by_point(*beside(5.1, metres))
    assert found.candidates[0] == first
    assert set(found.candidates) == {"GM0001", "GM0002"}
    assert not found.certain


def test_outside_all_the_nearest_within_500_m_is_meant(two_squares: Gazetteer) -> None:
    assert two_squares.by_point(*beside(5.0, -499.0)) == Located(("GM0001",), certain=True)
    assert two_squares.by_point(*beside(5.2, 499.0)) == Located(("GM0002",), certain=True)
    assert two_squares.by_point(*beside(5.0, -501.0)) == Located((), certain=False)
    north = 52.1 + 490 / 111_260  # metres in a degree of latitude at 52 degrees
    assert two_squares.by_point(north, 5.05).candidates == ("GM0001",)
    assert two_squares.by_point(52.1 + 510 / 111_260, 5.05).candidates == ()


def test_outside_all_but_within_100_m_of_both_both_may_be_meant(two_squares: Gazetteer) -> None:
    found = two_squares.by_point(52.1 + 50 / 111_260, 5.1)
    assert set(found.candidates) == {"GM0001", "GM0002"}
    assert not found.certain


def test_distances_are_metres_within_a_thousandth(two_squares: Gazetteer) -> None:
    boundaries = Boundaries(two_squares._folder / "municipality_boundaries.geojson")
    for metres in (50.0, 250.0, 480.0):
        found = boundaries.around(*beside(5.0, -metres), metres=500.0)
        assert found == [(pytest.approx(metres, rel=1e-3), "GM0001")]


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        (4.9, 52.37),  # the two exchanged
        (48.8584, 2.2945),
        (90.0, 5.0),
        (-1000.0, 1e300),
        (math.nan, 5.0),
        (52.0, math.inf),
    ],
)
def test_a_point_elsewhere_is_nowhere(
    gazetteer: Gazetteer, latitude: float, longitude: float
) -> None:
    assert gazetteer.by_point(latitude, longitude) == Located((), certain=False)


def test_an_ended_municipality_leads_to_the_one_of_that_day(gazetteer: Gazetteer) -> None:
    # Vierpolders went into Brielle in 1980, Brielle into Voorne aan Zee in 2023.
    assert gazetteer.successor("GM0621") == "GM1992"
    assert gazetteer.successor("GM0621", on=date(1979, 12, 31)) == "GM0621"
    assert gazetteer.successor("GM0621", on=date(1980, 1, 1)) == "GM0501"
    assert gazetteer.successor("GM0501", on=date(2022, 12, 31)) == "GM0501"
    assert gazetteer.successor("GM0501", on=date(2023, 1, 1)) == "GM1992"
    assert gazetteer.successor("GM1992") == "GM1992"
    assert gazetteer.ended("GM0501") == date(2023, 1, 1)
    assert gazetteer.ended("GM1992") is None
    assert gazetteer.name("GM0501") == "Brielle"


def test_what_never_was_a_municipality_has_no_successor(gazetteer: Gazetteer) -> None:
    for code in ("GM1999", "GM0998", "GM9999", "0501", ""):
        assert gazetteer.successor(code) is None
        assert not gazetteer.known(code)


def test_every_code_leads_to_a_municipality_of_today(gazetteer: Gazetteer) -> None:
    with (DATA / "municipality_history.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["final_code"]]
    assert len(rows) > 1000
    for row in rows:
        found = gazetteer.successor(f"GM{row['cbs_code']}")
        assert found == f"GM{row['final_code']}"
        assert found in gazetteer.municipalities


def test_first_regions_lead_to_their_successors_largest_first(gazetteer: Gazetteer) -> None:
    largest = gazetteer.seed_successors()
    assert [m.code for m in largest[:3]] == ["GM0268", "GM0153", "GM0505"]
    assert [m.inhabitants for m in largest] == sorted(m.inhabitants for m in largest)[::-1]
    assert "GM0501" not in {m.code for m in largest}
    for seed in gazetteer.seed:
        assert gazetteer.successor(seed.code) == seed.current_code
        assert gazetteer.ended(seed.code) == seed.ended


@pytest.mark.parametrize(
    ("postcode", "found"),
    [
        ("1011AB", Located(("GM0363",), certain=True)),
        ("1011 ab", Located(("GM0363",), certain=True)),
        ("1011", Located(("GM0363",), certain=True)),
        ("1261AA", Located(("GM0376", "GM0317", "GM0406"), certain=False)),
        ("1000", Located(("GM0363",), certain=True, po_box=True)),
        # Addresses and PO boxes under one code: people live there.
        ("7963", Located(("GM1690", "GM1701"), certain=False)),
        ("0999", Located((), certain=False)),
        ("", Located((), certain=False)),
    ],
)
def test_a_postcode_names_its_candidates(
    gazetteer: Gazetteer, postcode: str, found: Located
) -> None:
    assert gazetteer.by_postcode(postcode) == found


def test_postcodes_name_municipalities_of_today_only(gazetteer: Gazetteer) -> None:
    with (DATA / "postcode4_municipality.csv").open(newline="", encoding="utf-8") as file:
        codes = [row["pc4"] for row in csv.DictReader(file)]
    assert len(codes) > 4000
    for code in codes:
        located = gazetteer.by_postcode(code)
        assert located.candidates
        assert set(located.candidates) <= set(gazetteer.municipalities)


def test_report_categories(gazetteer: Gazetteer, tmp_path: Path) -> None:
    found = gazetteer.report_category("afval", "grofvuil")
    assert found is not None
    assert found.sub == "Grofvuil"
    assert gazetteer.report_category("afval", "boom") is None
    (tmp_path / "municipalities.csv").write_text("gm_code\n")
    (tmp_path / "signalen_categories.csv").write_text(
        "main_slug,main,sub_slug,sub,active\nafval,Afval,oud,Oud,False\n"
    )
    closed = Gazetteer.load(tmp_path)
    assert closed.report_category("afval", "oud") is None
    assert ("afval", "oud") in closed.report_categories


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"municipalities\.csv is missing; install the hub"):
        Gazetteer.load(tmp_path)


def test_all_data_has_source_and_licence() -> None:
    told = (DATA / "README.md").read_text()
    for path in DATA.iterdir():
        assert path.is_dir() or path.name == "README.md" or f"`{path.name}`" in told
    assert {p.stem for p in (DATA / "licences").iterdir()} == {
        "CC-BY-4.0", "CC0-1.0", "EUPL-1.2", "MIT-4pp", "MPL-2.0",
    }  # fmt: skip
