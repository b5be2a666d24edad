"""Measures the cost of Prometheus metrics for an append."""

import gc
import statistics
import time

from bench import WARM_UP_APPENDS, Bench
from names import SESSIOND
from serving import free_port, serve
from subject_sessiond import Sessiond


async def metrics(bench: Bench) -> None:
    """Measure single appends at a server that serves metrics and at one that does not.

    The two servers alternate append by append, so that other load on the machine slows both alike.
    """
    address = f"127.0.0.1:{free_port()}"
    url = bench.databases.sessiond_url
    with serve(url, {"SESSIOND_METRICS_LISTEN": address}) as on, serve(url, {}) as off:
        subjects = {"on": Sessiond(on.target), "off": Sessiond(off.target)}
        for subject in subjects.values():
            await subject.open()
        for _ in range(bench.sizes.rounds):
            ids = {name: await bench.new_session(subject) for name, subject in subjects.items()}
            took: dict[str, list[float]] = {name: [] for name in subjects}
            gc.collect()
            count = WARM_UP_APPENDS + bench.sizes.appends
            for number, message in enumerate(bench.messages[:count]):
                for name in subjects if number % 2 else reversed(subjects):
                    began = time.perf_counter()
                    await subjects[name].append(ids[name], message)
                    took[name].append(time.perf_counter() - began)
            for name, measured in took.items():
                median_s = statistics.median(measured[WARM_UP_APPENDS:])
                bench.results.add(f"append, metrics {name}", SESSIOND, "ms", 1000 * median_s)
        for subject in subjects.values():
            await subject.close()
