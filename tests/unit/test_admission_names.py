"""One table of names: each side of it is used, and by both."""

import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from hub.admission import names
from hub.admission.requests import MODELS, Address
from hub.contract.library import default_folder
from hub.event import SERVICES

BODIES = (
    "relocation/relocation_reported.v1.avsc",
    "relocation/co_mover.v1.avsc",
    "public_space_report/public_space_report_submitted.v1.avsc",
)
# What stands in the envelope, or only groups fields of the JSON.
NOT_IN_A_BODY = {
    "service", "municipality_code", "authentication", "attachments", "means", "level", "ref",
    "media_type", "size", "sha256", "content", "co_movers", "category", "point",
}  # fmt: skip
# The JSON says `aanvrager` for both; the body of a report calls that person what it is.
OTHER_WORD = {"reporter": "applicant"}


def models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for info in kind.model_fields.values():
            yield from models(info.annotation)
    elif get_origin(kind) is not None:
        for inner in get_args(kind):
            yield from models(inner)


def model_fields() -> set[str]:
    found = {model for service in MODELS.values() for model in models(service)}
    assert Address in found, "the search misses nested models"
    return {name for model in found for name in model.model_fields}


def schema_fields(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from schema_fields(branch)
    elif isinstance(schema, dict) and schema.get("type") == "record":
        for field in schema["fields"]:
            yield field["name"], field["type"]
            yield from schema_fields(field["type"])


def body_fields() -> dict[str, Any]:
    read = (json.loads((default_folder() / name).read_text()) for name in BODIES)
    return {name: kind for schema in read for name, kind in schema_fields(schema)}


def test_every_line_of_the_table_is_a_field_of_a_model() -> None:
    assert model_fields() == set(names.FIELDS)


def test_every_field_of_a_body_has_a_dutch_name() -> None:
    english = {OTHER_WORD.get(name, name) for name in body_fields()}
    assert english == set(names.FIELDS) - NOT_IN_A_BODY


def test_words_of_a_choice_are_those_of_the_schema() -> None:
    kinds = body_fields()
    for field in ("residence_kind", "relation"):
        # `unknown` is never written: it is what an older reader sees of a newer word.
        assert set(kinds[field]["symbols"]) - {"unknown"} == set(names.VALUES[field])
    assert set(names.VALUES["service"]) == set(SERVICES) == set(MODELS)


def test_words_lead_back() -> None:
    for field, words in names.VALUES.items():
        assert len(set(words.values())) == len(words)
        for code, word in words.items():
            assert names.english_value(field, word) == code
            assert names.dutch_value(field, code) == word
    assert names.english_value("relation", "oom") is None
