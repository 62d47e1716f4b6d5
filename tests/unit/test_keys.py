"""Subjects and seals: one keyset per subject, nothing moved or altered opens, forgetting holds."""

import base64
import hmac
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from hub.errors import ConfigError, Erased, Poison, StoreAway
from hub.event import length_prefixed
from hub.faults import NONE, Faults
from hub.keys import METADATA, KeyFile, KeyStore, SubjectKind, sealing
from hub.keys.cache import KeysetCache
from hub.keys.subjects import _SUBJECT_AT, keysets, subjects, tombstones
from hub.store import Store

HERE, THERE = "GM0363", "GM0344"
BSN = "999993653"
SCHEMA = "nl.midoffice.relocation.RelocationReported.v1"
EVENT = "0f9c3a5e-6f1d-8a41-9c55-2f0e6b1d7a90"
KNOWN = json.loads(Path(__file__).with_name("known_keys.json").read_text())


@dataclass
class World:
    """One installation, and a clock for the caches of its processes."""

    store: Store
    file: KeyFile
    now: float = 1000.0

    def process(self, faults: Faults = NONE) -> KeyStore:
        return KeyStore(self.store, self.file, faults, KeysetCache(clock=lambda: self.now))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    file = KeyFile.open(tmp_path / "keys.json", create=True)
    file.add_municipality(HERE)
    file.add_municipality(THERE)
    store = Store(f"sqlite:///{tmp_path}/db/admission.db", METADATA)
    yield World(store, file)
    store.close()


@pytest.fixture
def keys(world: World) -> KeyStore:
    return world.process()


def subject(
    keys: KeyStore,
    tenant: str = HERE,
    kind: SubjectKind = SubjectKind.PERSON,
    identity: str = BSN,
) -> str:
    return keys._store.write(lambda c: keys.subject(c, tenant, kind, identity)).result(10)


def seal(keys: KeyStore, tenant: str, ref: str, plaintext: bytes = b"secret") -> bytes:
    return keys._store.write(lambda c: keys.seal(c, tenant, ref, SCHEMA, EVENT, plaintext)).result(
        10
    )


def rows(world: World, table: sa.Table) -> int:
    return world.store.read(
        lambda c: c.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    )


# Subjects


def test_a_subject_is_one_per_identity_kind_and_tenant(keys: KeyStore) -> None:
    first = subject(keys)
    assert subject(keys) == first
    others = {
        subject(keys, tenant=THERE),
        subject(keys, kind=SubjectKind.ORGANISATION),
        subject(keys, kind=SubjectKind.REQUEST),
        subject(keys, identity="999990019"),
    }
    assert len(others | {first}) == 5
    assert keys.find(HERE, SubjectKind.PERSON, BSN) == first
    assert keys.find(HERE, SubjectKind.PERSON, "999992806") is None


def test_a_subject_and_its_keyset_stand_or_fall_with_the_callers_transaction(
    world: World, keys: KeyStore
) -> None:
    def half(connection: Connection) -> None:
        keys.subject(connection, HERE, SubjectKind.PERSON, BSN)
        raise LookupError

    with pytest.raises(LookupError):
        world.store.write(half).result(10)
    assert (rows(world, subjects), rows(world, keysets)) == (0, 0)


FIRST_REQUESTS = """
import sys
from pathlib import Path
from hub.faults import NONE
from hub.keys import METADATA, KeyFile, KeyStore, SubjectKind
from hub.store import Store
folder = Path(sys.argv[1])
store = Store(f"sqlite:///{folder}/db/admission.db", METADATA)
keys = KeyStore(store, KeyFile.open(folder / "keys.json"), NONE)
print("ready", flush=True)
sys.stdin.readline()
made = [
    store.write(lambda c, n=n: keys.subject(c, "GM0363", SubjectKind.PERSON, f"person {n}"))
    for n in range(50)
]
print(" ".join(future.result() for future in made))
store.close()
"""


@pytest.mark.slow
def test_first_requests_at_once_in_two_processes_get_one_subject(
    world: World, tmp_path: Path
) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_REQUESTS, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    one, other = (child.communicate(timeout=60)[0] for child in children)
    assert len(set(one.split())) == 50
    assert one == other
    assert rows(world, subjects) == rows(world, keysets) == 50


def test_an_unknown_municipality_waits_and_refuses_nothing(keys: KeyStore) -> None:
    for call in (
        lambda: subject(keys, tenant="GM9999"),
        lambda: keys.find("GM9999", SubjectKind.PERSON, BSN),
        lambda: keys.fingerprint("GM9999", b""),
    ):
        with pytest.raises(StoreAway, match="no keys for GM9999; add the municipality"):
            call()


