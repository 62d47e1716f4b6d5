"""Templates: a tree of configuration in which `{path}` stands for a value of the event. Pure.

    "{parts.0.new_address.postcode}"   the value itself, with its type
    "{parts.0.contact.name?}"          null where the value is missing or null
    "Verhuizing {envelope.reference}"  text around it; the value as text ("" for a `?` without one)
    "{{"  "}}"                         a brace
    {"$each": "parts.1:", "$item": T}  a list: T once per element, which T calls `item`
    {"$value": "{path}", "$map": {..}} the value, translated by the table

Paths start at `envelope`, `parts` or, inside `$item`, `item`; steps are names and numbers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from hub.connector import Deliverable, MappingError

Scope = Mapping[str, Any]
Render = Callable[[Scope], Any]

_TOKEN: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_STEP: Final = r"(?:[A-Za-z_][A-Za-z0-9_]*|\d+)"
_PATH: Final = re.compile(rf"(envelope|parts|item)((?:\.{_STEP})*)(\?)?")
_LIST_PATH: Final = re.compile(rf"(envelope|parts|item)((?:\.{_STEP})*?)(?:\.(\d+):)?")
_MISSING: Final = object()


def scope_of(event: Deliverable) -> Scope:
    """What paths can reach. The sealed parts of the envelope are left out: they are opened."""
    envelope: dict[str, Any] = {}
    for entry in fields(event.envelope):
        if entry.name != "parts":
            envelope[entry.name] = getattr(event.envelope, entry.name)
    envelope["authentication"] = asdict(event.envelope.authentication)
    envelope["payment"] = asdict(event.envelope.payment)
    envelope["attachments"] = [asdict(each) for each in event.envelope.attachments]
    return {"envelope": envelope, "parts": event.parts}


def compile_tree(template: Any, where: str = "body", in_list: bool = False) -> Render:
    """The renderer of a whole tree. ValueError names the place of what cannot be understood."""
    if isinstance(template, str):
        return compile_value(template, where, in_list)
    if isinstance(template, Mapping):
        return _compile_table(template, where, in_list)
    if isinstance(template, Sequence):
        renders = [compile_tree(t, f"{where}.{i}", in_list) for i, t in enumerate(template)]
        return lambda scope: [render(scope) for render in renders]
    constant = plain(template, where)
    return lambda _: constant


def compile_value(template: str, where: str, in_list: bool = False) -> Render:
    """A string: one placeholder and nothing else keeps its type, everything else is text."""
    pieces = _pieces(template, where, in_list)
    if len(pieces) == 1 and not isinstance(pieces[0], str):
        only = pieces[0]
        return lambda scope: plain(only(scope), where)
    return _joined(pieces, where, str)


def compile_text(template: str, where: str, in_url: bool = False) -> Render:
    """Text for a header or, percent-encoded so that no value adds a path or a query, a URL."""
    return _joined(_pieces(template, where, False), where, _url_value if in_url else str)


def compile_list(path: str, where: str) -> Render:
    """The list that `$each` names, whole or from an element on: `parts.1:`."""
    match = _LIST_PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"{where}: not a path to a list: {path!r}, write for example parts.1:")
    root, steps, start = match[1], _steps(match[2]), int(match[3] or 0)

    def render(scope: Scope) -> Sequence[Any]:
        found = _walk(scope, root, steps)
        if found is _MISSING or found is None:
            return ()
        if isinstance(found, str | bytes) or not isinstance(found, Sequence):
            raise MappingError(f"{where}: {path} is not a list")
        return found[start:]

    return render


def plain(value: Any, where: str) -> Any:
    """`value` as JSON knows it. Dates become ISO 8601, decimals text (no digit may change)."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner, where) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(inner, where) for inner in value]
    raise MappingError(f"{where}: a value of type {type(value).__name__} has no JSON form")


def _compile_table(template: Mapping[str, Any], where: str, in_list: bool) -> Render:
    names = set(template)
    if names == {"$each", "$item"}:
        elements = compile_list(str(template["$each"]), where)
        item = compile_tree(template["$item"], f"{where}.$item", in_list=True)
        return lambda scope: [item({**scope, "item": each}) for each in elements(scope)]
    if names == {"$value", "$map"} and isinstance(template["$map"], Mapping):
        return _compile_map(str(template["$value"]), template["$map"], where, in_list)
    if any(name.startswith("$") for name in names):
        raise ValueError(f"{where}: $each goes with $item, $value with a table $map")
    renders = {name: compile_tree(t, f"{where}.{name}", in_list) for name, t in template.items()}
    return lambda scope: {name: render(scope) for name, render in renders.items()}


def _compile_map(value: str, table: Mapping[str, Any], where: str, in_list: bool) -> Render:
    source = compile_value(value, where, in_list)
    known = {str(key): plain(entry, where) for key, entry in table.items()}

    def render(scope: Scope) -> Any:
        found = source(scope)
        if found is None:
            return None
        # The value is not named: it may be personal.
        if (key := _text(found, where)) not in known:
            raise MappingError(f"{where}: a value that is not in its $map; add it there")
        return known[key]

    return render


def _joined(pieces: list[str | Render], where: str, encode: Callable[[str], str]) -> Render:
    def render(scope: Scope) -> str:
        return "".join(
            piece if isinstance(piece, str) else encode(_text(piece(scope), where))
            for piece in pieces
        )

    return render


def _pieces(template: str, where: str, in_list: bool) -> list[str | Render]:
    """Literal text and placeholders of `template`, in order."""
    pieces: list[str | Render] = []
    at = 0
    for token in _TOKEN.finditer(template):
        pieces.append(template[at : token.start()])
        at = token.end()
        if token[0] in {"{{", "}}"}:
            pieces.append(token[0][0])
        elif token[1] is None:
            raise ValueError(f"{where}: a single {token[0]!r}; write it twice to mean the brace")
        else:
            pieces.append(_placeholder(token[1], where, in_list))
    pieces.append(template[at:])
    return [piece for piece in pieces if piece != ""] or [""]


def _placeholder(text: str, where: str, in_list: bool) -> Render:
    match = _PATH.fullmatch(text)
    if match is None or (match[1] == "item" and not in_list):
        raise ValueError(
            f"{where}: no such path {{{text}}}; paths start at envelope. or parts., "
            "and at item. inside $item"
        )
    root, steps, optional = match[1], _steps(match[2]), match[3] is not None

    def render(scope: Scope) -> Any:
        found = _walk(scope, root, steps)
        if found is _MISSING or found is None:
            if optional:
                return None
            raise MappingError(f"{where}: {text} is missing; write {{{text}?}} if it may be")
        return found

    return render


def _steps(dotted: str) -> tuple[str, ...]:
    return tuple(dotted.split(".")[1:])


def _walk(scope: Scope, root: str, steps: tuple[str, ...]) -> Any:
    found: Any = scope.get(root, _MISSING)
    for step in steps:
        if isinstance(found, Mapping):
            found = found.get(step, _MISSING)
        elif isinstance(found, Sequence) and not isinstance(found, str | bytes):
            place = int(step) if step.isdigit() else len(found)
            found = found[place] if place < len(found) else _MISSING
        else:
            return _MISSING
    return found


def _text(value: Any, where: str) -> str:
    value = plain(value, where)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        raise MappingError(f"{where}: a whole record or list cannot stand inside text")
    return str(value)


def _url_value(value: str) -> str:
    # `/cases/` with nothing behind it is another resource: the whole collection.
    if not value:
        raise MappingError("url: an empty value cannot stand in a URL")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise MappingError("url: a value that is not valid Unicode text") from None
