"""Whether a `hub ...` that is written down somewhere can be typed."""

from typing import Any

import typer.main

from hub.cli import main_app


def fault(words: list[str]) -> str | None:
    """Why `hub <words>` cannot be typed; None if it can."""
    command: Any = typer.main.get_command(main_app)
    rest = list(words)
    while rest and hasattr(command, "commands"):
        if rest[0] not in command.commands:
            return f"no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    options = {opt: p for p in command.params for opt in (*p.opts, *p.secondary_opts)}
    places = sum(p.param_type_name == "argument" for p in command.params)
    given = 0
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            given += 1
        elif word not in {*options, "--help"}:
            return f"no option {word}"
        elif word != "--help" and not options[word].is_flag:
            if not rest:
                return f"{word} wants a value"
            rest.pop(0)
    return f"{given} arguments, it takes {places}" if given > places else None