def test_tables_and_locks_are_postgresql_too() -> None:
    dialect = postgresql.dialect()
    for table in METADATA.sorted_tables:
        assert sa.schema.CreateTable(table).compile(dialect=dialect)
    assert str(_SUBJECT_AT.compile(dialect=dialect)).endswith("FOR KEY SHARE")


# Seals


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plaintext=st.binary(max_size=2000), place=st.floats(0, 1, exclude_max=True), data=st.data())
def test_what_is_sealed_opens_and_nothing_altered_does(
    world: World, plaintext: bytes, place: float, data: st.DataObject
) -> None:
    keys = world.process()
    ref = subject(keys)
    sealed = seal(keys, HERE, ref, plaintext)
    fresh = world.process()
    assert fresh.open(HERE, ref, SCHEMA, EVENT, sealed) == plaintext

    flipped = bytearray(sealed)
    flipped[int(place * len(sealed))] ^= 1 << data.draw(st.integers(0, 7))
    cut = sealed[: int(place * len(sealed))]
    for altered in (bytes(flipped), cut, sealed + b"\0"):
        with pytest.raises(Poison, match="were altered"):
            fresh.open(HERE, ref, SCHEMA, EVENT, altered)

    other = data.draw(st.text().filter(lambda text: "|" not in text))
    there, else_ref = subject(keys, tenant=THERE), subject(keys, identity="999990019")
    moved = [(HERE, else_ref, SCHEMA, EVENT), (THERE, there, SCHEMA, EVENT)]
    moved += [(HERE, ref, other, EVENT)] * (other != SCHEMA)
    moved += [(HERE, ref, SCHEMA, other)] * (other != EVENT)
    for words in moved:
        with pytest.raises(Poison):
            fresh.open(*words, sealed)


def test_each_word_is_bound_even_under_one_keyset() -> None:
    keyset = sealing.aead_of(sealing.new_aead_keyset())
    words = (HERE, "ref", SCHEMA, EVENT)
    sealed = keyset.encrypt(b"x", sealing.associated_data(*words))
    assert keyset.decrypt(sealed, f"h1|{HERE}|ref|{SCHEMA}|{EVENT}".encode()) == b"x"
    for place in range(4):
        changed = [*words]
        changed[place] += "0"
        with pytest.raises(sealing.CannotOpen):
            keyset.decrypt(sealed, sealing.associated_data(*changed))


@pytest.mark.parametrize("place", range(4))
def test_a_word_with_a_bar_is_poison(keys: KeyStore, place: int) -> None:
    words = [HERE, subject(keys), SCHEMA, EVENT]
    words[place] += "|x"
    with pytest.raises(Poison, match="holds a bar"):
        keys.open(words[0], words[1], words[2], words[3], b"")


def test_a_keyset_put_under_another_subject_opens_nothing(world: World, keys: KeyStore) -> None:
    ref, victim = subject(keys), subject(keys, identity="999990019")
    stolen = sa.select(keysets.c.wrapped).where(keysets.c.subject_ref == victim).scalar_subquery()
    move = sa.update(keysets).where(keysets.c.subject_ref == ref).values(wrapped=stolen)
    world.store.write(lambda c: c.execute(move)).result(10)
    with pytest.raises(StoreAway, match=r"keys\.json does not open the keyset of subject"):
        world.process().open(HERE, ref, SCHEMA, EVENT, b"")


def test_other_keys_of_a_municipality_are_away_and_not_poison(world: World, tmp_path: Path) -> None:
    """As after half a restore: the installation fits, the keys of one municipality do not."""
    keys = world.process()
    ref = subject(keys)
    sealed = seal(keys, HERE, ref)
    content = json.loads((tmp_path / "keys.json").read_text())
    content["municipalities"][HERE] = content["municipalities"][THERE]
    wrong = tmp_path / "wrong.json"
    wrong.touch(0o600)
    wrong.write_text(json.dumps(content))
    with pytest.raises(StoreAway, match="put back the key file that belongs"):
        KeyStore(world.store, KeyFile.open(wrong), NONE).open(HERE, ref, SCHEMA, EVENT, sealed)


def test_a_key_file_made_anew_is_not_taken_for_the_lost_one(world: World, tmp_path: Path) -> None:
    world.process()
    anew = KeyFile.open(tmp_path / "anew.json", create=True)
    with pytest.raises(ConfigError, match=r"anew\.json: keys of installation .* put back"):
        KeyStore(world.store, anew, NONE)
    world.process()


