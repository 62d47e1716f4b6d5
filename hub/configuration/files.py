"""The shapes of the files, and what the rest of the hub gets from them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from hub.connector import Kind
from hub.topics import DESTINATION_NAME, QueueName

_POINTER: Final = re.compile(r"(/([^~/]|~[01])*)+")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _pointer(text: str) -> str:
    if not _POINTER.fullmatch(text):
        raise ValueError("not a JSON pointer (RFC 6901), such as /kenmerk or /zaak/id")
    return text


def _name(text: str) -> str:
    if not DESTINATION_NAME.fullmatch(text):
        raise ValueError("a name has a-z, 0-9 and dashes, at most 63, and begins with no dash")
    return text


Name = Annotated[str, AfterValidator(_name)]


class Limits(_Table):
    """What the engine allows itself towards one destination."""

    concurrency: int = Field(default=4, ge=1, le=16)
    request_timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    connect_timeout_seconds: float = Field(default=1.0, gt=0, le=4)
    """Taken off the lease of an owner: long ones leave it no time to send in."""
    answer_cap_bytes: int = Field(default=1_000_000, ge=1_000, le=20_000_000)


class RouteRow(_Table):
    """`[[route]]` of routes.toml."""

    service: str
    handler: str
    destination: Name
    valid_from: AwareDatetime = Field(strict=True)
    recorded_at: AwareDatetime = Field(strict=True)


class RoutesFile(_Table):
    """routes.toml"""

    route: list[RouteRow] = Field(default_factory=list)


class DestinationFile(_Table):
    """destinations/GMxxxx/name.toml"""

    connector: str
    kind: Kind
    limits: Limits = Field(default_factory=Limits)
    settings: dict[str, Any] = Field(default_factory=dict)


class ClientTable(_Table):
    """`[clients.name]` of a tenant."""

    idempotency_pointer: Annotated[str, AfterValidator(_pointer)] | None = None


class TenantFile(_Table):
    """tenants/GMxxxx.toml"""

    clients: dict[Name, ClientTable] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Destination:
    """One back-office system of one municipality.

    `settings` are as written: secrets still say `env:NAME` or `file:`.
    """

    queue: QueueName
    connector: str
    kind: Kind
    settings: Mapping[str, Any]
    limits: Limits


@dataclass(frozen=True, slots=True)
class Client:
    """A website that posts. `idempotency_pointer`: the field of the body that holds the key where
    the header is missing (JSON pointer)."""

    name: str
    idempotency_pointer: str | None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A municipality as origin; also one that has ended since, for its website may still post."""

    municipality_code: str
    clients: Mapping[str, Client]
