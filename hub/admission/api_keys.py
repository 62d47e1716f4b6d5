"""Keys with which websites post: `hub_<live|test>_<GMxxxx>_<256 bit>`; only a SHA-256 is kept.

SHA-256 and no password hash: 256 random bits cannot be guessed, and a slow hash on every request
would let anyone without a key tie the door up.
"""

import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from hub.errors import Refused
from hub.keys import METADATA
from hub.store import Store, UtcTime
from hub.topics import DESTINATION_NAME, MUNICIPALITY_CODE

MAX_ACTIVE: Final = 2
"""So a key can be replaced without a gap, and no third one is forgotten somewhere."""
MAX_VALIDITY: Final = timedelta(days=365)
_CACHE_SECONDS: Final = 5.0
_CACHE_SIZE: Final = 10_000
_SHAPE: Final = re.compile(r"hub_(live|test)_(GM[0-9]{4})_([A-Za-z0-9_-]{43})")
_KEY_ID_LENGTH: Final = 12

_api_keys: Final = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(6), nullable=False),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("revoked_at", UtcTime),
    sa.Index("api_keys_client", "tenant", "client"),
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who posts, from the credential alone: the origin, and the name of its client."""

    tenant: str
    client: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as an operator sees it; `key_id` names it in commands and opens nothing."""

    key_id: str
    principal: Principal
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class ApiKeys:
    """The keys of all tenants. A revoked key opens nothing in any process after 5 seconds."""

    def __init__(
        self,
        store: Store,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._now = now
        self._clock = clock
        self._seen: dict[str, tuple[float, ApiKey]] = {}

    def create_key(
        self, tenant: str, client: str, mode: str = "live", valid_for: timedelta = MAX_VALIDITY
    ) -> str:
        """A new secret, shown this once. Waits for the writer thread.

        Raises Refused: too_many_keys, test_keys_not_yet, invalid_client.
        """
        if mode != "live":
            raise Refused("test_keys_not_yet", "keys for tests do not exist yet; make a live one")
        if not MUNICIPALITY_CODE.fullmatch(tenant) or not DESTINATION_NAME.fullmatch(client):
            raise Refused("invalid_client", "give GMxxxx and a client name (a-z, 0-9, dash)")
        if not timedelta() < valid_for <= MAX_VALIDITY:
            raise Refused("invalid_validity", f"a key lives at most {MAX_VALIDITY.days} days")
        secret = f"hub_{mode}_{tenant}_{secrets.token_urlsafe(32)}"
        now = self._now()

        def work(connection: Connection) -> None:
            if _count_active(connection, tenant, client, now) >= MAX_ACTIVE:
                raise Refused(
                    "too_many_keys",
                    f"{client} of {tenant} has {MAX_ACTIVE} keys; revoke one before making another",
                )
            row = {"digest": _digest(secret), "tenant": tenant, "client": client}
            times = {"created_at": now, "expires_at": now + valid_for}
            connection.execute(sa.insert(_api_keys).values(row | times))

        self._store.write(work).result()
        return secret

    def keys_of(self, tenant: str) -> list[ApiKey]:
        """All keys of a tenant, the dead ones too, oldest first."""
        mine = sa.select(_api_keys).where(_api_keys.c.tenant == tenant)
        found = self._store.read(
            lambda c: c.execute(
                mine.order_by(_api_keys.c.created_at, _api_keys.c.digest)
            ).fetchall()
        )
        return [_api_key(row) for row in found]

    def revoke(self, tenant: str, key_id: str) -> bool:
        """End a key; False if this tenant has no living one of that id."""
        mine = (
            (_api_keys.c.tenant == tenant)
            & _api_keys.c.digest.startswith(key_id, autoescape=True)
            & _api_keys.c.revoked_at.is_(None)
        )
        statement = sa.update(_api_keys).where(mine).values(revoked_at=self._now())
        if len(key_id) != _KEY_ID_LENGTH:
            return False
        changed = self._store.write(lambda c: c.execute(statement).rowcount).result()
        self._seen.clear()
        return changed > 0

    async def authenticate(self, secret: str) -> Principal | None:
        """Whose key `secret` is; None for one that is malformed, unknown, revoked or expired.

        Raises StoreAway: nobody is let in on a guess.
        """
        shape = _SHAPE.fullmatch(secret)
        if shape is None:
            return None
        digest = _digest(secret)
        key = await self._look_up(digest)
        if key is None or key.revoked_at is not None or key.expires_at <= self._now():
            return None
        # A key's own text names its tenant; the row decides, and both must say the same.
        return key.principal if hmac.compare_digest(shape[2], key.principal.tenant) else None

    async def _look_up(self, digest: str) -> ApiKey | None:
        """The row of `digest`, at most 5 seconds old: a commit or a read per request is dear."""
        seen = self._seen.get(digest)
        now = self._clock()
        if seen is not None and now - seen[0] < _CACHE_SECONDS:
            return seen[1]
        key = await self._store.aread(lambda c: _find(c, digest))
        if key is not None:
            if len(self._seen) >= _CACHE_SIZE:
                self._seen.clear()
            self._seen[digest] = (now, key)
        return key


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _find(connection: Connection, digest: str) -> ApiKey | None:
    row = connection.execute(sa.select(_api_keys).where(_api_keys.c.digest == digest)).first()
    return _api_key(row) if row is not None else None


def _count_active(connection: Connection, tenant: str, client: str, now: datetime) -> int:
    # The rows are locked on PostgreSQL, so that two commands at once do not make a third key.
    active = connection.execute(
        sa.select(_api_keys.c.digest)
        .where(
            (_api_keys.c.tenant == tenant) & (_api_keys.c.client == client),
            _api_keys.c.revoked_at.is_(None) & (_api_keys.c.expires_at > now),
        )
        .with_for_update()
    )
    return len(active.fetchall())


def _api_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        key_id=row.digest[:_KEY_ID_LENGTH],
        principal=Principal(row.tenant, row.client),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