def test_no_keyset_and_no_tombstone_is_away(keys: KeyStore) -> None:
    with pytest.raises(StoreAway, match="key store away: no keyset and no erasure"):
        keys.open(HERE, "no such subject", SCHEMA, EVENT, b"")


# Forgetting


def test_erased_is_erased_here_at_once(world: World, keys: KeyStore) -> None:
    ref = subject(keys)
    sealed = seal(keys, HERE, ref)
    assert keys.open(HERE, ref, SCHEMA, EVENT, sealed) == b"secret"
    assert not keys.erased(HERE, ref)
    keys.erase(HERE, ref)
    assert keys.erased(HERE, ref)
    with pytest.raises(Erased, match=f"{ref} of {HERE} was erased"):
        keys.open(HERE, ref, SCHEMA, EVENT, sealed)
    with pytest.raises(Erased):
        seal(keys, HERE, ref)
    assert keys.find(HERE, SubjectKind.PERSON, BSN) is None
    assert (rows(world, subjects), rows(world, keysets), rows(world, tombstones)) == (0, 0, 1)


def test_one_erasure_forgets_one_subject_of_one_tenant(keys: KeyStore) -> None:
    here, there, other = (
        subject(keys),
        subject(keys, tenant=THERE),
        subject(keys, identity="999990019"),
    )
    kept = [
        (tenant, ref, seal(keys, tenant, ref)) for tenant, ref in ((THERE, there), (HERE, other))
    ]
    keys.erase(HERE, here)
    keys.erase(THERE, here)
    for tenant, ref, sealed in kept:
        assert keys.open(tenant, ref, SCHEMA, EVENT, sealed) == b"secret"


def test_the_same_citizen_comes_back_as_another_subject(keys: KeyStore) -> None:
    first = subject(keys)
    sealed = seal(keys, HERE, first)
    keys.erase(HERE, first)
    second = subject(keys)
    assert second != first
    seal(keys, HERE, second)
    with pytest.raises(Erased):
        keys.open(HERE, first, SCHEMA, EVENT, sealed)


def test_erasing_twice_keeps_the_first_time(world: World, keys: KeyStore) -> None:
    ref = subject(keys)
    times = []
    for _ in range(2):
        keys.erase(HERE, ref)
        times.append(
            world.store.read(lambda c: c.execute(sa.select(tombstones.c.erased_at)).scalar_one())
        )
    assert times[0] == times[1]


def test_an_erasure_elsewhere_holds_within_a_minute(world: World) -> None:
    eraser, other = world.process(), world.process()
    ref = subject(eraser)
    sealed = seal(eraser, HERE, ref)
    assert other.open(HERE, ref, SCHEMA, EVENT, sealed) == b"secret"
    eraser.erase(HERE, ref)
    world.now += 60
    with pytest.raises(Erased):
        other.open(HERE, ref, SCHEMA, EVENT, sealed)


def test_use_does_not_lengthen_the_minute(world: World, keys: KeyStore) -> None:
    other = world.process()
    ref = subject(keys)
    sealed = seal(keys, HERE, ref)
    other.open(HERE, ref, SCHEMA, EVENT, sealed)
    keys.erase(HERE, ref)
    for _ in range(3):
        world.now += 19.9
        other.open(HERE, ref, SCHEMA, EVENT, sealed)
    world.now += 1
    with pytest.raises(Erased):
        other.open(HERE, ref, SCHEMA, EVENT, sealed)


def test_forgetting_is_one_transaction(world: World, keys: KeyStore) -> None:
    ref = subject(keys)
    sealed = seal(keys, HERE, ref)

    def half(connection: Connection) -> None:
        keys.forget(connection, HERE, ref)
        raise LookupError

    with pytest.raises(LookupError):
        world.store.write(half).result(10)
    fresh = world.process()
    assert not fresh.erased(HERE, ref)
    assert fresh.open(HERE, ref, SCHEMA, EVENT, sealed) == b"secret"
    assert fresh.find(HERE, SubjectKind.PERSON, BSN) == ref


def test_an_erasure_older_than_the_backup_can_be_applied_again(keys: KeyStore) -> None:
    keys.erase(HERE, "a subject of which the backup knows nothing")
    with pytest.raises(Erased):
        keys.open(HERE, "a subject of which the backup knows nothing", SCHEMA, EVENT, b"")


# The cache


def test_the_cache_is_bounded_and_the_least_used_goes_first() -> None:
    keyset = sealing.aead_of(sealing.new_aead_keyset())
    cache = KeysetCache(size=2, clock=lambda: 0.0)
    for name in ("a", "b"):
        cache.put(("t", name), keyset, 0.0)
    assert cache.get(("t", "a"))
    cache.put(("t", "c"), keyset, 0.0)
    assert [bool(cache.get(("t", name))) for name in "abc"] == [True, False, True]
    cache.drop(("t", "a"))
    assert len(cache) == 1


