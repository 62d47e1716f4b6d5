"""Subjects and their keysets: who an event is about, sealed so that one deletion forgets them.

A subject is random (`subject_ref`), per tenant; only the blind index, in one table, leads from a
person to it. Associated data of each part: UTF-8 `h1|tenant|subject_ref|body_schema|id`.
"""

import hmac
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.errors import ConfigError, Erased, Poison, StoreAway
from hub.event import length_prefixed
from hub.faults import Faults
from hub.keys import sealing
from hub.keys.cache import KeysetCache
from hub.keys.file import KeyFile
from hub.store import Store, UtcTime, insert_ignore

METADATA: Final = sa.MetaData()
"""Tables of the admission database; admission adds its own."""

_INDEX_BYTES: Final = 16

subjects: Final = sa.Table(
    "subjects",
    METADATA,
    sa.Column("tenant", sa.String(6), primary_key=True),
    sa.Column("blind_index", sa.LargeBinary(_INDEX_BYTES), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("subject_ref", sa.String(36), nullable=False, unique=True),
)
keysets: Final = sa.Table(
    "keysets",
    METADATA,
    sa.Column("tenant", sa.String(6), primary_key=True),
    sa.Column("subject_ref", sa.String(36), primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)
tombstones: Final = sa.Table(
    "tombstones",
    METADATA,
    sa.Column("tenant", sa.String(6), primary_key=True),
    sa.Column("subject_ref", sa.String(36), primary_key=True),
    sa.Column("erased_at", UtcTime, nullable=False),
)
installations: Final = sa.Table(
    "installations",
    METADATA,
    # One row: whose keys this database's contents are sealed under.
    sa.Column("place", sa.Integer, sa.CheckConstraint("place = 1"), primary_key=True),
    sa.Column("id", sa.String(36), nullable=False),
)

_TENANT: Final = sa.bindparam("tenant", type_=sa.String)
_REF: Final = sa.bindparam("subject_ref", type_=sa.String)
# Built once: building costs more than running. A subject that is read is locked against an erasure
# until its reader commits (SQLite: its transaction does that).
_SUBJECT_AT: Final = (
    sa.select(subjects.c.subject_ref)
    .where(subjects.c.tenant == _TENANT, subjects.c.blind_index == sa.bindparam("index"))
    .with_for_update(read=True, key_share=True)
)
_WRAPPED: Final = sa.select(keysets.c.wrapped).where(
    keysets.c.tenant == _TENANT, keysets.c.subject_ref == _REF
)
_TOMBSTONE: Final = sa.select(tombstones.c.tenant).where(
    tombstones.c.tenant == _TENANT, tombstones.c.subject_ref == _REF
)
_NEW_KEYSET: Final = sa.insert(keysets)


class SubjectKind(StrEnum):
    """Whom the order and the key are for."""

    PERSON = "person"
    """Identity: BSN."""
    ORGANISATION = "organisation"
    """Identity: KvK number."""
    REQUEST = "request"
    """Nobody known: the request itself; identity: event id."""


class KeyStore:
    """Seals, opens and forgets. `tenant` is always the handler (decision 11).

    StoreAway: the store, the key file or a keyset is not there now; try again, lose nothing.
    Made with the key file of another installation it raises ConfigError.
    """

    def __init__(
        self, store: Store, key_file: KeyFile, faults: Faults, cache: KeysetCache | None = None
    ) -> None:
        self._store = store
        self._file = key_file
        self._faults = faults
        self._cache = KeysetCache() if cache is None else cache
        _check_installation(store, key_file)

    @property
    def id_key(self) -> bytes:
        """Secret from which ids and references are made."""
        return self._file.id_key

    def subject(self, connection: Connection, tenant: str, kind: SubjectKind, identity: str) -> str:
        """The subject of `identity`, made with its keyset if new, in the caller's transaction."""
        self._faults.check("keys")
        index = self._blind_index(tenant, kind, identity)
        known = _subject_at(connection, tenant, index)
        if known is not None:
            return known
        reference = str(uuid.uuid4())
        row = {"tenant": tenant, "blind_index": index, "kind": kind, "subject_ref": reference}
        if insert_ignore(connection, subjects, row):
            self._new_keyset(connection, tenant, reference)
            return reference
        # Another process came between (PostgreSQL only); its row is committed by now.
        known = _subject_at(connection, tenant, index)
        if known is None:
            raise StoreAway(f"a subject of {tenant} was made and erased just now; try again")
        return known

    def seal(
        self,
        connection: Connection,
        tenant: str,
        subject_ref: str,
        body_schema: str,
        event_id: str,
        plaintext: bytes,
    ) -> bytes:
        """Seal one part, in the transaction that read its subject."""
        self._faults.check("keys")
        data = sealing.associated_data(tenant, subject_ref, body_schema, event_id)
        keyset = self._cache.get((tenant, subject_ref))
        if keyset is None:
            keyset = self._read_keyset(connection, tenant, subject_ref)
        return keyset.encrypt(plaintext, data)

    def open(
        self, tenant: str, subject_ref: str, body_schema: str, event_id: str, ciphertext: bytes
    ) -> bytes:
        """The plaintext. Raises Erased, StoreAway, or Poison if anything was altered."""
        self._faults.check("keys")
        data = sealing.associated_data(tenant, subject_ref, body_schema, event_id)
        keyset = self._cache.get((tenant, subject_ref))
        if keyset is None:
            keyset = self._store.read(lambda c: self._read_keyset(c, tenant, subject_ref))
        try:
            return keyset.decrypt(ciphertext, data)
        except sealing.CannotOpen:
            raise Poison(
                f"event {event_id}: a part of subject {subject_ref} of {tenant} cannot be opened; "
                "it, its schema name or its ids were altered"
            ) from None

    def find(self, tenant: str, kind: SubjectKind, identity: str) -> str | None:
        """The subject of `identity` if this tenant has one."""
        self._faults.check("keys")
        index = self._blind_index(tenant, kind, identity)
        return self._store.read(lambda c: _subject_at(c, tenant, index))

    def erase(self, tenant: str, subject_ref: str) -> None:
        """Forget for good: here at once, in every process within a minute. Repeats do nothing.

        Waits for the writer thread: not to be called inside a work; `forget` is for there.
        """
        self._faults.check("keys")
        self._store.write(lambda c: self.forget(c, tenant, subject_ref)).result()
        self.drop(tenant, subject_ref)

    def forget(self, connection: Connection, tenant: str, subject_ref: str) -> None:
        """As `erase`, in the caller's transaction; the caller calls `drop` once it is durable.

        The tombstone is written even if there is no such subject: erasures are applied again
        after a restore, whose backup may be older than the subject.
        """
        self._faults.check("keys")
        for table in (subjects, keysets):
            mine = (table.c.tenant == tenant) & (table.c.subject_ref == subject_ref)
            connection.execute(sa.delete(table).where(mine))
        row = {"tenant": tenant, "subject_ref": subject_ref, "erased_at": datetime.now(UTC)}
        insert_ignore(connection, tombstones, row)

    def drop(self, tenant: str, subject_ref: str) -> None:
        """Drop what this process still knows of an erased subject, and scrub the database's log."""
        self._cache.drop((tenant, subject_ref))
        self._store.purge()

    def erased(self, tenant: str, subject_ref: str) -> bool:
        self._faults.check("keys")
        return self._store.read(lambda c: _has_tombstone(c, tenant, subject_ref))

    def fingerprint(self, tenant: str, data: bytes) -> bytes:
        """Keyed, so that a guess at `data` (a BSN has 90 million values) cannot be tried."""
        return hmac.digest(self._file.keys_of(tenant).fingerprint, data, sha256)

    def seal_quarantined(self, data: bytes, record_id: str) -> bytes:
        """Under a key of the hub: what is quarantined may have no tenant."""
        bound = sealing.associated_data("quarantine", record_id)
        return self._file.quarantine.encrypt(data, bound)

    def open_quarantined(self, sealed: bytes, record_id: str) -> bytes:
        bound = sealing.associated_data("quarantine", record_id)
        try:
            return self._file.quarantine.decrypt(sealed, bound)
        except sealing.CannotOpen:
            raise Poison(
                f"quarantined record {record_id} cannot be opened; it was altered, or sealed "
                "under another key file"
            ) from None

    def _blind_index(self, tenant: str, kind: SubjectKind, identity: str) -> bytes:
        message = length_prefixed(tenant, kind, identity)
        return self._file.keys_of(tenant).index.compute(message, _INDEX_BYTES)

    def _new_keyset(self, connection: Connection, tenant: str, subject_ref: str) -> None:
        keyset = sealing.new_aead_keyset()
        wrapping = self._file.keys_of(tenant).wrapping
        row = {
            "tenant": tenant,
            "subject_ref": subject_ref,
            "wrapped": sealing.wrap(keyset, wrapping, _bound_to(tenant, subject_ref)),
            "created_at": datetime.now(UTC),
        }
        connection.execute(_NEW_KEYSET, row)
        # If this transaction fails, nobody ever learns the random subject_ref of this entry.
        self._cache.put((tenant, subject_ref), sealing.aead_of(keyset), self._cache.clock())

    def _read_keyset(self, connection: Connection, tenant: str, subject_ref: str) -> sealing.Aead:
        read_at = self._cache.clock()
        mine = {"tenant": tenant, "subject_ref": subject_ref}
        wrapped = connection.execute(_WRAPPED, mine).scalar()
        if wrapped is None:
            if _has_tombstone(connection, tenant, subject_ref):
                raise Erased(f"subject {subject_ref} of {tenant} was erased")
            raise StoreAway(
                f"key store away: no keyset and no erasure of subject {subject_ref} of {tenant}; "
                "is this the right database, and is its restore complete?"
            )
        try:
            keyset = sealing.unwrap(
                wrapped, self._file.keys_of(tenant).wrapping, _bound_to(tenant, subject_ref)
            )
        except sealing.CannotOpen:
            # Failure policy: most likely the wrong key file. Calling it Poison would quarantine
            # every request of the municipality; so they wait.
            raise StoreAway(
                f"key store away: {self._file.path} does not open the keyset of subject "
                f"{subject_ref} of {tenant}; put back the key file that belongs to this database"
            ) from None
        self._cache.put((tenant, subject_ref), keyset, read_at)
        return keyset


def _check_installation(store: Store, key_file: KeyFile) -> None:
    """Refuse a key file that does not belong to the database; a new database takes the first.

    A key file made anew after the old one was lost would otherwise go to work: known requests
    would be admitted twice, and nothing older could be read.
    """

    def work(connection: Connection) -> None:
        insert_ignore(connection, installations, {"place": 1, "id": key_file.installation})

    known = store.read(_installation_of)
    if known is None:
        store.write(work).result()
        known = store.read(_installation_of)
    if known != key_file.installation:
        raise ConfigError(
            f"{key_file.path}: keys of installation {key_file.installation}, but {store.url} is of "
            f"installation {known}; put back the key file of that one, or name it in HUB_KEYS"
        )


def _installation_of(connection: Connection) -> str | None:
    return connection.execute(sa.select(installations.c.id)).scalar()


def _bound_to(tenant: str, subject_ref: str) -> bytes:
    return f"{tenant}|{subject_ref}".encode()


def _subject_at(connection: Connection, tenant: str, index: bytes) -> str | None:
    return connection.execute(_SUBJECT_AT, {"tenant": tenant, "index": index}).scalar()


def _has_tombstone(connection: Connection, tenant: str, subject_ref: str) -> bool:
    mine = {"tenant": tenant, "subject_ref": subject_ref}
    return connection.execute(_TOMBSTONE, mine).first() is not None
