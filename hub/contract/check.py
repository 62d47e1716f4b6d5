"""`python -m hub.contract.check [folder]`: everything wrong with the schemas, or nothing."""

import subprocess
import sys
from pathlib import Path

from hub.contract.compatibility import conflicts
from hub.contract.library import (
    LOCK_NAME,
    Fault,
    Library,
    SchemaFile,
    default_folder,
    library_faults,
    read_library,
)
from hub.errors import ConfigError


def check(schemas: Path | None = None) -> list[str]:
    """`file:line: what; remedy` for every fault: lint, ids, names, versions, compatibility."""
    folder = schemas or default_folder()
    try:
        library = read_library(folder)
    except ConfigError as bad:
        return [str(bad)]
    faults = [
        *library_faults(library, folder),
        *_conflicts(library),
        *_rewritten(library, folder),
    ]
    return [str(fault) for fault in faults]


def _conflicts(library: Library) -> list[Fault]:
    families: dict[str, list[SchemaFile]] = {}
    for file in sorted(library.files, key=lambda file: file.version):
        families.setdefault(file.family, []).append(file)
    return [
        Fault(files[-1].path, 1, text, "undo it, or add a field or an event type instead")
        for files in families.values()
        for text in conflicts([file.record for file in files])
    ]


def _released_lock(folder: Path) -> str:
    """The lock file as it stood in the last release (tag v*); empty where git knows none."""
    try:
        tag = _git(folder, "describe", "--tags", "--abbrev=0", "--match", "v*").strip()
        return _git(folder, "show", f"{tag}:./{LOCK_NAME}")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words],  # noqa: S607 - the git of whoever runs the check
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _rewritten(library: Library, folder: Path) -> list[Fault]:
    """Released ids are for ever: records written with them lie in logs that are kept for years."""
    now = {f"{line.mark} = {line.id}" for line in library.lines}
    released = (raw.split("#")[0].strip() for raw in _released_lock(folder).splitlines())
    return [
        Fault(
            folder / LOCK_NAME,
            1,
            f"the released line `{line}` is gone",
            "restore it; append, never edit",
        )
        for line in released
        if line and line not in now
    ]


def main() -> int:
    """Print the faults; 1 if there are any."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    faults = check(folder)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
