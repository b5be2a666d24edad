"""The report of a run: the table, the targets, and the ratios for JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from frameworks import FRAMEWORKS
from languages import LANGUAGES
from measure_many import LISTINGS, PAGE_SIZE
from names import (
    AGENTS,
    CACHED,
    CALL_AND_FLOOR,
    CLAUDE_ADAPTER,
    CLAUDE_REFERENCE,
    EMPTY_CALL,
    FLOOR,
    FLOOR_COPY,
    FLOOR_JSONB,
    FLOOR_ORJSON,
    OPENAI_ADAPTER,
    SESSIOND,
    UNCACHED,
)
from series import Results, Series
from sizes import Sizes

APPEND_COST = 1.35
METRICS_COST = 1.02
DELETED_A_SECOND = 5000
FLAT = 1.15  # latencies in a long and an empty session may differ by this factor


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: sessiond beside the peers.

    A peer is (measurement, subject). None = the peer has no comparable measurement.
    """

    title: str
    measurement: str
    ours: str = SESSIOND
    agents: tuple[str, str] | None = None
    floor: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TargetResult:
    """A target and its outcome."""

    title: str
    wanted: str
    ratio: float
    is_met: bool | None
    """None = for comparison only."""


def rows(sizes: Sizes) -> Iterator[Row]:
    """Yield all lines of the table, in order."""

    def row(title: str, measurement: str, ours: str = SESSIOND) -> Row:
        return Row(title, measurement, ours, (measurement, AGENTS), (measurement, FLOOR))

    for percentile in (50, 95, 99):
        yield row(f"append latency, 1 session, p{percentile}", f"append p{percentile}")
        yield Row("  an empty gRPC call of the same size", f"append p{percentile}", EMPTY_CALL)
        yield Row("  such a call, then the floor's append", f"append p{percentile}", CALL_AND_FLOOR)
    yield row("appends, 1 session", "appends")
    yield row(f"appends, {sizes.sessions} sessions at once", "concurrent appends")
    yield Row("append p50, without message ids", "append without ids")
    yield Row("append p50, with message ids", "append with ids")
    yield row("append p50, empty session", "append to an empty session")
    yield row(f"append p50, session of {sizes.long:,}", "append to a long session")
    yield row(f"batches of {sizes.batch:,}", "batches")
    yield Row("  floor with jsonb instead", "batches", floor=("batches", FLOOR_JSONB))
    yield row(f"import of {sizes.long:,}", "load")
    yield Row("  floor with jsonb instead", "load", floor=("load", FLOOR_JSONB))
    yield Row("  floor by COPY instead", "load", floor=("load", FLOOR_COPY))
    for label, length in (("short", sizes.short), ("long", sizes.long)):
        for level in ("texts", "dicts"):
            measurement = f"read {label}, {level}"
            yield row(f"read {length:,} as {level}", measurement)
            yield row("  page cache off", measurement, UNCACHED)
            yield row("  all in the page cache", measurement, CACHED)
            yield Row("  floor with jsonb instead", measurement, floor=(measurement, FLOOR_JSONB))
    for length in sizes.copied:
        yield Row(f"copy of {length:,}", f"copy of {length}", floor=(f"copy of {length}", FLOOR))
    for length in sizes.copied:
        yield Row(f"rows of a copy of {length:,}", f"rows of a copy of {length}")
    for length in sizes.copied:
        yield Row(f"rewind of {length:,}", f"rewind of {length}")
    for length in sizes.copied:
        yield Row(f"rows of a rewind of {length:,}", f"rows of a rewind of {length}")
    for title, measurement in (
        (f"read {sizes.copied[-2]:,}, source", "read a source"),
        (f"read {sizes.copied[-2]:,}, copy", "read a copy"),
        (f"read {sizes.copied[-2]:,} with a branch, all", "read all branches"),
        (f"read {sizes.copied[-2]:,} with a branch, one", "read a branch"),
        (f"read {sizes.hop * (sizes.depth + 1):,}, never forked", "read unforked"),
        (f"read {sizes.hop * (sizes.depth + 1):,}, fork depth {sizes.depth}", "read deep"),
    ):
        yield Row(title, measurement)
        yield Row("  page cache off", measurement, UNCACHED)
    yield row(f"first message of {sizes.long:,}", "first message")
    yield row("  page cache off", "first message", UNCACHED)
    for level in ("texts", "dicts"):
        yield row(f"reader's memory, {sizes.long:,} as {level}", f"memory, {level}")
    yield Row(
        "  one by one",
        "memory, one by one",
        SESSIOND,
        ("memory, dicts", AGENTS),
        ("memory, dicts", FLOOR),
    )
    for label, crowd in (
        ("many sessions", f"{sizes.watchers:,} watchers of {sizes.watched:,} sessions"),
        ("one session", f"{sizes.watchers:,} watchers of 1 session"),
    ):
        yield Row(f"{crowd}, all have joined", f"join, {label}")
        yield Row(f"{crowd}, server's memory for each", f"memory idle, {label}")
        yield Row(
            f"{crowd}, the same after {sizes.watched_messages} messages each",
            f"memory after messages, {label}",
        )
        yield Row(f"{crowd}, all together", f"events, {label}")
        for where, place in (("here", "same process"), ("there", "other process")):
            # The "alone" rows have no idle watchers, so they would be the same for both labels.
            # The label "one session" leaves them out.
            for company, note in (("alone", "nobody else"), ("among many", f"{crowd} idle"))[
                label == "one session" :
            ]:
                for percentile in (50, 99):
                    yield Row(
                        f"append to event, {place}, {note}, p{percentile}",
                        f"delivery {where} {company} p{percentile}, {label}",
                    )
    yield from _turn_rows(sizes)
    for language in LANGUAGES:
        yield Row(f"append from {language}, p50", f"append from {language} p50")
        yield Row(f"append from {language}, p99", f"append from {language} p99")
        yield Row(f"read {sizes.long:,} from {language}", f"read long from {language}")
    yield from _adapter_rows(sizes)
    yield Row("append p50, metrics not served", "append, metrics off")
    yield Row("append p50, metrics served", "append, metrics on")
    yield from _many_rows(sizes)


