"""Whether two versions of a schema can read each other's records, in both directions.

Avro's FULL_TRANSITIVE, by looking at every pair of versions, and stricter where Avro lets a value
change its meaning: no promotion (int to long), no other scale or time unit, no tag taken away.
Strict costs a new field now and then; lenient costs wrong data in a log that is kept for years.
"""

from itertools import combinations

from hub.contract.model import NO_DEFAULT, Array, Enum, Field, Optional, Plain, Record, Type


def conflicts(versions: list[Record]) -> list[str]:
    """What keeps `versions` (oldest first) of one family apart; empty if all read each other."""
    found = []
    for (i, old), (j, new) in combinations(enumerate(versions, 1), 2):
        found += [f"v{i} to v{j}: {text}" for text in _pair(old, new, old.name)]
    return found


def _pair(old: Type, new: Type, path: str) -> list[str]:
    if isinstance(old, Record) and isinstance(new, Record):
        return _renamed(old, new, path) or _records(old, new, path)
    if isinstance(old, Enum) and isinstance(new, Enum):
        return _renamed(old, new, path) or _enums(old, new, path)
    if isinstance(old, Array) and isinstance(new, Array):
        return _pair(old.items, new.items, f"{path}[]")
    if isinstance(old, Optional) and isinstance(new, Optional):
        return _pair(old.of, new.of, path)
    if isinstance(old, Plain) and isinstance(new, Plain):
        return _plains(old, new, path)
    return [f"{path}: {_kind(old)} became {_kind(new)}"]


def _renamed(old: Record | Enum, new: Record | Enum, path: str) -> list[str]:
    return [] if old.name == new.name else [f"{path}: type {old.name} became {new.name}"]


def _records(old: Record, new: Record, path: str) -> list[str]:
    before = {field.name: field for field in old.fields}
    after = {field.name: field for field in new.fields}
    found = []
    for name, field in before.items():
        if name in after:
            found += _fields(field, after[name], f"{path}.{name}")
        elif field.default is NO_DEFAULT:
            found.append(f"{path}.{name}: removed, and the older version has no default for it")
    found += [
        f"{path}.{name}: added without a default"
        for name, field in after.items()
        if name not in before and field.default is NO_DEFAULT
    ]
    return found


def _fields(old: Field, new: Field, path: str) -> list[str]:
    found = _pair(old.type, new.type, path)
    if old.pii is not None and new.pii != old.pii:
        found.append(f"{path}: tag hub.pii {old.pii} became {new.pii or 'none'}")
    return found


def _enums(old: Enum, new: Enum, path: str) -> list[str]:
    found = []
    if set(new.symbols) - set(old.symbols) and old.default is None:
        found.append(f"{path}: a symbol added, and the older version has no default to read it as")
    if set(old.symbols) - set(new.symbols) and new.default is None:
        found.append(f"{path}: a symbol removed, and no default to read it as")
    return found


def _plains(old: Plain, new: Plain, path: str) -> list[str]:
    if old.name != new.name:
        return [f"{path}: {old.name} became {new.name}"]
    if old.logical != new.logical:
        return [f"{path}: {old.logical or 'no unit'} became {new.logical or 'no unit'}"]
    if (old.precision, old.scale) != (new.precision, new.scale):
        became = f"decimal({new.precision}, {new.scale})"
        return [f"{path}: decimal({old.precision}, {old.scale}) became {became}"]
    return []


def _kind(of: Type) -> str:
    return of.name if isinstance(of, Plain) else type(of).__name__.lower()
