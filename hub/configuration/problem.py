"""What is wrong with the configuration, where, and what to do about it."""

import re
import tomllib
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hub.configuration.locate import Lines

_AT_LINE = re.compile(r"\(at line (\d+)")


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing to repair. `line` counts from 1. Never quotes a value that may be a secret."""

    file: Path
    line: int
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Source:
    """A TOML file that could be read."""

    file: Path
    text: str
    data: dict[str, Any]
    lines: Lines

    def problem(self, path: Sequence[str | int], text: str, remedy: str) -> ConfigProblem:
        return ConfigProblem(self.file, self.lines.of(path), text, remedy)

    def invalid(
        self, model: type[BaseModel], error: ValidationError, under: Sequence[str | int] = ()
    ) -> list[ConfigProblem]:
        """What pydantic found, when `model` was read from the table at `under`."""
        return [
            self.problem((*under, *detail["loc"]), *_words(model, detail))
            for detail in error.errors(include_input=False, include_url=False)
        ]


def read(file: Path) -> Source | ConfigProblem:
    try:
        text = file.read_bytes().decode("utf-8")
        return Source(file, text, tomllib.loads(text), Lines(text))
    except OSError as error:
        return ConfigProblem(file, 1, f"cannot be read: {error.strerror}", "make it readable")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return ConfigProblem(file, line, "not UTF-8", "save the file as UTF-8")
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        line = int(at[1]) if at else max(1, len(text.splitlines()))
        return ConfigProblem(file, line, f"not TOML: {error}", "repair the syntax of this line")


def nearest(given: str, known: Iterable[str]) -> str | None:
    """What `given` was perhaps meant to be."""
    close = get_close_matches(given, sorted(known), n=1)
    return close[0] if close else None


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A remedy: the nearest of `known`, else all of them."""
    names = sorted(known)
    if close := nearest(given, names):
        return f"did you mean {close!r}?"
    return f"choose one of: {', '.join(names)}" if names else "none is known here"


def _words(model: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    """Text and remedy of one finding of pydantic."""
    *around, last = detail["loc"] or ("",)
    kind = detail["type"]
    if kind == "extra_forbidden":
        return f"unknown key {last!r}", did_you_mean(str(last), _keys_at(model, around))
    if kind == "missing":
        return f"key {last!r} is missing", f"add {last} = ..."
    dotted = ".".join(str(part) for part in detail["loc"])
    text = f"{dotted}: {detail['msg']}" if dotted else detail["msg"]
    if kind in {"timezone_aware", "datetime_type"}:
        return text, "write a date-time with its offset, such as 2026-01-01T00:00:00+01:00"
    return text, "correct the value"


def _keys_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Names of the keys that the table at `path` may have, over all members of a union."""
    here = [model]
    for part in path:
        fields = [found.model_fields[part] for found in here if part in found.model_fields]
        # Neither a place in a list nor the tag of a union is a field.
        here = [inner for field in fields for inner in _models_in(field.annotation)] or here
    return [field.alias or name for found in here for name, field in found.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation such as `list[Row]` or `Auth | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in _models_in(part)]
