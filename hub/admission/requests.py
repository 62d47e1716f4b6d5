"""What a website may post. Attributes are English, the JSON is Dutch (`names`); nothing extra."""

from typing import Annotated, Any, Final, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from hub.admission import formats, names
from hub.admission.formats import rules_of, word
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION

MAX_CO_MOVERS: Final = 20
MAX_ATTACHMENTS: Final = 10


class _Words(BaseModel):
    """Strict; shows no value of its own in any text."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=names.dutch,
    )

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return []


class Attachment(_Words):
    ref: formats.AttachmentRef
    media_type: formats.MediaType
    size: formats.FileSize
    sha256: formats.Sha256


class Authentication(_Words):
    means: Annotated[str, word("means")]
    level: Annotated[str, word("level")] | None = None


NOT_LOGGED_IN: Final = Authentication.model_construct(means="none", level=None)


class Contact(_Words):
    name: formats.Name | None = None
    email: formats.Email | None = None
    phone: formats.Phone | None = None


class Address(_Words):
    postcode: formats.Postcode
    house_number: formats.HouseNumber
    house_letter: formats.HouseLetter | None = None
    house_number_suffix: formats.HouseNumberSuffix | None = None
    street: formats.PlaceName | None = None
    place: formats.PlaceName | None = None
    address_object_id: formats.AddressObjectId | None = None


class CoMover(_Words):
    bsn: formats.PersonBsn
    relation: Annotated[str, word("relation")]


class Relocation(_Words):
    effective_date: formats.MoveDate
    previous_address: Address | None = None
    new_address: Address
    residence_kind: Annotated[str, word("residence_kind")]
    main_occupant_consent: bool | None = None
    co_movers: Annotated[tuple[CoMover, ...], Field(max_length=MAX_CO_MOVERS)] = ()
    contact: Contact = Contact()


class Mover(_Words):
    bsn: formats.PersonBsn


def _digid(means: str) -> str:
    if means != "digid":
        raise PydanticCustomError(
            "digid_required", "Een verhuizing kan alleen met DigiD worden doorgegeven."
        )
    return means


class DigidLogin(Authentication):
    means: Annotated[str, word("means"), AfterValidator(_digid)]


class RelocationRequest(_Words):
    service: Annotated[str, word("service")]
    municipality_code: formats.MunicipalityCode | None = None
    applicant: Mover
    authentication: DigidLogin
    content: Relocation
    attachments: Annotated[tuple[Attachment, ...], Field(max_length=MAX_ATTACHMENTS)] = ()


class Category(_Words):
    category_main: formats.Slug
    category_sub: formats.Slug

    @model_validator(mode="after")
    def _exists(self, info: ValidationInfo) -> Self:
        rules = rules_of(info)
        key = (self.category_main, self.category_sub)
        if rules is not None and key not in rules.categories:
            raise PydanticCustomError(
                "category_unknown", "Deze combinatie van hoofd- en subcategorie bestaat niet."
            )
        return self


class Point(_Words):
    latitude: formats.Latitude
    longitude: formats.Longitude


class Location(_Words):
    point: Point | None = None
    postcode: formats.Postcode | None = None
    house_number: formats.HouseNumber | None = None
    street: formats.PlaceName | None = None
    place: formats.PlaceName | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if self.point is None and (self.postcode is None or self.house_number is None):
            raise PydanticCustomError(
                "location_required",
                "Geef de plek met `punt` (lat en lon), of met `postcode` en `huisnummer`.",
            )
        return self


class Report(_Words):
    category: Category
    text: formats.FreeText
    location: Location
    observed_at: formats.Moment
    sharing_allowed: bool = False


class Reporter(_Words):
    bsn: formats.PersonBsn | None = None
    kvk: formats.Kvk | None = None
    contact: Contact | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.bsn is not None and self.kvk is not None:
            raise PydanticCustomError(
                "applicant_ambiguous", "Een aanvrager heeft `bsn` of `kvk`, niet allebei."
            )
        return self


class ReportRequest(_Words):
    service: Annotated[str, word("service")]
    municipality_code: formats.MunicipalityCode | None = None
    applicant: Reporter = Reporter()
    authentication: Authentication = NOT_LOGGED_IN
    content: Report
    attachments: Annotated[tuple[Attachment, ...], Field(max_length=MAX_ATTACHMENTS)] = ()


Request: TypeAlias = RelocationRequest | ReportRequest

MODELS: Final[dict[str, type[RelocationRequest] | type[ReportRequest]]] = {
    RELOCATION: RelocationRequest,
    PUBLIC_SPACE_REPORT: ReportRequest,
}
"""Model by service."""
