"""What an event is: the envelope in clear, sealed parts, and ids that any repeat carries. Pure."""

import hmac
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from hashlib import sha256
from typing import Any, Final

CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_REFERENCE_CHARACTERS: Final = 16
_READ_AS: Final = str.maketrans({"O": "0", "I": "1", "L": "1"})

RELOCATION: Final = "relocation"
PUBLIC_SPACE_REPORT: Final = "public_space_report"
SERVICES: Final = (RELOCATION, PUBLIC_SPACE_REPORT)


@dataclass(frozen=True, slots=True)
class Authentication:
    """How the citizen logged in at the website, as the website says (`digid`, `none`, ...)."""

    means: str
    level: str | None = None
    mandate: str | None = None


@dataclass(frozen=True, slots=True)
class Payment:
    """State of the fee: `not_needed`, `unpaid` or `paid`; the amount in euro cents."""

    state: str
    cents: int | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file by reference; `sha256` in lower-case hex, `size` in bytes."""

    ref: str
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """One person's share of the body, sealed under that person's keyset."""

    subject_ref: str
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """The clear outside of an event: no personal data. Part 0 is the applicant's."""

    id: str
    source: str
    type: str
    time: datetime
    reference: str
    origin: str
    municipality_code: str
    service: str
    product: str
    subject_ref: str
    intake_channel: str
    admitted_at: datetime
    route_version: str
    body_schema: str
    traceparent: str
    authentication: Authentication
    payment: Payment
    attachments: tuple[Attachment, ...]
    parts: tuple[Part, ...]
    effective_date: date | None = None
    causation_id: str | None = None

    def to_record(self) -> dict[str, Any]:
        """The Avro record `Envelope` of schemas/envelope.avsc."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        record["authentication"] = asdict(self.authentication)
        record["payment"] = asdict(self.payment)
        record["attachments"] = [asdict(a) for a in self.attachments]
        record["parts"] = [asdict(p) for p in self.parts]
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Envelope":
        """Raises ValueError for an id that is no UUID: no outcome could be told of it."""
        uuid.UUID(record["id"])
        values = {f.name: record[f.name] for f in fields(cls)}
        values["authentication"] = Authentication(**record["authentication"])
        values["payment"] = Payment(**record["payment"])
        values["attachments"] = tuple(Attachment(**a) for a in record["attachments"])
        values["parts"] = tuple(Part(**p) for p in record["parts"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Minted:
    """The id and reference that every repeat of a request carries (rule 1)."""

    id: str
    reference: str


def mint(id_key: bytes, origin: str, client: str, idempotency_key: str) -> Minted:
    """Id and reference of a request: HMACs of who sent it and under which key.

    The client is the API client's name and not its key, so replacing a key keeps ids.
    """
    message = length_prefixed(origin, client, idempotency_key)
    digest = hmac.digest(id_key, b"id" + message, sha256)
    # UUIDv8 (RFC 9562): 122 bits of our own, version and variant set.
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) & ~(0x3 << 62) | (8 << 76) | (2 << 62)
    bits = int.from_bytes(hmac.digest(id_key, b"ref" + message, sha256)[:10], "big")
    body = "".join(
        CROCKFORD[(bits >> (5 * i)) & 31] for i in reversed(range(_REFERENCE_CHARACTERS))
    )
    return Minted(str(uuid.UUID(int=number)), body + check_character(body))


def length_prefixed(*texts: str) -> bytes:
    """Each text as UTF-8 behind its length (4 bytes, big-endian): no two lists give equal bytes."""
    encoded = (text.encode() for text in texts)
    return b"".join(len(raw).to_bytes(4, "big") + raw for raw in encoded)


def check_character(body: str) -> str:
    """Luhn mod 32 over Crockford's alphabet.

    Finds any one wrong character, and any swap of neighbours but of 0 and Z.
    """
    total = 0
    for place, character in enumerate(reversed(body)):
        value = CROCKFORD.index(character) * (2 if place % 2 == 0 else 1)
        total += value // 32 + value % 32
    return CROCKFORD[-total % 32]


def show_reference(reference: str) -> str:
    """Groups of four, as on a letter: `7K3M-9QXA-...`."""
    return "-".join(reference[i : i + 4] for i in range(0, len(reference), 4))


def read_reference(text: str) -> str:
    """The reference that someone typed or read aloud; dashes, blanks and case are ignored.

    Raises ValueError saying what is wrong: length, character or check character.
    """
    bare = text.replace("-", "").replace(" ", "").upper().translate(_READ_AS)
    if len(bare) != _REFERENCE_CHARACTERS + 1:
        raise ValueError(f"a reference has {_REFERENCE_CHARACTERS + 1} characters, not {len(bare)}")
    if any(character not in CROCKFORD for character in bare):
        raise ValueError("a reference has digits and letters other than I, L, O and U")
    if check_character(bare[:-1]) != bare[-1]:
        raise ValueError("the check character does not fit: one character is misread or swapped")
    return bare
