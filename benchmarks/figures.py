"""A table of figures: what was measured, its goal, and its ratio to the raw cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row.

    Attributes:
        what: What was measured.
        value: How much it was.
        unit: In which unit.
        goal: It is met at this value and below; infinite where there is none.
        raw: What it is compared with, in the same unit; 0 for nothing.
        note: What the raw cost is, or how it was measured.
    """

    what: str
    value: float
    unit: str
    goal: float = math.inf
    raw: float = 0.0
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.value <= self.goal

    def __str__(self) -> str:
        goal = f"{self.goal:g} {self.unit}" if self.goal < math.inf else "-"
        ratio = f"{self.value / self.raw:.2f}" if self.raw else "-"
        met = "-" if self.goal == math.inf else "yes" if self.met else "NO"
        value = f"{self.value:.4g} {self.unit}"
        raw = f"{self.raw:.4g} {self.unit}" if self.raw else "-"
        return f"{self.what:48}{value:>12}{goal:>11}{met:>5}{raw:>12}{ratio:>8}  {self.note}"


def print_figures(title: str, figures: Iterable[Figure]) -> None:
    """Print a table."""
    print(f"\n{title}")
    print(f"{'':48}{'figure':>12}{'goal':>11}{'met':>5}{'raw':>12}{'ratio':>8}  raw is")
    for figure in figures:
        print(figure, flush=True)
