"""What a person sees: the stream per municipality, the counters, the last line."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hub.demo.journal import APPLIED, REJECTED, Arrival, Decision
from hub.demo.loader import Accepted
from hub.demo.people import Place
from hub.demo.verdict import Seen, Verdict

_MUST_BE_ZERO = ("lost", "twice", "inversions")


@dataclass(frozen=True, slots=True)
class Row:
    """One municipality's stream: counts."""

    name: str
    accepted: int
    applied: int
    rejected: int
    parked: int
    repeats: int

    @property
    def under_way(self) -> int:
        return max(0, self.accepted - self.applied - self.rejected - self.parked)


def rows(
    places: Sequence[Place],
    accepted: Sequence[Accepted],
    decisions: Mapping[str, Sequence[Decision]],
    arrivals: Mapping[str, Sequence[Arrival]],
    statuses: Mapping[str, Seen],
) -> list[Row]:
    """A row per municipality, in the order of `places`; effects count once per reference."""
    posted = Counter(one.handler for one in accepted)
    parked = Counter(one.handler for one in accepted if statuses.get(one.reference) is Seen.PARKED)
    found = []
    for place in places:
        made, came = decisions.get(place.code, ()), arrivals.get(place.code, ())
        found.append(
            Row(
                name=f"{place.name} {place.code}",
                accepted=posted[place.code],
                applied=len({d.reference for d in made if d.verdict == APPLIED}),
                rejected=len({d.reference for d in made if d.verdict == REJECTED}),
                parked=parked[place.code],
                repeats=len(came) - len({(a.destination, a.reference) for a in came}),
            )
        )
    return found


def stream_table(found: Sequence[Row]) -> Table:
    """The stream per municipality."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("Municipality", no_wrap=True)
    for title in ("Accepted", "Applied", "Rejected", "Parked", "Open", "Repeats"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in found:
        numbers = (row.accepted, row.applied, row.rejected, row.parked, row.under_way, row.repeats)
        table.add_row(row.name, *(str(number or "") for number in numbers))
    return table


def counters(verdict: Verdict) -> Text:
    """What must stand at zero, in green as long as it does."""
    text = Text()
    for name in _MUST_BE_ZERO:
        count = verdict.counts[name]
        text.append(f" {name} {count} ", style="bold white on red" if count else "bold green")
        text.append("  ")
    return text


def summary(found: Sequence[Row], verdict: Verdict) -> RenderableType:
    """The end of a run: streams, counts, and in words what is not as it must be."""
    counts = "  ".join(f"{name} {count}" for name, count in verdict.counts.items())
    lines: list[RenderableType] = [
        stream_table(found),
        counters(verdict),
        Text(f"{counts}  repeats {verdict.repeats}"),
    ]
    wrong = [f"not as it must be: {problem}" for problem in verdict.problems]
    wrong += [f"{name}: {', '.join(found)}" for name, found in verdict.offenders.items()]
    lines += [Text(line, style="red") for line in wrong]
    return Group(*lines)


def live_view(
    found: Sequence[Row], verdict: Verdict, news: Sequence[str], keys: str
) -> RenderableType:
    """The live screen: streams, counters, the latest news, which keys do what."""
    latest = Text("\n".join(news[-6:]), style="dim")
    return Group(
        stream_table(found),
        counters(verdict),
        latest,
        Panel(Text(keys), title="keys", expand=False),
    )


def last_line(verdict: Verdict) -> str:
    """The one JSON object that ends the output."""
    return json.dumps(verdict.as_json())
