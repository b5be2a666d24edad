"""A histogram that gets its values from a tally equals one that observes them directly."""

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from sessiond_server.telemetry.metrics import Tally

VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 99.0)


def exposed(values: tuple[float, ...], *, tallied: bool) -> bytes:
    registry = CollectorRegistry()
    histogram = Histogram("h", "A histogram.", ("kind",), registry=registry, buckets=(1, 2))
    child = histogram.labels("one")
    tally = Tally(child)
    for value in values:
        (tally if tallied else child).observe(value)
    tally.flush()
    tally.flush()  # a second flush adds nothing
    text = generate_latest(registry)
    return b"\n".join(line for line in text.splitlines() if b"_created" not in line)


def test_a_tally_gives_its_histogram_what_observing_would() -> None:
    assert exposed(VALUES, tallied=True) == exposed(VALUES, tallied=False)
    assert b'h_bucket{kind="one",le="1.0"} 3.0' in exposed(VALUES, tallied=True)


def test_an_empty_tally_adds_nothing() -> None:
    assert exposed((), tallied=True) == exposed((), tallied=False)
