"""Plots as SVG, without styles, which the pages' Content-Security-Policy forbids."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from sessiond import AsyncClient, Message

MAX_MESSAGES = 2000
MAX_BYTES = 32 * 1024 * 1024
WIDTH, HEIGHT = 1000.0, 200.0


@dataclass(frozen=True, slots=True)
class Point:
    """The values of a message that the plots show."""

    seq: int
    role: str
    tokens: int
    bytes: int
    time: datetime
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a plot, in the units of its view box."""

    x: float
    y: float
    width: float
    height: float
    point: Point


@dataclass(slots=True)
class Plots:
    """The plots of a session's newest messages, and their sums."""

    points: list[Point]
    bars: list[Bar] = field(default_factory=list)
    """The number of tokens of each message."""
    gaps: list[Bar] = field(default_factory=list)
    """The time between each message and the previous one, on a logarithmic scale."""
    line: str = ""
    """The sum of tokens over time, as points of a polyline."""
    most_tokens: int = 0
    longest_gap: timedelta = timedelta(0)
    roles: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Messages and tokens by role."""

    @property
    def tokens(self) -> int:
        """The tokens of all points."""
        return sum(point.tokens for point in self.points)


async def points_of(api: AsyncClient, session_id: str) -> tuple[list[Point], bool]:
    """Return the points of a session's newest messages, and whether older ones are left out."""
    found: list[Point] = []
    size = 0
    async for message in api.sessions.get_messages(
        session_id, order="desc", limit=MAX_MESSAGES + 1
    ):
        size += message.content_bytes
        if len(found) == MAX_MESSAGES or size > MAX_BYTES:
            return found[::-1], True
        found.append(point_of(message))
    return found[::-1], False


def point_of(message: Message) -> Point:
    """Return the values of a message that the plots show."""
    return Point(
        message.seq,
        message.role,
        message.token_count,
        message.content_bytes,
        message.created_at,
        message.tokens_estimated,
    )


def plots_of(points: list[Point]) -> Plots:
    """Return the plots of points, which are in the order of their seqs."""
    found = Plots(points)
    if not points:
        return found
    step = WIDTH / len(points)
    width = max(0.4, step * 0.85)
    found.most_tokens = max(point.tokens for point in points)
    pauses = [max(later.time - earlier.time, timedelta(0)) for earlier, later in pairwise(points)]
    found.longest_gap = max(pauses, default=timedelta(0))
    for i, point in enumerate(points):
        height = HEIGHT * point.tokens / max(found.most_tokens, 1)
        found.bars.append(_bar(i * step, width, height, point))
        pause = pauses[i - 1] if i else timedelta(0)
        found.gaps.append(_bar(i * step, width, _log_height(pause, found.longest_gap), point))
        messages, tokens = found.roles.get(point.role, (0, 0))
        found.roles[point.role] = (messages + 1, tokens + point.tokens)
    found.line = _line(points, found.tokens)
    return found


def _bar(x: float, width: float, height: float, point: Point) -> Bar:
    return Bar(round(x, 2), round(HEIGHT - height, 2), round(width, 2), round(height, 2), point)


def _log_height(pause: timedelta, longest: timedelta) -> float:
    """Return the height of a pause, on a logarithmic scale that shows both seconds and days."""
    if longest <= timedelta(0):
        return 0.0
    return HEIGHT * _bits(pause) / max(_bits(longest), 1)


def _bits(pause: timedelta) -> int:
    return int(pause.total_seconds() * 1000).bit_length()


def _line(points: list[Point], total: int) -> str:
    begin, end = points[0].time, points[-1].time
    duration = max((end - begin).total_seconds(), 0.001)
    corners: list[str] = []
    tokens = 0
    for i, point in enumerate(points):
        # Messages of one batch have the same time. If all messages do, they are spread evenly.
        passed = (point.time - begin).total_seconds() / duration
        x = WIDTH * (passed if end > begin else (i + 1) / len(points))
        corners.append(f"{x:.1f},{HEIGHT - HEIGHT * tokens / max(total, 1):.1f}")
        tokens += point.tokens
        corners.append(f"{x:.1f},{HEIGHT - HEIGHT * tokens / max(total, 1):.1f}")
    return " ".join(corners)
