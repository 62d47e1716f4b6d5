"""The search of the canary run finds what is there, in every shape and place, and nothing else."""

import os
import random
import struct
from pathlib import Path

import pytest

from tests.live.canary import Finding, Search, files, leaks, shapes

TOKEN = "kanarie7f3a9c51e08d"
NUMBER = "123456782"


@pytest.mark.parametrize("token", [TOKEN, NUMBER, "1011IB", "Łukasz"])
def test_a_leak_is_found_in_every_shape_wherever_it_begins(token: str) -> None:
    places = [
        (f"{shape} behind {before}", b"\xff" * before + data)
        for shape, data in leaks(token).items()
        for before in range(9)
    ]
    found = Search({token: "bsn"}).find(places)
    assert {f.place for f in found} == {place for place, _ in places}
    assert {f.label for f in found} == {"bsn"}


@pytest.mark.parametrize("name", shapes(TOKEN))
def test_each_shape_is_found_alone_and_at_the_very_end(name: str) -> None:
    for size in (0, 1, 7, 8, 4096, 4099):
        data = os.urandom(size) + shapes(TOKEN)[name]
        assert Search({TOKEN: "x"}).find([("p", data)]), size


def test_a_changed_token_is_not_found() -> None:
    changed = TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1")
    data = b"".join(leaks(changed).values())
    assert Search({TOKEN: "x"}).find([("p", data)]) == []


def test_noise_holds_no_token() -> None:
    tokens = {f"{random.randrange(10**16):016}": "x" for _ in range(2000)}
    assert Search(dict(tokens)).find([("noise", os.urandom(1_000_000))]) == []


def test_many_tokens_in_one_place_are_all_found() -> None:
    tokens = {f"kanarie{number:08}": f"field {number}" for number in range(3000)}
    data = b"..".join(leaks(token)["plain"] for token in tokens)
    found = Search(dict(tokens)).find([("p", data)])
    assert {f.label for f in found} == set(tokens.values())


def test_tokens_that_begin_alike_are_told_apart() -> None:
    found = Search({"kanarie-a": "a", "kanarie-b": "b"}).find([("p", b"xx kanarie-b xx")])
    assert found == [Finding("p", "b", "plain")]


@pytest.mark.parametrize("order", ["<d", ">d"])
def test_a_number_is_found_as_text_and_as_a_double(order: str) -> None:
    number = 52.370216123456
    wanted = Search({number: "latitude"})
    assert wanted.find([("p", b"abc" + struct.pack(order, number))])
    assert wanted.find([("p", f'{{"lat": {number}}}'.encode())])
    assert wanted.find([("p", struct.pack(order, number + 1e-9))]) == []


@pytest.mark.parametrize(
    "id_", ["a1234567-82f1-4b52-8158-123456782abe", "00-" + "ab" * 16 + "-f123456782abcdef-01"]
)
def test_digits_inside_an_id_are_chance_and_beside_one_a_leak(id_: str) -> None:
    wanted = Search({NUMBER: "bsn"})
    assert wanted.find([("p", f"xx{id_}yy".encode())]) == []
    assert wanted.find([("p", f"{NUMBER}{id_}".encode())])
    assert wanted.find([("p", f"{id_}{NUMBER}".encode())])


def test_a_token_too_short_to_be_told_from_chance_is_refused() -> None:
    with pytest.raises(ValueError, match="suffix: plain of it is too short"):
        Search({"3hg": "suffix"})


def test_a_finding_does_not_repeat_the_token() -> None:
    [found] = Search({TOKEN: "contact.email"}).find([("logs/worker.log", TOKEN.encode())])
    assert str(found) == "logs/worker.log: contact.email as plain"


def test_files_are_read_but_for_what_is_excluded(tmp_path: Path) -> None:
    for name in ("a.log", "db/b.db-wal", "office/c.db", "office2/d.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TOKEN)
    found = dict(files(tmp_path, but=[tmp_path / "office"]))
    assert set(found) == {"a.log", "db/b.db-wal", "office2/d.db"}
    assert len(Search({TOKEN: "x"}).find(found.items())) == 3


def test_an_exclusion_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(files(tmp_path, but=[tmp_path / "ofice"]))
