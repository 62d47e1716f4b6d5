"""Tink, typed: keysets to seal with (AES-256-GCM) and to index with (HMAC-SHA256). Pure."""

import json
from typing import Any, Final, Protocol

import tink
from tink import aead, prf, secret_key_access

from hub.errors import Poison

SUITE: Final = "h1"
"""Version of what is sealed and how; first word of all associated data."""

aead.register()
prf.register()

CannotOpen: Final[type[Exception]] = tink.TinkError
"""What Tink raises for altered bytes, other associated data or a key of another keyset."""


class Aead(Protocol):
    """Seals and opens; `open` of anything altered raises CannotOpen."""

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes: ...

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes: ...


class Prf(Protocol):
    """A keyed one-way function."""

    def compute(self, input_data: bytes, output_length: int) -> bytes: ...


def associated_data(*words: str) -> bytes:
    """`h1|word|...` as UTF-8. Raises Poison for a word with a bar: two lists could look alike."""
    if any("|" in word for word in words):
        raise Poison("an id, tenant or schema name holds a bar; nothing of ours does")
    return "|".join((SUITE, *words)).encode()


def new_aead_keyset() -> Any:
    return tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)


def new_prf_keyset() -> Any:
    return tink.new_keyset_handle(prf.prf_key_templates.HMAC_SHA256)


def aead_of(keyset: Any) -> Aead:
    primitive: Aead = keyset.primitive(aead.Aead)
    return primitive


def prf_of(keyset: Any) -> Prf:
    primitive: Prf = keyset.primitive(prf.PrfSet).primary()
    return primitive


def to_json(keyset: Any) -> dict[str, Any]:
    """Tink's own JSON, in clear: for the key file only."""
    content: dict[str, Any] = json.loads(
        tink.json_proto_keyset_format.serialize(keyset, secret_key_access.TOKEN)
    )
    return content


def from_json(content: dict[str, Any]) -> Any:
    return tink.json_proto_keyset_format.parse(json.dumps(content), secret_key_access.TOKEN)


def wrap(keyset: Any, under: Aead, data: bytes) -> bytes:
    wrapped: bytes = tink.proto_keyset_format.serialize_encrypted(keyset, under, data)
    return wrapped


def unwrap(wrapped: bytes, under: Aead, data: bytes) -> Aead:
    return aead_of(tink.proto_keyset_format.parse_encrypted(wrapped, under, data))
