"""Nothing personal lies in the database's files in clear, and an erased key lies nowhere."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from hub.faults import NONE
from hub.keys import METADATA, KeyFile, KeyStore, SubjectKind
from hub.keys.subjects import keysets
from hub.store import Store

TENANT, SCHEMA = "GM0363", "nl.midoffice.relocation.RelocationReported.v1"
BSN, NAME = "999993653", "Wilhelmina van Zwanenburgh"


def spellings(text: str) -> Iterator[tuple[str, bytes]]:
    """How `text` could lie in a file: also inside longer base64, which has three alignments."""
    yield "plain", text.encode()
    yield "hex", text.encode().hex().encode()
    for order in ("utf-16-le", "utf-16-be"):
        yield order, text.encode(order)
    for skipped in range(3):
        encoded = base64.b64encode(bytes(skipped) + text.encode())
        # The characters at both ends also hold bits of the neighbours.
        whole = encoded[-(-skipped * 8 // 6) :].rstrip(b"=")
        yield f"base64 {skipped}", whole if (skipped + len(text)) % 3 == 0 else whole[:-1]


def found(folder: Path, text: str) -> list[str]:
    return [
        f"{path.name}: {how}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for how, spelling in spellings(text)
        if spelling in path.read_bytes()
    ]


SEALED = sa.MetaData()
sealed_parts = sa.Table(
    "sealed_parts",
    SEALED,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("sealed", sa.LargeBinary),
)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyStore]:
    file = KeyFile.open(tmp_path / "keys.json", create=True)
    file.add_municipality(TENANT)
    store = Store(f"sqlite:///{tmp_path}/db/admission.db", METADATA)
    store.write(SEALED.create_all).result(10)
    yield KeyStore(store, file, NONE)
    store.close()


def write_through(keys: KeyStore) -> str:
    """As admission does: subject, seal, and the sealed bytes in a row."""

    def work(connection: sa.Connection) -> str:
        ref = keys.subject(connection, TENANT, SubjectKind.PERSON, BSN)
        sealed = keys.seal(connection, TENANT, ref, SCHEMA, "id", f"{NAME} {BSN}".encode() * 50)
        fingerprint = keys.fingerprint(TENANT, BSN.encode()).hex()
        connection.execute(sa.insert(sealed_parts).values(id=fingerprint, sealed=sealed))
        return ref

    return keys._store.write(work).result(10)


def test_neither_number_nor_name_is_on_disk(keys: KeyStore, tmp_path: Path) -> None:
    write_through(keys)
    assert (tmp_path / "db" / "admission.db-wal").stat().st_size > 0
    assert found(tmp_path, BSN) + found(tmp_path, NAME) == []
    keys._store.purge()
    assert found(tmp_path, BSN) + found(tmp_path, NAME) == []


@pytest.mark.parametrize("before", [b"", b"x", b"xy"])
def test_the_search_finds_what_is_planted(tmp_path: Path, before: bytes) -> None:
    for how, data in {
        "plain": NAME.encode(),
        "hex": NAME.encode().hex().encode(),
        "utf-16-le": NAME.encode("utf-16-le"),
        "utf-16-be": NAME.encode("utf-16-be"),
    }.items():
        (tmp_path / how).write_bytes(b"..." + data + b"...")
    (tmp_path / "base64").write_bytes(base64.b64encode(before + NAME.encode() + b" and more"))
    hits = {hit.partition(":")[0] for hit in found(tmp_path, NAME)}
    assert hits == {"plain", "hex", "utf-16-le", "utf-16-be", "base64"}


def test_an_erased_keyset_is_gone_from_every_file(keys: KeyStore, tmp_path: Path) -> None:
    ref = write_through(keys)
    mine = sa.select(keysets.c.wrapped).where(keysets.c.subject_ref == ref)
    wrapped = keys._store.read(lambda c: c.execute(mine).scalar_one())
    keys._store.purge()

    def files_with_it() -> list[str]:
        return [p.name for p in sorted((tmp_path / "db").iterdir()) if wrapped in p.read_bytes()]

    assert files_with_it() == ["admission.db"]
    keys.erase(TENANT, ref)
    assert files_with_it() == []
