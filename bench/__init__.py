"""Benchmarks: ratios against a named baseline, variants interleaved in one run, medians."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """`rates`: operations per second of each round; the ratio compares medians of one run."""

    name: str
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question, its baseline first."""

    question: str
    figures: tuple[Figure, ...]

    def lines(self) -> list[str]:
        base = self.figures[0].median
        return [self.question] + [
            f"  {f.name:<44} {f.median:>10,.0f}/s   x{f.median / base:.2f}"
            f"   ({min(f.rates):,.0f} to {max(f.rates):,.0f})"
            for f in self.figures
        ]


def compare(question: str, variants: Mapping[str, Callable[[], float]], rounds: int) -> Comparison:
    """Run each variant `rounds` times, interleaved; a variant returns operations per second."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            rates[name].append(run())
    return Comparison(question, tuple(Figure(n, tuple(r)) for n, r in rates.items()))
