"""The key file: private, whole, shared by processes; its errors say what to do and no secret."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hub.errors import ConfigError, StoreAway
from hub.keys import KeyFile, sealing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "keys.json"


def test_it_is_made_only_when_asked(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keys\.json: no key file; put it back .* HUB_KEYS"):
        KeyFile.open(path)
    made = KeyFile.open(path, create=True)
    assert len(made.id_key) == 32
    assert made.municipalities == ()
    assert KeyFile.open(path, create=True).id_key == made.id_key
    assert KeyFile.open(path).id_key == made.id_key


def test_it_is_private_from_its_first_moment(path: Path) -> None:
    KeyFile.open(path, create=True).add_municipality("GM0363")
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == [".keys.json.lock", "keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_wider_permissions_are_refused_with_the_remedy(path: Path, mode: int) -> None:
    KeyFile.open(path, create=True)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"run: chmod 600 {path}"):
        KeyFile.open(path)


def test_keys_of_a_municipality_are_made_once(path: Path) -> None:
    file = KeyFile.open(path, create=True)
    assert file.add_municipality("GM0363")
    first = path.read_bytes()
    assert not file.add_municipality("GM0363")
    assert path.read_bytes() == first
    assert file.add_municipality("GM0344")
    assert file.municipalities == ("GM0344", "GM0363")
    ours, theirs = file.keys_of("GM0363"), file.keys_of("GM0344")
    assert ours.fingerprint != theirs.fingerprint
    assert ours.index.compute(b"x", 16) != theirs.index.compute(b"x", 16)
    with pytest.raises(sealing.CannotOpen):
        theirs.wrapping.decrypt(ours.wrapping.encrypt(b"x", b""), b"")


def test_a_name_that_is_no_municipality_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="GMxxxx"):
        KeyFile.open(path, create=True).add_municipality("Rotterdam")


ADD = """
import sys
from pathlib import Path
from hub.keys import KeyFile
print("ready", flush=True)
sys.stdin.readline()
file = KeyFile.open(Path(sys.argv[1]), create=True)
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 10):
    file.add_municipality(f"GM{number:04}")
print(file.id_key.hex())
"""


@pytest.mark.slow
def test_processes_that_add_at_once_lose_nothing(path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(path), first],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in ("100", "105", "200")
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    id_keys = {child.communicate("go\n", timeout=60)[0] for child in children}
    file = KeyFile.open(path)
    assert id_keys == {file.id_key.hex() + "\n"}
    numbers = [*range(100, 115), *range(200, 210)]
    assert file.municipalities == tuple(f"GM{number:04}" for number in numbers)


def test_a_municipality_added_elsewhere_is_found(path: Path) -> None:
    here = KeyFile.open(path, create=True)
    with pytest.raises(StoreAway, match="no keys for GM0363; add the municipality"):
        here.keys_of("GM0363")
    there = KeyFile.open(path)
    there.add_municipality("GM0363")
    assert here.keys_of("GM0363").fingerprint == there.keys_of("GM0363").fingerprint


def test_known_keys_need_no_file_and_an_unknown_one_waits_for_it(path: Path) -> None:
    file = KeyFile.open(path, create=True)
    file.add_municipality("GM0363")
    path.unlink()
    assert file.keys_of("GM0363")
    with pytest.raises(StoreAway, match="key file away"):
        file.keys_of("GM0344")


def test_what_a_killed_writer_left_is_in_nobodys_way(path: Path) -> None:
    file = KeyFile.open(path, create=True)
    (path.parent / ".keys.json.new").write_text("half")
    assert file.add_municipality("GM0363")
    assert KeyFile.open(path).municipalities == ("GM0363",)
    assert not (path.parent / ".keys.json.new").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "not json at all: top-secret",
        lambda content: json.dumps(["top-secret"]),
        lambda content: json.dumps(content | {"id_key": "top-secret!"}),
        lambda content: json.dumps(content | {"quarantine": {"key": "top-secret"}}),
        lambda content: json.dumps(content | {"municipalities": "top-secret"}),
        lambda content: json.dumps({k: v for k, v in content.items() if k != "id_key"}),
        lambda content: json.dumps(content)[:-30],
    ],
)
def test_a_damaged_file_is_named_and_not_quoted(path: Path, damage: object) -> None:
    KeyFile.open(path, create=True)
    assert callable(damage)
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(ConfigError, match="put it back from its backup") as caught:
        KeyFile.open(path)
    assert "top-secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_of_another_version_is_refused(path: Path) -> None:
    KeyFile.open(path, create=True)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(ConfigError, match="version 2; this hub reads 1"):
        KeyFile.open(path)


def test_damaged_keys_of_one_municipality_make_only_it_wait(path: Path) -> None:
    KeyFile.open(path, create=True).add_municipality("GM0363")
    content = json.loads(path.read_text())
    content["municipalities"]["GM0344"] = {"wrapping": {}, "index": {}, "fingerprint": "x"}
    path.write_text(json.dumps(content))
    file = KeyFile.open(path)
    assert file.keys_of("GM0363")
    with pytest.raises(StoreAway, match="the keys of GM0344 are damaged"):
        file.keys_of("GM0344")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"keys\.json: cannot be written"):
        KeyFile.open(tmp_path / "file" / "keys.json", create=True)


def test_keys_are_not_shown(path: Path) -> None:
    file = KeyFile.open(path, create=True)
    file.add_municipality("GM0363")
    shown = repr(file) + str(file)
    assert base64.b64encode(file.id_key).decode() not in shown
    assert repr(file.id_key) not in shown
    keys = file.keys_of("GM0363")
    assert repr(keys.fingerprint) not in repr(keys)
