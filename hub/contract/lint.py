"""Reads the text of a schema, and says everything that is wrong with it.

Safe on hostile text: size and nesting are looked at before anything parses it, because a deep one
kills fastavro's parser, and a recursive type or an item of zero bytes lets a message of five bytes
kill a process. A schema that this file refuses is never given to fastavro.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from hub.contract.model import NO_DEFAULT, Array, Enum, Field, Optional, Plain, Record, Type

SIZE_CAP_BYTES: Final = 64 * 1024
DEPTH_CAP: Final = 16
PII_KINDS: Final = (
    "bsn", "kvk", "name", "birth_date", "address", "location", "email", "phone", "free_text",
    "family", "circumstance",
)  # fmt: skip
NOT_PERSONAL: Final = "none"
CLEAR_NAMESPACE: Final = "nl.midoffice"
"""Records of this very namespace travel unsealed, so they hold nothing personal."""

_PRIMITIVES = frozenset(["boolean", "int", "long", "double", "string", "bytes"])
_LOGICAL = {
    "date": "int",
    "timestamp-millis": "long",
    "timestamp-micros": "long",
    "decimal": "bytes",
}
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TYPE_NAME = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){0,7}")
_DUTCH_TERM = re.compile(r"\bNL: [^.]{2,80}\.$")
_NAMED = re.compile(r'"name"\s*:\s*"([^"\\]*)"')
_SOUNDS_PERSONAL = re.compile(
    r"(^|_)(bsn|kvk|rsin|iban|names?|naam|initials|voorletters|e?mail|mobile|born|zip|house|adres|"
    r"text|remarks?|comments?|notes?|relation|spouse|passport)(_|$)"
    r"|burgerservice|(first|last|full|sur)_?name|(achter|voor)naam|email|phone|telefoon|address|"
    r"birth|geboorte|straat|street|post_?code|zip_?code|huisnummer|latitude|longitude|"
    r"description|toelichting|omschrijving|free_?text"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason for refusal. `path` leads to the field; `line` counts from 1."""

    line: int
    path: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path + ': ' if self.path else ''}{self.text}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Reading:
    """`record` is None exactly if there are problems."""

    record: Record | None
    problems: tuple[Problem, ...]


class _RefusedError(Exception):
    def __init__(self, path: str, text: str, remedy: str) -> None:
        super().__init__(text)
        self.path, self.text, self.remedy = path, text, remedy


def read(text: bytes) -> Reading:
    """The schema in `text`. Never raises, whatever the bytes."""
    try:
        document = _document(text)
    except _RefusedError as bad:
        return Reading(None, (Problem(1, bad.path, bad.text, bad.remedy),))
    reader = _Reader(text.decode())
    record = reader.top(document)
    return Reading(None if reader.problems else record, tuple(reader.problems))


