"""The files in deploy/ name only existing metrics, settings, probes and commands."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from sessiond_server.cli import COMMANDS
from sessiond_server.settings import Settings
from sessiond_server.telemetry import metrics
from sessiond_server.telemetry.endpoint import Endpoint

from ..support.promtool import PROMTOOL, RULES, needs_promtool

ROOT = RULES.parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/sessiond"
HELM = os.environ.get("HELM") or shutil.which("helm")
TEXTS = [
    path
    for path in sorted(DEPLOY.rglob("*"))
    if path.is_file() and path.suffix in (".yaml", ".yml", ".json", ".service", ".md", ".tpl")
    and "gateway" not in path.parts
]  # fmt: skip
PAGES = [
    *sorted((ROOT / "docs/runbooks").glob("*.md")),
    ROOT / "docs/guides/monitoring.md",
    ROOT / "docs/guides/deployment.md",
    ROOT / "docs/guides/sizing.md",
    ROOT / "docs/guides/backup.md",
]
FLAGS = {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
FLAGS_ALONE = {
    "--liveness",
    "--migrate",
    "--target",
    "--build",
    "--username",
    "--config",
    "--project",
}

needs_helm = pytest.mark.skipif(HELM is None, reason="there is no helm; HELM can name one")


def samples() -> set[str]:
    """Return the names of all samples, and of their families."""
    names = set()
    for value in vars(metrics).values():
        if isinstance(value, MetricWrapperBase):
            [family] = value.describe()
            endings = {
                "counter": ("_total",),
                "histogram": ("", "_bucket", "_count", "_sum"),
                "gauge": ("",),
            }[family.type]
            names |= {family.name + ending for ending in endings}
    return names


@pytest.mark.parametrize("path", [*TEXTS, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_each_metric_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    # Names of recording rules have colons.
    named = set(re.findall(r"(?<![:\w.])(?:sessiond|grpc_server)_[a-z_]+(?![:\w*])", text))
    modules = {"sessiond_server", "sessiond_console"}
    assert named - modules <= samples(), path


@pytest.mark.parametrize("path", [*TEXTS, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_each_setting_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    variables = set(re.findall(r"SESSIOND_([A-Z_]+)\b", text))
    assert {name.lower() for name in variables} <= Settings.model_fields.keys()
    if path.suffix != ".md" or path in PAGES:
        flags = set(re.findall(r"(?<=[\s\"'`\[(])--[a-z][a-z0-9-]+", text))
        others = {"--schema-only", "--pid", "--set", "--from-literal", "--no-assets"}
        assert flags - FLAGS_ALONE - others <= FLAGS


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((DEPLOY / "grafana/sessiond.json").read_text("utf-8"))
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    shown = json.dumps(dashboard)
    alerts = RULES.read_text("utf-8")
    hidden = {"sessiond_ready", "sessiond_notice_listeners", "sessiond_background_failures_total",
              "sessiond_tls_certificate_expiry_seconds"}  # fmt: skip
    for name in set(re.findall(r"(?<!:)(?:sessiond|grpc_server)_[a-z_]+", alerts)) - hidden:
        family = re.sub(r"_(count|sum|bucket)$", "", name)
        assert family in shown, f"{name} has an alert and no panel"


@needs_promtool
def test_prometheus_accepts_rules_and_expressions(tmp_path: Path) -> None:
    assert PROMTOOL
    subprocess.run([PROMTOOL, "check", "rules", RULES], check=True, capture_output=True)
    subprocess.run(
        [PROMTOOL, "check", "config", DEPLOY / "prometheus/prometheus.yml"],
        check=True, capture_output=True,
    )  # fmt: skip
    dashboard = json.loads((DEPLOY / "grafana/sessiond.json").read_text("utf-8"))
    expressions = [
        target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    page = (ROOT / "docs/guides/monitoring.md").read_text("utf-8")
    expressions += re.findall(r"\| `((?:sum|histogram_quantile|topk)[^`]+)` \|", page)
    rules = [{"record": f"test:{i}", "expr": expr} for i, expr in enumerate(expressions)]
    file = tmp_path / "expressions.yaml"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(
        [PROMTOOL, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(expressions) > 40


def rendered(*values: str) -> str:
    assert HELM
    done = subprocess.run(
        [HELM, "template", "x", CHART, "--kube-version", "1.31",
         *(part for value in ("database.existingSecret=db", *values) for part in ("--set", value))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


EVERYTHING = (
    "tls.existingSecret=tls", "metrics.serviceMonitor.enabled=true", "metrics.rules.enabled=true",
    "autoscaling.enabled=true", "networkPolicy.enabled=true", "assetStore=s3://bucket/prefix",
    "settings.pool_size=4",
)  # fmt: skip


@needs_helm
@pytest.mark.parametrize("values", [("insecure=true", "requireKeys=false"), EVERYTHING])
def test_the_chart_is_valid(values: tuple[str, ...], tmp_path: Path) -> None:
    assert HELM
    subprocess.run(
        [HELM, "lint", CHART, "--strict", "--kube-version", "1.31",
         "--set", "database.existingSecret=db"],
        check=True, capture_output=True,
    )  # fmt: skip
    validate = pytest.importorskip("kubernetes_validate")
    yaml = pytest.importorskip("yaml")
    kinds = []
    for found in yaml.safe_load_all(rendered(*values)):
        kinds.append(found["kind"])
        if found["apiVersion"].startswith("monitoring.coreos.com/"):
            continue  # a resource of the Prometheus operator, not of Kubernetes
        validate.validate(found, "1.31", strict=True)
    assert {"Deployment", "Service", "ServiceAccount", "Job", "PodDisruptionBudget"} <= set(kinds)


@needs_helm
def test_the_servers_of_the_chart_would_start() -> None:
    """The servers' flags are valid settings, and their pods live longer than a drain."""
    text = rendered("insecure=true", "drainDelaySeconds=3", "drainTimeoutSeconds=40")
    flags = re.findall(r"^ +- (--[a-z-]+)(?:=(\S+))?$", text, re.MULTILINE)
    given = {name[2:].replace("-", "_"): value or "true" for name, value in flags}
    settings = Settings(**given)  # type: ignore[arg-type]
    assert settings.metrics_listen == "0.0.0.0:9464"
    assert f"terminationGracePeriodSeconds: {3 + 40 + 10}" in text


