"""Evaluates the alert rules on scraped values, by Prometheus's own promtool."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .metrics import Scrape

RULES = Path(__file__).parents[2] / "deploy/prometheus/alerts.yaml"
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")
COUNTERS = ("_total", "_count", "_sum", "_bucket")

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="there is no promtool (Debian: prometheus); PROMTOOL can name one"
)


def firing(before: Scrape, after: Scrape, directory: Path, *, is_up: bool = True) -> set[str]:
    """Return the alerts that fire if the change between two scrapes continues for 90 minutes.

    Gauges keep their last value. Counters grow each minute as they did between the scrapes.
    """
    used = set(re.findall(r"(?:sessiond|grpc_server)_\w+", RULES.read_text("utf-8")))
    series = [{"series": 'up{job="sessiond",instance="a"}', "values": f"{int(is_up)}x100"}]
    for (name, labels), value in after.samples.items() if is_up else ():
        if name not in used:
            continue
        before_value = before.samples.get((name, labels), 0.0)
        step = value - before_value if name.endswith(COUNTERS) else 0.0
        start = before_value if name.endswith(COUNTERS) else value
        text = ",".join(f"{key}={json.dumps(text)}" for key, text in sorted(labels))
        series.append(
            {
                "series": f'{name}{{job="sessiond",instance="a"{"," if text else ""}{text}}}',
                "values": f"{start}+{step}x100",
            }
        )
    wanted = "count by (alertname) (ALERTS{alertstate='firing'})"
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                # This expectation always fails, and promtool's report of the failure contains the
                # result.
                "promql_expr_test": [
                    {"expr": wanted, "eval_time": "95m", "exp_samples": [{"value": -1}]}
                ],
            }
        ],
    }
    file = directory / "alerts-test.yaml"
    file.write_text(json.dumps(test), encoding="utf-8")  # JSON is YAML
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False
    )
    report = done.stdout + done.stderr
    assert "got:" in report, report
    got = report.split("got:", 1)[1]
    return {part.split('"')[1] for part in got.split("alertname=")[1:]}
