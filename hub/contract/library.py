"""Reads `schemas/`: every version of every schema, and the ids that the lock file gives them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hub
from hub.contract.fingerprint import fingerprint
from hub.contract.lint import Problem, read
from hub.contract.model import Record
from hub.errors import ConfigError

LOCK_NAME: Final = "ids.lock"
_FILE = re.compile(r"(?P<family>[a-z][a-z0-9_]*)(\.v(?P<version>[1-9]\d{0,3}))?\.avsc")
_LINE = re.compile(r"(?P<mark>[0-9a-f]{64}) = (?P<id>[1-9]\d{0,8})(\s+#\s*(?P<note>.*))?")


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """One version of a schema. `family` is its path without version: `relocation/co_mover`."""

    path: Path
    family: str
    version: int
    text: bytes
    record: Record
    mark: str

    @property
    def name(self) -> str:
        return self.record.name


@dataclass(frozen=True, slots=True)
class LockLine:
    """`mark` (a fingerprint) has `id` for ever; `note` is for people: name and file."""

    line: int
    mark: str
    id: int
    note: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in `schemas/`, and what to do about it."""

    path: Path
    line: int
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Library:
    """What a folder of schemas holds; unusable as long as `faults` is not empty."""

    files: tuple[SchemaFile, ...]
    lines: tuple[LockLine, ...]
    faults: tuple[Fault, ...]


def default_folder() -> Path:
    """`schemas/` beside the package `hub`, as in a checkout."""
    return Path(hub.__file__).parents[1] / "schemas"


def read_library(folder: Path) -> Library:
    """All of `folder`. Raises ConfigError only if there is nothing to read."""
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: no folder with schemas; run from a checkout (pip install -e .), or give "
            "the folder"
        )
    files: list[SchemaFile] = []
    faults: list[Fault] = []
    for path in sorted(folder.rglob("*.avsc")):
        found = _read_file(path, folder)
        if isinstance(found, SchemaFile):
            files.append(found)
        else:
            faults.extend(found)
    lines, bad_lines = _read_lock(folder / LOCK_NAME)
    faults += bad_lines
    if not files and not faults:
        raise ConfigError(f"{folder}: no schema (*.avsc) in it; restore schemas/ from the checkout")
    return Library(tuple(files), lines, tuple(faults))


def _read_file(path: Path, folder: Path) -> SchemaFile | list[Fault]:
    match = _FILE.fullmatch(path.name)
    if match is None:
        return [Fault(path, 1, "not a schema's file name", "call it <event>.v<N>.avsc")]
    try:
        text = path.read_bytes()
    except OSError as bad:
        return [Fault(path, 1, f"cannot be read ({bad.strerror})", "make it readable")]
    reading = read(text)
    if reading.record is None:
        return [_fault(path, problem) for problem in reading.problems]
    family = (path.parent.relative_to(folder) / match["family"]).as_posix()
    version = int(match["version"] or 1)
    mark = fingerprint(reading.record)
    return SchemaFile(path, family, version, text, reading.record, mark)


def _fault(path: Path, problem: Problem) -> Fault:
    where = f"{problem.path}: " if problem.path else ""
    return Fault(path, problem.line, f"{where}{problem.text}", problem.remedy)


def _read_lock(path: Path) -> tuple[tuple[LockLine, ...], list[Fault]]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        return (), [Fault(path, 1, "cannot be read", "restore it from the checkout")]
    lines: list[LockLine] = []
    faults: list[Fault] = []
    for number, raw in enumerate(text.splitlines(), 1):
        if not raw.strip() or raw.startswith("#"):
            continue
        match = _LINE.fullmatch(raw.rstrip())
        if match is None:
            faults.append(Fault(path, number, "not `<fingerprint> = <id>`", "restore the line"))
            continue
        lines.append(LockLine(number, match["mark"], int(match["id"]), match["note"] or ""))
    return tuple(lines), faults


def library_faults(library: Library, folder: Path) -> list[Fault]:
    """What makes the files and the lock together unusable, beside what each is in itself."""
    lock = folder / LOCK_NAME
    return [
        *library.faults,
        *_order_faults(library.lines, lock),
        *_missing_lines(library, lock),
        *_missing_files(library, lock),
        *_name_faults(library.files),
    ]


def _order_faults(lines: tuple[LockLine, ...], lock: Path) -> list[Fault]:
    faults, marks = [], set[str]()
    for wanted, line in enumerate(lines, 1):
        if line.id != wanted:
            faults.append(
                Fault(
                    lock,
                    line.line,
                    f"id {line.id} where {wanted} is due",
                    "ids count from 1 without a gap: restore the lines, append at the end",
                )
            )
            break
        if line.mark in marks:
            faults.append(Fault(lock, line.line, "a fingerprint twice", "remove the later line"))
        marks.add(line.mark)
    return faults


def _missing_lines(library: Library, lock: Path) -> list[Fault]:
    marks = {line.mark for line in library.lines}
    next_id = max((line.id for line in library.lines), default=0) + 1
    faults = []
    for file in library.files:
        if file.mark in marks:
            continue
        note = f"{file.name} v{file.version}"
        faults.append(
            Fault(
                file.path,
                1,
                f"no line in {LOCK_NAME} for this schema",
                f"if it is new, append to {lock}: `{file.mark} = {next_id}  # {note}`; if it was "
                "released, restore it and write a new version beside it",
            )
        )
        next_id += 1
    return faults


def _missing_files(library: Library, lock: Path) -> list[Fault]:
    marks = {file.mark for file in library.files}
    return [
        Fault(
            lock,
            line.line,
            f"id {line.id} ({line.note or 'no note'}) has no schema file",
            "restore the file as it was: records written with it are still in the log",
        )
        for line in library.lines
        if line.mark not in marks
    ]


def _name_faults(files: tuple[SchemaFile, ...]) -> list[Fault]:
    """One family has one name, one name has one family, versions count from 1."""
    faults: list[Fault] = []
    families: dict[str, list[SchemaFile]] = {}
    names: dict[str, str] = {}
    for file in files:
        families.setdefault(file.family, []).append(file)
        if names.setdefault(file.name, file.family) != file.family:
            faults.append(Fault(file.path, 1, f"{file.name} is another file's", "rename one"))
    for family in families.values():
        family.sort(key=lambda file: file.version)
        if [file.version for file in family] != list(range(1, len(family) + 1)):
            faults.append(
                Fault(family[-1].path, 1, "versions do not count from 1", "number them v1, v2, ...")
            )
        if len({file.mark for file in family}) < len(family):
            faults.append(
                Fault(
                    family[-1].path,
                    1,
                    "equal to an earlier version",
                    "remove it: new docs need no new version",
                )
            )
        if len({file.name for file in family}) > 1:
            faults.append(
                Fault(family[-1].path, 1, "the record's name changed", "versions share one name")
            )
    return faults