@needs_helm
@pytest.mark.parametrize(
    ("value", "problem"),
    [("replica=2", "replica"), ("workers=0", "workers"), ("service.type=Nothing", "service")],
)
def test_wrong_values_are_refused(value: str, problem: str) -> None:
    assert HELM
    done = subprocess.run(
        [HELM, "template", "x", CHART, "--set", "database.existingSecret=db", "--set", value,
         "--kube-version", "1.31"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert problem in done.stderr


def test_probes_ask_for_what_there_is() -> None:
    text = (CHART / "templates/deployment.yaml").read_text("utf-8")
    paths = set(re.findall(r"httpGet: \{ path: (\S+),", text))
    assert paths == {"/livez", "/readyz"}
    for path in paths:
        assert Endpoint(metrics.REGISTRY).answer(path)[0] != 404
    assert 'CMD ["sessiond", "health"]' in (ROOT / "Dockerfile").read_text("utf-8")
    commands = set(re.findall(r"command: \[(\w+)", (DEPLOY / "compose.yaml").read_text("utf-8")))
    assert commands <= COMMANDS.keys()


def test_the_unit_notifies_and_outlives_the_drain() -> None:
    unit = (DEPLOY / "systemd/sessiond.service").read_text("utf-8")
    assert {"Type=notify", "KillMode=mixed"} <= set(unit.splitlines())
    [stop_s] = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    defaults = Settings()
    assert int(stop_s) >= defaults.drain_delay_s + defaults.drain_timeout_s + 10
    if analyze := shutil.which("systemd-analyze"):
        done = subprocess.run(
            [analyze, "verify", DEPLOY / "systemd/sessiond.service"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        left = [line for line in done.stderr.splitlines() if "is not executable" not in line]
        assert not [line for line in left if "sessiond.service" in line]
