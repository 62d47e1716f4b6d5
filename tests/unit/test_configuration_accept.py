"""Recorded rows stay as they are: each start compares them with those of the start before."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hub.configuration import accept_routes
from hub.errors import ConfigError

ROUTES = """\
# What goes where.
[[route]]
service = "relocation"
handler = "GM0505"
destination = "zaken"
valid_from = 2026-01-01T00:00:00+01:00
recorded_at = 2025-12-01T09:00:00+01:00

[[route]]
service = "public_space_report"
handler = "*"
destination = "meldingen"
valid_from = 2026-01-01T00:00:00+01:00
recorded_at = 2025-12-01T09:00:00+01:00
"""
FIRST_ROW = ROUTES[ROUTES.index("[[") : ROUTES.rindex("[[")]
Change = Callable[[Path], object]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "routes.toml").write_text(ROUTES)
    return folder


def edit(config: Path, old: str, new: str) -> None:
    file = config / "routes.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def in_routes(old: str, new: str) -> Change:
    return lambda config: edit(config, old, new)


def test_rows_may_be_appended_and_comments_changed(config: Path, tmp_path: Path) -> None:
    accepted = tmp_path / "home/routes.accepted.toml"
    accept_routes(config, accepted)
    assert accepted.read_text() == ROUTES
    with (config / "routes.toml").open("a") as out:
        out.write(FIRST_ROW.replace("2026-01-01", "2026-06-01"))
    edit(config, "# What goes where.\n", "")
    edit(config, "2026-01-01T00:00:00+01:00", "2025-12-31T23:00:00Z")
    accept_routes(config, accepted)
    assert accepted.read_text() == (config / "routes.toml").read_text()
    accept_routes(config, accepted)
    assert sorted(p.name for p in accepted.parent.iterdir()) == [
        "routes.accepted.lock",
        "routes.accepted.toml",
    ]


@pytest.mark.parametrize(
    ("name", "change", "line", "row"),
    [
        ("destination", in_routes('"zaken"', '"meldingen"'), 2, 1),
        ("moment", in_routes("2026-01-01T00:00:00+01:00", "2026-01-02T00:00:00+01:00"), 2, 1),
        ("recorded", in_routes("2025-12-01", "2025-12-02"), 2, 1),
        ("inserted", in_routes("[[route]]", FIRST_ROW + "[[route]]"), 9, 2),
        (
            "last taken out",
            in_routes(ROUTES[ROUTES.rindex("[[") :], ""),
            8,
            2,
        ),
        (
            "first taken out",
            in_routes(FIRST_ROW, ""),
            2,
            1,
        ),
        ("all", lambda config: (config / "routes.toml").write_text(""), 1, 1),
    ],
)
def test_a_recorded_row_may_not_change(
    config: Path, tmp_path: Path, name: str, change: Change, line: int, row: int
) -> None:
    accepted = tmp_path / "routes.accepted.toml"
    accept_routes(config, accepted)
    change(config)
    with pytest.raises(ConfigError) as raised:
        accept_routes(config, accepted)
    text = str(raised.value)
    assert text.startswith(f"{config}/routes.toml:{line}: row {row} was recorded as "), name
    assert "put it back as it was and append a new row" in text
    assert accepted.read_text() == ROUTES, "refused rows are not accepted the next time"


def test_routes_that_cannot_be_read_are_not_accepted(config: Path, tmp_path: Path) -> None:
    accepted = tmp_path / "routes.accepted.toml"
    edit(config, "service", "servise")
    with pytest.raises(ConfigError, match=r"routes\.toml:3: unknown key 'servise'"):
        accept_routes(config, accepted)
    assert not accepted.exists()


def test_starts_at_the_same_time_do_not_disturb_each_other(config: Path, tmp_path: Path) -> None:
    """Threads, each with its own descriptor: the file lock sees them as processes."""
    accepted = tmp_path / "routes.accepted.toml"
    for _ in range(10):
        accepted.unlink(missing_ok=True)
        with ThreadPoolExecutor(8) as pool:
            starts = [pool.submit(accept_routes, config, accepted) for _ in range(8)]
        assert [start.exception() for start in starts] == [None] * 8
        assert accepted.read_text() == ROUTES
