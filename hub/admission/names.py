"""The one table of names: English in code and schemas, Dutch in the JSON of websites.

A model field without a line here does not import; a line that neither a model nor a schema uses
fails `tests/unit/test_admission_names.py`.
"""

from collections.abc import Mapping
from typing import Final

from hub.event import PUBLIC_SPACE_REPORT, RELOCATION

FIELDS: Final[Mapping[str, str]] = {
    # the request
    "service": "type",
    "municipality_code": "gemeente",
    "applicant": "aanvrager",
    "authentication": "authenticatie",
    "content": "gegevens",
    "attachments": "bijlagen",
    # people
    "bsn": "bsn",
    "kvk": "kvk",
    "contact": "contact",
    "name": "naam",
    "email": "email",
    "phone": "telefoon",
    "means": "middel",
    "level": "niveau",
    # addresses
    "postcode": "postcode",
    "house_number": "huisnummer",
    "house_letter": "huisletter",
    "house_number_suffix": "huisnummertoevoeging",
    "street": "straatnaam",
    "place": "woonplaats",
    "address_object_id": "adresseerbaarObjectIdentificatie",
    # relocation
    "effective_date": "verhuisdatum",
    "previous_address": "vorigAdres",
    "new_address": "nieuwAdres",
    "residence_kind": "soortBewoning",
    "main_occupant_consent": "toestemmingHoofdbewoner",
    "co_movers": "meeverhuizers",
    "relation": "relatie",
    # public-space report
    "category": "categorie",
    "category_main": "hoofd",
    "category_sub": "sub",
    "text": "omschrijving",
    "location": "locatie",
    "point": "punt",
    "latitude": "lat",
    "longitude": "lon",
    "observed_at": "tijdstip",
    "sharing_allowed": "contactDelen",
    # attachments
    "ref": "referentie",
    "media_type": "mediatype",
    "size": "grootte",
    "sha256": "sha256",
}

VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "service": {RELOCATION: "verhuizing", PUBLIC_SPACE_REPORT: "melding-openbare-ruimte"},
    "means": {
        "digid": "digid",
        "eherkenning": "eherkenning",
        "eidas": "eidas",
        "none": "geen",
    },
    "level": {
        "basic": "basis",
        "medium": "midden",
        "substantial": "substantieel",
        "high": "hoog",
    },
    "residence_kind": {"main_occupant": "hoofdbewoner", "lodger": "inwonend"},
    "relation": {"partner": "partner", "child": "kind", "parent": "ouder"},
}
"""Per field the words of both languages."""


def dutch(field: str) -> str:
    """The name of a model's field in JSON; KeyError if the table lacks it."""
    return FIELDS[field]


def english_value(field: str, word: str) -> str | None:
    """The code word of a Dutch one, or None if `field` has no such word."""
    return next((code for code, nl in VALUES[field].items() if nl == word), None)


def dutch_value(field: str, code: str) -> str:
    return VALUES[field][code]
