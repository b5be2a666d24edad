"""Metrics as a scraper reads them."""

import http.client
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from sessiond_server.telemetry.endpoint import Endpoint
from sessiond_server.telemetry.metrics import REGISTRY, flush


@dataclass(frozen=True)
class Scrape:
    """The samples of one scrape, by name and labels."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with a name and labels; 0 if there are none."""
        return sum(
            value
            for (found, own), value in self.samples.items()
            if found == name and frozenset(labels.items()) <= own
        )

    def names(self) -> set[str]:
        """Return the names of all samples."""
        return {name for name, _ in self.samples}

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values that a label has."""
        return {dict(own)[label] for found, own in self.samples if found == name}


def parsed(text: str) -> Scrape:
    """Parse the text format."""
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


def here() -> Scrape:
    """Scrape this process, in which tests run servers one after another."""
    return parsed(Endpoint(REGISTRY, flush).answer("/metrics")[2].decode())


def get(target: str, path: str, method: str = "GET") -> tuple[int, str]:
    """Return the status and the body of a response."""
    host, _, port = target.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
