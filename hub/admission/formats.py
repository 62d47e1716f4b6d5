"""Types of the fields that a website may post; each says in Dutch what it wants, never what it got.

What depends on the day or on a table stands in `Rules`, which a reading may leave out.
"""

import re
import unicodedata
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from hub.admission import names
from hub.privacy import Bsn, redact

MAX_DAYS_AHEAD: Final = 28
MAX_ATTACHMENT_BYTES: Final = 25 * 1024 * 1024


@dataclass(slots=True)
class Rules:
    """What a body is held against besides its shape. One for each reading: it remembers people.

    A body that was accepted once is not held against these again: a repeat after midnight, or
    after a category was closed, must not be refused when the first was accepted.
    """

    last_effective_date: date
    categories: Container[tuple[str, str]]
    people: set[Bsn] = field(default_factory=set)


def rules_of(info: ValidationInfo) -> Rules | None:
    rules: Rules | None = info.context
    return rules


def matching(pattern: str, code: str, reason: str) -> AfterValidator:
    """Text that is `pattern` from end to end; the same error for every way to miss it."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise PydanticCustomError(code, reason)
        return value

    return AfterValidator(check)


def word(name: str) -> AfterValidator:
    """One of the Dutch words that the table has for `name`; gives the code word."""
    choices = ", ".join(names.VALUES[name].values())

    def check(value: str) -> str:
        code = names.english_value(name, value)
        if code is None:
            raise PydanticCustomError("not_a_choice", f"Kies een van: {choices}.")
        return code

    return AfterValidator(check)


def _bsn(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Bsn:
    try:
        bsn: Bsn = handler(value)
    except ValidationError:
        raise PydanticCustomError("bsn_invalid", "Geen geldig burgerservicenummer.") from None
    rules = rules_of(info)
    if rules is not None:
        if bsn in rules.people:
            raise PydanticCustomError(
                "person_twice",
                "Deze persoon staat al in het verzoek, als aanvrager of als meeverhuizer.",
            )
        rules.people.add(bsn)
    return bsn


def _move_date(value: date, info: ValidationInfo) -> date:
    if value < _FIRST_DATE:
        raise PydanticCustomError("out_of_range", f"Moet op of na {_FIRST_DATE} liggen.")
    rules = rules_of(info)
    if rules is not None and value > rules.last_effective_date:
        raise PydanticCustomError(
            "date_too_far_ahead",
            f"Een verhuizing kan hoogstens {MAX_DAYS_AHEAD} dagen vooruit worden doorgegeven.",
        )
    return value


def _free_text(value: str) -> str:
    if any(unicodedata.category(c) == "Cc" and c not in "\n\r\t" for c in value):
        raise PydanticCustomError("control_characters", "Bevat tekens die geen tekst zijn.")
    return value


def _no_bsn(value: str) -> str:
    if redact(value) != value:
        raise PydanticCustomError("personal", "Een referentie mag niets over een persoon zeggen.")
    return value


def _rfc3339(value: Any) -> Any:
    # Pydantic alone would also read "1700000000", as seconds since 1970.
    if not isinstance(value, str) or not _RFC3339.match(value):
        raise PydanticCustomError("time_invalid", TIME_REASON)
    return value


def _moment(value: datetime) -> datetime:
    # Far years have no UTC: "0001-01-01T00:00:00+14:00" lies before the first moment there is.
    if not _FIRST_YEAR <= value.year < _LAST_YEAR:
        raise PydanticCustomError(
            "out_of_range", f"Moet na {_FIRST_YEAR} en voor {_LAST_YEAR} liggen."
        )
    return value.astimezone(UTC)


_RFC3339: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_FIRST_DATE: Final = date(1900, 1, 1)
_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2100
TIME_REASON: Final = "Moet een tijdstip met tijdzone zijn, als 2026-12-31T10:00:00+01:00."

_upper: Final[Callable[[str], str]] = str.upper

PersonBsn = Annotated[Bsn, WrapValidator(_bsn)]
Kvk = Annotated[str, matching("[0-9]{8}", "kvk_invalid", "Een KvK-nummer heeft acht cijfers.")]
MunicipalityCode = Annotated[
    str, matching("GM[0-9]{4}", "municipality_invalid", "Moet een gemeentecode zijn als GM0363.")
]
Postcode = Annotated[
    str,
    AfterValidator(_upper),
    matching(
        "[1-9][0-9]{3} ?(?!SA|SD|SS)[A-Z]{2}",
        "postcode_invalid",
        "Moet een Nederlandse postcode zijn als 1234 AB.",
    ),
    AfterValidator(lambda value: value.replace(" ", "")),
]
HouseNumber = Annotated[int, Field(ge=1, le=99999)]
HouseLetter = Annotated[
    str, matching("[A-Za-z]", "house_letter_invalid", "Een huisletter is een letter.")
]
HouseNumberSuffix = Annotated[
    str,
    matching(
        "[A-Za-z0-9]{1,4}",
        "house_number_suffix_invalid",
        "Een toevoeging heeft hoogstens vier letters of cijfers.",
    ),
]
AddressObjectId = Annotated[
    str, matching("[0-9]{16}", "bag_id_invalid", "Een BAG-identificatie heeft zestien cijfers.")
]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_free_text)]
PlaceName = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_free_text)]
FreeText = Annotated[str, Field(min_length=1, max_length=3000), AfterValidator(_free_text)]
Email = Annotated[
    str,
    Field(max_length=254),
    matching(r"[^@\s]{1,64}@[^@\s]+\.[^@\s]+", "email_invalid", "Moet een e-mailadres zijn."),
]
Phone = Annotated[
    str, matching(r"\+?[0-9 ()-]{6,20}", "phone_invalid", "Moet een telefoonnummer zijn.")
]
Slug = Annotated[
    str, matching("[a-z0-9-]{1,80}", "slug_invalid", "Moet een code zijn als grofvuil.")
]
MoveDate = Annotated[date, AfterValidator(_move_date)]
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_rfc3339),
    # A text that Python code has held is no longer JSON: strict would refuse it.
    Field(strict=False),
    AfterValidator(_moment),
]
# A box around the Netherlands with its waters; which municipality it is, boundaries decide.
Latitude = Annotated[float, Field(ge=50.7, le=53.8, allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=3.1, le=7.3, allow_inf_nan=False)]
AttachmentRef = Annotated[
    # Stands in clear on the log: an id, not the name of a file.
    str,
    matching(
        "[A-Za-z0-9-]{1,64}",
        "ref_invalid",
        "Een referentie heeft hoogstens 64 letters, cijfers en streepjes; geen bestandsnaam.",
    ),
    AfterValidator(_no_bsn),
]
MediaType = Annotated[
    str,
    matching(
        r"[a-z]{1,20}/[a-z0-9.+-]{1,80}",
        "media_type_invalid",
        "Moet een mediatype zijn als image/jpeg.",
    ),
]
FileSize = Annotated[int, Field(ge=1, le=MAX_ATTACHMENT_BYTES)]
Sha256 = Annotated[
    str, matching("[0-9a-f]{64}", "sha256_invalid", "Moet SHA-256 zijn in 64 kleine hexadecimalen.")
]