def _document(text: bytes) -> Any:
    if len(text) > SIZE_CAP_BYTES:
        raise _RefusedError("", f"more than {SIZE_CAP_BYTES} bytes", "split the schema")
    if _nesting(text) > DEPTH_CAP:
        raise _RefusedError(
            "", f"brackets nested deeper than {DEPTH_CAP}", "name the inner types and refer to them"
        )
    try:
        return json.loads(text.decode(), object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except ValueError as bad:
        kind = type(bad).__name__
        raise _RefusedError("", f"not JSON ({kind})", "write strict JSON in UTF-8") from None


def _nesting(text: bytes) -> int:
    """Deepest nesting of brackets outside strings: a loop, so that depth costs no stack."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in text:
        if in_string:
            in_string = escaped or byte != 0x22
            escaped = not escaped and byte == 0x5C
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


class _Reader:
    """One pass in document order. A name may be used only once it is complete: no recursion."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._clear = False
        self._lines: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            for match in _NAMED.finditer(line):
                self._lines.setdefault(match[1], number)
        self._known: dict[str, tuple[Type, int]] = {}
        self._open: set[str] = set()

    def top(self, document: Any) -> Record | None:
        if not isinstance(document, dict) or document.get("type") != "record":
            self._problem("", "the outermost type is not a record", "wrap it in a record")
            return None
        self._clear = document.get("namespace") == CLEAR_NAMESPACE
        try:
            found, _ = self._type(document, "", "", 1)
        except _RefusedError as bad:
            self._problem(bad.path, bad.text, bad.remedy)
            return None
        return found if isinstance(found, Record) else None

    def _problem(self, path: str, text: str, remedy: str) -> None:
        """The line is that of the first field or type of this name: near enough to find it."""
        line = self._lines.get(path.rsplit(".", 1)[-1], 1)
        self.problems.append(Problem(line, path, text, remedy))

    def _type(self, schema: Any, namespace: str, path: str, depth: int) -> tuple[Type, int]:
        """The type and how deep it nests, counted through names too."""
        if depth > DEPTH_CAP:
            raise _RefusedError(path, f"types nest deeper than {DEPTH_CAP}", "flatten the schema")
        if isinstance(schema, str):
            found = self._word(schema, namespace, path)
        elif isinstance(schema, list):
            found = self._union(schema, namespace, path, depth)
        elif isinstance(schema, dict):
            found = self._complex(schema, namespace, path, depth)
        else:
            raise _RefusedError(path, "not a type", "write a type's name or definition")
        if depth + found[1] - 1 > DEPTH_CAP:
            raise _RefusedError(path, f"types nest deeper than {DEPTH_CAP}", "flatten the schema")
        return found

    def _word(self, word: str, namespace: str, path: str) -> tuple[Type, int]:
        if word in _PRIMITIVES:
            return Plain(word), 1
        if word == "null":
            raise _RefusedError(path, "null outside an optional takes no byte", "remove it")
        full = word if "." in word else f"{namespace}.{word}"
        if full in self._open:
            raise _RefusedError(path, "the type contains itself", "flatten it: no recursive types")
        if full not in self._known:
            raise _RefusedError(path, "unknown type", "define it before it is used, in this file")
        return self._known[full]

    def _union(
        self, branches: list[Any], namespace: str, path: str, depth: int
    ) -> tuple[Type, int]:
        if len(branches) != 2 or branches[0] != "null" or isinstance(branches[1], list):
            raise _RefusedError(path, "a union other than [null, X]", "use a record of optionals")
        of, deep = self._type(branches[1], namespace, path, depth + 1)
        return Optional(of), deep + 1

    def _complex(
        self, schema: dict[str, Any], namespace: str, path: str, depth: int
    ) -> tuple[Type, int]:
        kind = schema.get("type")
        if "aliases" in schema:
            raise _RefusedError(path, "aliases", "a new name is a new field; keep the old one")
        if kind == "record":
            return self._record(schema, namespace, path, depth)
        if kind == "enum":
            return self._enum(schema, namespace, path), 1
        if kind == "array":
            items, deep = self._type(schema.get("items"), namespace, path, depth + 1)
            return Array(items), deep + 1
        if isinstance(kind, str) and kind in _PRIMITIVES:
            return _plain(schema, kind, path), 1
        if kind == "map":
            raise _RefusedError(path, "a map: its keys escape the tags", "use an array of records")
        raise _RefusedError(path, "not a kind of type that we use", "see schemas/README.md")

    def _declare(self, schema: dict[str, Any], namespace: str, path: str) -> tuple[str, str]:
        """Full name and namespace of a named type; it counts as open until it is complete."""
        name = schema.get("name")
        inner = schema.get("namespace", namespace)
        if not isinstance(name, str) or not _TYPE_NAME.fullmatch(name):
            raise _RefusedError(path, "a type without a usable name", "give it a name like Address")
        if not isinstance(inner, str) or not _NAMESPACE.fullmatch(inner):
            raise _RefusedError(
                path, "no usable namespace", "give one like nl.midoffice.relocation"
            )
        full = f"{inner}.{name}"
        if full in self._open or full in self._known:
            raise _RefusedError(path, "a type is defined twice", "refer to it by its name")
        self._documented(schema, path or name)
        return full, inner

    def _record(
        self, schema: dict[str, Any], namespace: str, path: str, depth: int
    ) -> tuple[Type, int]:
        full, inner = self._declare(schema, namespace, path)
        fields = schema.get("fields")
        if not isinstance(fields, list) or not fields:
            raise _RefusedError(path, "a record without fields takes no byte", "give it a field")
        self._open.add(full)
        found, deep, seen = [], 1, set[str]()
        for field in fields:
            if not isinstance(field, dict) or not isinstance(field.get("name"), str):
                raise _RefusedError(path, "a field without a name", "name it")
            name = field["name"]
            if not _FIELD_NAME.fullmatch(name) or name in seen:
                raise _RefusedError(
                    path, "a field's name stands twice or is no snake_case", "rename it"
                )
            seen.add(name)
            read_field, below = self._field(field, inner, f"{path}.{name}".lstrip("."), depth)
            found.append(read_field)
            deep = max(deep, below + 1)
        self._open.discard(full)
        record = Record(full, tuple(found))
        self._known[full] = record, deep
        return record, deep

    def _field(
        self, field: dict[str, Any], namespace: str, path: str, depth: int
    ) -> tuple[Field, int]:
        if "aliases" in field:
            raise _RefusedError(path, "aliases", "a new name is a new field; keep the old one")
        self._documented(field, path)
        found, below = self._type(field.get("type"), namespace, path, depth + 1)
        default = field.get("default", NO_DEFAULT)
        if default is not NO_DEFAULT and not _fits(default, found):
            self._problem(path, "the default does not fit the type", "see schemas/README.md")
        pii = self._pii(field, found, path)
        return Field(field["name"], found, default, pii), below

    def _enum(self, schema: dict[str, Any], namespace: str, path: str) -> Enum:
        full, _ = self._declare(schema, namespace, path)
        symbols, default = schema.get("symbols"), schema.get("default")
        if (
            not isinstance(symbols, list)
            or not symbols
            or len(set(map(str, symbols))) < len(symbols)
        ):
            raise _RefusedError(path, "an enum without symbols, or with one twice", "list them")
        if not all(isinstance(s, str) and _FIELD_NAME.fullmatch(s) for s in symbols):
            raise _RefusedError(path, "a symbol is no snake_case word", "write it like in_doubt")
        if "default" in schema and default not in symbols:
            raise _RefusedError(path, "the enum's default is not a symbol", "choose one of them")
        enum = Enum(full, tuple(symbols), default)
        self._known[full] = enum, 1
        return enum

    def _documented(self, schema: dict[str, Any], path: str) -> None:
        doc = schema.get("doc")
        if not isinstance(doc, str) or not _DUTCH_TERM.search(doc):
            self._problem(
                path, "no doc that ends in its Dutch term", 'end the doc in "NL: <term>."'
            )

    def _pii(self, field: dict[str, Any], found: Type, path: str) -> str | None:
        if "hub.pii" not in field:
            if _sounds_personal(field["name"]) and _is_leaf(found):
                self._problem(
                    path,
                    "sounds personal and has no hub.pii",
                    'tag it, or say "hub.pii": "none" if it never is',
                )
            return None
        kind = field["hub.pii"]
        if kind == NOT_PERSONAL:
            return None
        if not isinstance(kind, str) or kind not in PII_KINDS:
            self._problem(path, "unknown kind of hub.pii", f"choose of {', '.join(PII_KINDS)}")
            return None
        if self._clear:
            self._problem(path, "personal data in a record that is not sealed", "move it to a part")
        return kind


def _plain(schema: dict[str, Any], kind: str, path: str) -> Plain:
    logical = schema.get("logicalType")
    if logical is None:
        return Plain(kind)
    if not isinstance(logical, str) or _LOGICAL.get(logical) != kind:
        raise _RefusedError(path, "a logical type that we do not use", "see schemas/README.md")
    if logical != "decimal":
        return Plain(kind, logical)
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision <= 38:
        raise _RefusedError(path, "a decimal without usable precision and scale", "give both")
    return Plain(kind, logical, precision, scale)


def _fits(default: Any, of: Type) -> bool:
    """Whether `default`, as JSON, is one: null, a word, a number, true or false, or []."""
    if isinstance(of, Optional):
        return default is None
    if isinstance(of, Enum):
        return default in of.symbols
    if isinstance(of, Array):
        return bool(default == [])
    if isinstance(of, Record) or of.name == "bytes":
        return False
    wanted = {"boolean": bool, "string": str, "double": float}.get(of.name, int)
    return type(default) is wanted


def _is_leaf(of: Type) -> bool:
    inner = of.of if isinstance(of, Optional) else of
    inner = inner.items if isinstance(inner, Array) else inner
    return not isinstance(inner, Record)


def _sounds_personal(name: str) -> bool:
    return _SOUNDS_PERSONAL.search(name) is not None