def _many_rows(sizes: Sizes) -> Iterator[Row]:
    for name in LISTINGS:
        for state, note in (("idle", ""), ("busy", ", 16 writers")):
            title = f"list {PAGE_SIZE} of {sizes.listed:,}, {name}{note}, p50"
            yield Row(title, f"list {name}, {state}")
    yield Row("sessions deleted by a filter", "sessions deleted")
    yield Row("sessions purged, from the deletion on", "sessions purged")
    for percentile in ("p50", "p99"):
        yield Row(f"append {percentile}, nothing else runs", f"append {percentile}, idle")
        yield Row(f"append {percentile}, beside the deletion", f"append {percentile}, deletion")
        yield Row(f"append {percentile}, beside the purge", f"append {percentile}, purge")


def _adapter_rows(sizes: Sizes) -> Iterator[Row]:
    measurements = (
        ("append, p50", "append p50"),
        ("append, p99", "append p99"),
        (f"appends, {sizes.sessions} sessions at once", "concurrent appends"),
        (f"batches of {sizes.batch:,}", "batches"),
        (f"read {sizes.short:,}", "read short"),
        (f"read {sizes.long:,}", "read long"),
    )
    for title, measurement in measurements:
        found = f"openai, {measurement}"
        yield Row(f"SessiondSession: {title}", found, OPENAI_ADAPTER, agents=(found, AGENTS))
    for title, measurement in measurements:
        found = f"claude, {measurement}"
        peer = (found, CLAUDE_REFERENCE)
        yield Row(f"SessiondSessionStore: {title}", found, CLAUDE_ADAPTER, floor=peer)
    for name, (ours, own) in FRAMEWORKS.items():
        for title, measurement in (
            ("append, p50", "append p50"),
            (f"read {sizes.short:,}", "read short"),
        ):
            found = f"{name}, {measurement}"
            yield Row(f"{ours}, beside its own {own}: {title}", found, "ours", floor=(found, "own"))


def _turn_rows(sizes: Sizes) -> Iterator[Row]:
    crowd = f"{sizes.turns:,} turns at once"
    yield Row(f"{crowd}, all have started", "turns, all have started")
    yield Row("  deltas that arrive", "turns, deltas a second")
    yield Row("  deltas an event", "turns, deltas an event")
    yield Row("  server's CPU for a delta", "turns, server's CPU for a delta")
    for state, note in (("idle", "nothing else runs"), ("busy", crowd)):
        for percentile in (50, 99):
            yield Row(f"GetSession, {note}, p{percentile}", f"get session {state} p{percentile}")
    crowd = f"{sizes.starts:,} sends at once"
    yield Row(f"{crowd}, all accepted", "starts, all accepted")
    yield Row("  accepted", "starts, turns a second")
    yield Row("  refused", "starts, refused")
    yield Row("  statements of a turn", "starts, statements of a turn")
    yield Row("  server's CPU of a turn", "starts, server's CPU of a turn")
    for state, note in (("idle", "nothing else runs"), ("busy", crowd)):
        for percentile in (50, 99):
            measurement = f"starts, get session {state} p{percentile}"
            yield Row(f"GetSession, {note}, p{percentile}", measurement)


