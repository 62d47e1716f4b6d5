"""The state diagrams of README.md, drawn from the tables: `python -m hub.delivery.diagrams`."""

from pathlib import Path
from typing import Final

from hub.delivery.states import TABLES

README: Final = Path(__file__).with_name("README.md")
BEGIN: Final = "<!-- diagrams: python -m hub.delivery.diagrams -->\n"
END: Final = "<!-- end of diagrams -->\n"


def diagram(name: str) -> str:
    """One table as mermaid: state, event, and after the slash what is done."""
    table = TABLES[name]
    first = next(iter(table))[0]
    lines = [f"### {name}\n", "```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [
        f"    {state} --> {after}: {event}" + (f" / {', '.join(does)}" if does else "")
        for (state, event), (after, does) in table.items()
    ]
    return "\n".join([*lines, "```\n"])


def with_diagrams(readme: str) -> str:
    """`readme` with what stands between the marks drawn anew."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + "\n" + "\n".join(diagram(name) for name in TABLES) + "\n" + END + tail


if __name__ == "__main__":
    README.write_text(with_diagrams(README.read_text()))