def test_age_counts_from_before_the_row_was_read() -> None:
    now = [100.0]
    cache = KeysetCache(clock=lambda: now[0])
    cache.put(("t", "a"), sealing.aead_of(sealing.new_aead_keyset()), 50.0)
    now[0] = 109.9
    assert cache.get(("t", "a"))
    now[0] = 110.0
    assert cache.get(("t", "a")) is None
    assert len(cache) == 0


# Planted absence, fingerprints, quarantine


def test_keys_planted_away_are_away_for_all_that_needs_a_subject(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = world.process()
    ref = subject(keys)
    sealed = seal(keys, HERE, ref)
    monkeypatch.setenv("HUB_FAULT_SINCE", "99999999999")
    away = world.process(Faults(None, "keys:60", tmp_path))
    for call in (
        lambda: subject(away),
        lambda: seal(away, HERE, ref),
        lambda: away.open(HERE, ref, SCHEMA, EVENT, sealed),
        lambda: away.find(HERE, SubjectKind.PERSON, BSN),
        lambda: away.erase(HERE, ref),
        lambda: away.erased(HERE, ref),
        lambda: world.store.write(lambda c: away.forget(c, HERE, ref)).result(10),
    ):
        with pytest.raises(StoreAway, match="planted"):
            call()
    assert keys.open(HERE, ref, SCHEMA, EVENT, sealed) == b"secret"


def test_fingerprints_are_keyed_per_tenant(keys: KeyStore) -> None:
    assert keys.fingerprint(HERE, b"x") == keys.fingerprint(HERE, b"x")
    assert len({keys.fingerprint(HERE, b"x"), keys.fingerprint(THERE, b"x"), sha256(b"x")}) == 3
    assert keys.fingerprint(HERE, b"x") != keys.fingerprint(HERE, b"y")


def test_quarantined_bytes_open_under_their_own_id_only(keys: KeyStore) -> None:
    sealed = keys.seal_quarantined(b"garbage", "q-1")
    assert b"garbage" not in sealed
    assert keys.open_quarantined(sealed, "q-1") == b"garbage"
    with pytest.raises(Poison, match="q-2 cannot be opened"):
        keys.open_quarantined(sealed, "q-2")


# Known answers: what was stored by an earlier version can be read by this one


@pytest.fixture
def known(tmp_path: Path) -> Iterator[KeyStore]:
    path = tmp_path / "known.json"
    path.touch(0o600)
    path.write_text(json.dumps(KNOWN["key_file"]))
    store = Store(f"sqlite:///{tmp_path}/known.db", METADATA)
    yield KeyStore(store, KeyFile.open(path), NONE)
    store.close()


def raw(name: str) -> bytes:
    return base64.b64decode(KNOWN[name])


def test_known_ciphertext_opens(known: KeyStore) -> None:
    row = {name: KNOWN[name] for name in ("tenant", "subject_ref")} | {"wrapped": raw("wrapped")}
    stored = sa.insert(keysets).values(**row, created_at=sa.func.now())
    known._store.write(lambda c: c.execute(stored)).result(10)
    words = (KNOWN[name] for name in ("tenant", "subject_ref", "body_schema", "event_id"))
    assert known.open(*words, raw("ciphertext")) == raw("plaintext")
    assert known.open_quarantined(raw("quarantined_plaintext"), "q-1") == raw("plaintext")


def test_known_index_and_fingerprint(known: KeyStore) -> None:
    """Against the standard library's HMAC, so that Tink's PRF is known to be no more than that."""
    municipality = KNOWN["key_file"]["municipalities"][KNOWN["tenant"]]
    index_key = base64.b64decode(municipality["index"]["key"][0]["keyData"]["value"])[-32:]
    message = length_prefixed(KNOWN["tenant"], KNOWN["kind"], KNOWN["identity"])
    index = known._blind_index(KNOWN["tenant"], SubjectKind(KNOWN["kind"]), KNOWN["identity"])
    assert index == raw("blind_index") == hmac.digest(index_key, message, sha256)[:16]
    fingerprint_key = base64.b64decode(municipality["fingerprint"])
    fingerprint = known.fingerprint(KNOWN["tenant"], raw("plaintext"))
    assert fingerprint == raw("fingerprint_of_plaintext")
    assert fingerprint == hmac.digest(fingerprint_key, raw("plaintext"), sha256)