def table(results: Results, sizes: Sizes) -> str:
    """Return the table: medians with the lowest and highest round, and sessiond's ratios."""
    lines = [("", "sessiond", "openai-agents", "floor", "vs agents", "vs floor")]
    for row in rows(sizes):
        ours = results.get(row.measurement, row.ours)
        if ours is None:
            continue
        agents = results.get(*row.agents) if row.agents else None
        floor = results.get(*row.floor) if row.floor else None
        lines.append(
            (
                f"{row.title} [{ours.unit}]" if not row.title.startswith(" ") else row.title,
                _cell(ours),
                _cell(agents),
                _cell(floor),
                _times(results.ratio(row.measurement, row.ours, row.agents)) if row.agents else "-",
                _times(results.ratio(row.measurement, row.ours, row.floor)) if row.floor else "-",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    text.insert(1, "-" * len(text[0]))
    return "\n".join(line.rstrip() for line in text)


def targets(results: Results, sizes: Sizes) -> list[TargetResult]:
    """Return the outcomes of all measured targets, each followed by related comparisons.

    The targets compare plain reads from a server with default settings: openai-agents parses every
    message, while sessiond and the floor (subject_floor.py) return text that is parsed on access.
    After each target for reads come, among others, comparisons in which sessiond and the floor
    parse every message too.
    """
    found: list[TargetResult] = []

    def add(
        title: str,
        measurement: str,
        other: tuple[str, str],
        at_least: float | None,
        ours: str = SESSIOND,
    ) -> None:
        ratio = results.ratio(measurement, ours, other)
        if ratio is not None:
            met = None if at_least is None else ratio >= at_least
            found.append(
                TargetResult(title, "" if at_least is None else f">= {at_least:g}x", ratio, met)
            )

    dicts, texts = "read long, dicts", "read long, texts"
    add(
        f"read {sizes.long:,}: messages as handed out (our texts, openai-agents' dicts)",
        texts,
        (dicts, AGENTS),
        2,
    )
    add("  page cache off", texts, (dicts, AGENTS), None, UNCACHED)
    add("  all parsed to dicts, openai-agents' dicts", dicts, (dicts, AGENTS), None)
    add("  all parsed to dicts, page cache off", dicts, (dicts, AGENTS), None, UNCACHED)
    add("  all parsed to dicts, all in the page cache", dicts, (dicts, AGENTS), None, CACHED)
    add(f"read {sizes.long:,}: texts, the floor's texts", texts, (texts, FLOOR), 1.3)
    add("  page cache off", texts, (texts, FLOOR), None, UNCACHED)
    add("  all in the page cache", texts, (texts, FLOOR), None, CACHED)
    add("  the floor with jsonb", texts, (texts, FLOOR_JSONB), None)
    add("  dicts, the floor's dicts", dicts, (dicts, FLOOR), None)
    add("  dicts, page cache off", dicts, (dicts, FLOOR), None, UNCACHED)
    short_dicts, short_texts = "read short, dicts", "read short, texts"
    add(f"read {sizes.short:,}: texts, the floor's texts", short_texts, (short_texts, FLOOR), 1.1)
    add("  page cache off", short_texts, (short_texts, FLOOR), None, UNCACHED)
    add("  dicts, the floor's dicts", short_dicts, (short_dicts, FLOOR), None)
    add("  dicts, page cache off", short_dicts, (short_dicts, FLOOR), None, UNCACHED)
    add(
        f"StoreMessages in batches of {sizes.batch:,}, the floor's batches",
        "batches",
        ("batches", FLOOR),
        0.7,
    )
    add("  the floor with jsonb", "batches", ("batches", FLOOR_JSONB), None)
    add("  the floor with orjson", "batches", ("batches", FLOOR_ORJSON), None)
    add(f"ImportMessages of {sizes.long:,}, the floor's batches", "load", ("load", FLOOR), 1)
    add("  the floor with jsonb", "load", ("load", FLOOR_JSONB), None)
    add("  the floor with orjson", "load", ("load", FLOOR_ORJSON), None)
    add("  the floor's COPY", "load", ("load", FLOOR_COPY), None)
    add(
        f"appends to {sizes.sessions} sessions at once, openai-agents",
        "concurrent appends",
        ("concurrent appends", AGENTS),
        4,
    )
    if (cost := results.times_sum("append p50", SESSIOND, (EMPTY_CALL, FLOOR))) is not None:
        title = "append p50: times an empty gRPC call and the floor's append"
        found.append(TargetResult(title, f"<= {APPEND_COST}x", cost, cost <= APPEND_COST))
    if (cost := results.times_sum("append p50", SESSIOND, (CALL_AND_FLOOR,))) is not None:
        found.append(TargetResult("  the two, one after the other", "", cost, None))
    for title, measurement in (
        ("append, p50", "append p50"),
        (f"{sizes.sessions} sessions at once", "concurrent appends"),
        (f"batches of {sizes.batch:,}", "batches"),
        (f"read {sizes.short:,}", "read short"),
        (f"read {sizes.long:,}", "read long"),
    ):
        found_in = f"openai, {measurement}"
        add(
            f"SessiondSession, SQLAlchemySession: {title}",
            found_in,
            (found_in, AGENTS),
            1,
            OPENAI_ADAPTER,
        )
    flat = results.ratio(
        "append to an empty session", SESSIOND, ("append to a long session", SESSIOND)
    )
    if flat is not None:
        title = f"append latency, session of {sizes.long:,} against an empty one"
        found.append(TargetResult(title, "within 15 %", flat, 1 / FLAT <= flat <= FLAT))
    found += _many_targets(results)
    smallest, largest = sizes.copied[0], sizes.copied[-1]
    # The ratio says how many times longer a copy or rewind of the largest session takes than one of
    # the smallest session.
    for what, most in (("copy", 2), ("rewind", 1.3)):
        ratio = results.ratio(f"{what} of {smallest}", SESSIOND, (f"{what} of {largest}", SESSIOND))
        if ratio is not None:
            title = f"{what} of {largest:,}: times that of {smallest:,}"
            found.append(TargetResult(title, f"<= {most}x", ratio, ratio <= most))
    for ours in (SESSIOND, UNCACHED):
        note = ", page cache off" if ours == UNCACHED else ""
        add(
            f"read a copy of {sizes.copied[-2]:,}, its source{note}",
            "read a copy",
            ("read a source", ours),
            0.9,
            ours,
        )
        add(
            f"read a branch, all branches{note}",
            "read a branch",
            ("read all branches", ours),
            0.9,
            ours,
        )
        add(
            f"read at fork depth {sizes.depth}, never forked{note}",
            "read deep",
            ("read unforked", ours),
            0.8,
            ours,
        )
    return found


def _many_targets(results: Results) -> list[TargetResult]:
    found: list[TargetResult] = []
    if (deleted := results.get("sessions deleted", SESSIOND)) is not None:
        title, wanted = "sessions deleted by a filter: times 5,000/s", ">= 1x"
        ratio = deleted.median / DELETED_A_SECOND
        found.append(TargetResult(title, wanted, ratio, ratio >= 1))
    for title, measurement, other, most in (
        ("append p99, beside a deletion: times idle", "append p99, deletion", "p99, idle", 1.5),
        ("append p99, beside the purge: times idle", "append p99, purge", "p99, idle", 1.5),
    ):
        slower = results.ratio(f"append {other}", SESSIOND, (measurement, SESSIOND))
        if slower is not None:
            found.append(TargetResult(title, f"<= {most}x", slower, slower <= most))
    metrics = results.ratio("append, metrics off", SESSIOND, ("append, metrics on", SESSIOND))
    if metrics is not None:
        title = "append p50 with metrics: times that without"
        found.append(TargetResult(title, f"<= {METRICS_COST}x", metrics, metrics <= METRICS_COST))
    for state, most_ms in (("idle", 10), ("busy", 30)):
        listed = [results.get(f"list {name}, {state}", SESSIOND) for name in LISTINGS]
        if slowest := max((series.median for series in listed if series), default=None):
            title = f"list, slowest order or filter, {state}: times {most_ms} ms"
            ratio = slowest / most_ms
            found.append(TargetResult(title, "<= 1x", ratio, ratio <= 1))
    return found


def target_lines(found: list[TargetResult]) -> str:
    """Return the targets as text."""
    width = max((len(target.title) for target in found), default=0)
    verdicts = {True: "met", False: "not met", None: ""}
    return "\n".join(
        f"{target.title.ljust(width)}  {target.ratio:6.2f}x  {target.wanted:>11}  "
        f"{verdicts[target.is_met]}".rstrip()
        for target in found
    )


def ratios(results: Results, sizes: Sizes) -> list[dict[str, Any]]:
    """Return the table's ratios, for JSON and the chart. None = nothing comparable."""
    listed: list[dict[str, Any]] = []
    title = ""
    for row in rows(sizes):
        if results.get(row.measurement, row.ours) is None:
            continue
        title = (
            f"{title.partition(',  ')[0]},  {row.title.strip()}"
            if row.title.startswith(" ")
            else row.title
        )
        listed.append(
            {
                "title": " ".join(title.split()),
                "measurement": row.measurement,
                "subject": row.ours,
                "vs_openai_agents": results.ratio(row.measurement, row.ours, row.agents)
                if row.agents
                else None,
                "vs_floor": results.ratio(row.measurement, row.ours, row.floor)
                if row.floor
                else None,
            }
        )
    return listed


def _cell(series: Series | None) -> str:
    if series is None:
        return "-"
    middle, low, high = (
        _number(value) for value in (series.median, min(series.values), max(series.values))
    )
    return middle if len(series.values) == 1 else f"{middle} ({low}..{high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
