"""The fingerprint of a schema: equal exactly if bytes mean the same and tags say the same.

Beside Avro's canonical form it takes in logical types, defaults and the tags of personal data:
each of them changes what a reader gets. Docs and layout do not count.
"""

import hashlib
import json
from typing import Any

from hub.contract.model import NO_DEFAULT, Array, Enum, Field, Optional, Plain, Record, Type


def fingerprint(record: Record) -> str:
    """SHA-256 of the normal form, lower-case hex."""
    form = json.dumps(_form(record, set()), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(form.encode()).hexdigest()


def _form(of: Type, named: set[str]) -> Any:
    if isinstance(of, Plain):
        return {"type": of.name, "logical": [of.logical, of.precision, of.scale]}
    if isinstance(of, Array):
        return {"type": "array", "items": _form(of.items, named)}
    if isinstance(of, Optional):
        return ["null", _form(of.of, named)]
    if of.name in named:
        return of.name
    named.add(of.name)
    if isinstance(of, Enum):
        return {"type": "enum", "name": of.name, "symbols": of.symbols, "default": of.default}
    return {
        "type": "record",
        "name": of.name,
        "fields": [_field_form(field, named) for field in of.fields],
    }


def _field_form(field: Field, named: set[str]) -> Any:
    form = {"name": field.name, "type": _form(field.type, named), "pii": field.pii}
    return form if field.default is NO_DEFAULT else {**form, "default": field.default}
