"""Measured values: one for each round."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one subject in one measurement."""

    unit: str
    """Unit of the values. More is better for rates ("messages/s"), less for all others ("ms")."""
    values: list[float] = field(default_factory=list)
    """One value for each round, in order."""

    @property
    def is_more_better(self) -> bool:
        return self.unit.endswith("/s")

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class Results:
    """All series of a run, by measurement and subject."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}

    def add(self, measurement: str, subject: str, unit: str, value: float) -> None:
        """Add the value of one round."""
        self._series.setdefault((measurement, subject), Series(unit)).values.append(value)

    def get(self, measurement: str, subject: str) -> Series | None:
        return self._series.get((measurement, subject))

    def ratio(self, measurement: str, subject: str, other: tuple[str, str]) -> float | None:
        """Return how many times better a subject is than another. None = one of them is missing.

        A ratio is computed for each round, because the state of the machine is the same for both
        within a round. The result is the median of these ratios.

        Args:
            measurement: name of the measurement.
            subject: name of the subject.
            other: measurement and subject to compare with.
        """
        ours, theirs = self.get(measurement, subject), self.get(*other)
        if ours is None or theirs is None:
            return None
        pairs = zip(ours.values, theirs.values, strict=True)
        return statistics.median(a / b if ours.is_more_better else b / a for a, b in pairs)

    def times_sum(self, measurement: str, subject: str, parts: Sequence[str]) -> float | None:
        """Return a subject's value divided by the sum of others' values. None: a value is missing.

        Args:
            measurement: name of the measurement.
            subject: name of the subject.
            parts: names of the others. Each does a part of the work that the subject has to do.
        """
        measured = [self.get(measurement, name) for name in (subject, *parts)]
        if None in measured:
            return None
        rounds = zip(*(series.values for series in measured if series), strict=True)
        return statistics.median(ours / sum(others) for ours, *others in rounds)

    def to_list(self) -> list[dict[str, Any]]:
        """Return all series as JSON values."""
        return [
            {"measurement": measurement, "subject": subject, "median": series.median}
            | asdict(series)
            for (measurement, subject), series in self._series.items()
        ]
