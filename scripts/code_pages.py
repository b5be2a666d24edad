"""The reference's pages about log events, metrics and limits, from the server's source."""

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from pydantic_core import PydanticUndefined
from tables import cell, escaped, table

from sessiond_server.settings import Settings
from sessiond_server.telemetry import metrics

SERVER = Path(__file__).resolve().parent.parent / "server" / "sessiond_server"
# Modules whose constants MAX_*, MIN_* and DEFAULT_* are the limits.
LIMITS = (
    "sessiond_server.core.limits",
    "sessiond_server.core.structs",
    "sessiond_server.queues.service",
    "sessiond_server.rewinds.service",
)


def default_of(field: Any) -> str:
    """Return a setting's default as Markdown."""
    if field.default_factory or field.default is None or field.default is PydanticUndefined:
        return "–"
    match field.default:
        case bool():
            return "on" if field.default else "off"
        case float():
            return f"`{field.default:g}`"
        case "":
            return "–"
        case _:
            return f"`{field.default}`"


def log_events() -> str:
    """Return the page of all events that the server logs."""
    # The levels of each event.
    found: dict[tuple[str, str, str], list[str]] = {}
    for path in sorted(SERVER.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = path.relative_to(SERVER).with_suffix("").as_posix().replace("/", ".")
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="log"),
                        attr="debug" | "info" | "warning" | "error" | "exception" as level,
                    ),
                    args=[first, *_],
                    keywords=keywords,
                ):
                    if not isinstance(first, ast.Constant):
                        sys.exit(f"{module}: an event's name must be a constant")
                    fields = [field for keyword in keywords for field in _fields(keyword, tree)]
                    levels = found.setdefault(
                        (f"`{first.value}`", ", ".join(fields), f"`{module}`"), []
                    )
                    levels.append("error, with a traceback" if level == "exception" else level)
    rows = {
        (event, " or ".join(sorted(set(levels))), fields, module)
        for (event, fields, module), levels in found.items()
    }
    return "\n\n".join(
        [
            "# Log events",
            "The server writes one line per event to stderr. Every line has `event`, `level` and "
            "`timestamp`, and besides them the fields below. A line with a traceback has it in "
            "`exception`. Lines of libraries have their text in `event`, and the name of the "
            "library's logger in `logger`. [Debugging](../../debugging.md#a-log-line) explains how "
            "to read the lines.",
            table(
                ("event", "level", "fields", "module"),
                sorted(rows, key=lambda row: (row[3], row[0])),
            ),
        ]
    )


def metric_names() -> str:
    """Return the page of all metrics."""
    rows = [
        (
            f"`{name}`",
            family.type,
            ", ".join(f"`{label}`" for label in labels),
            cell(family.documentation),
        )
        for family, name, labels in sorted(metric_families(), key=lambda found: found[1])
    ]
    return "\n\n".join(
        [
            "# Metrics",
            "What `/metrics` of [`--metrics-listen`](settings.md#metrics_listen) has; "
            "[Monitoring](../../guides/monitoring.md#metrics) says what to look at. A histogram "
            "has `_bucket`, `_sum` and `_count`. With several workers, values are sums over all of "
            "them, but for what is the same for each.",
            table(("metric", "type", "labels", "meaning"), rows),
        ]
    )


def metric_families() -> Iterator[tuple[Metric, str, tuple[str, ...]]]:
    """Yield each metric, its full name, and its labels."""
    for value in vars(metrics).values():
        if isinstance(value, MetricWrapperBase):
            [family] = value.describe()
            suffix = "_total" if family.type == "counter" else ""
            yield family, family.name + suffix, value._labelnames


def _fields(keyword: ast.keyword, tree: ast.Module) -> list[str]:
    """Return the fields that an argument of a log call adds.

    `**self.method(...)` adds the keys of the dict that the module's method returns.
    """
    match keyword:
        case ast.keyword(arg="exc_info"):
            return []
        case ast.keyword(arg=str(name)):
            return [f"`{name}`"]
        case ast.keyword(value=ast.Call(func=ast.Attribute(attr="redacted"))):
            return ["the [settings](settings.md) by name, without passwords"]
        case ast.keyword(value=ast.Call(func=ast.Attribute(attr=method))):
            for node in ast.walk(tree):
                match node:
                    case ast.FunctionDef(
                        name=name, body=[*_, ast.Return(value=ast.Dict(keys=keys))]
                    ) if name == method:
                        return [f"`{key.value}`" for key in keys if isinstance(key, ast.Constant)]
    sys.exit(f"generate-reference: cannot tell which fields {ast.unparse(keyword)} adds")


def limits() -> str:
    """Return the page about the limits."""
    bounds: dict[str, list[str]] = {}
    for module in LIMITS:
        for name, value, meaning in _constants(module):
            kind, _, rest = name.partition("_")
            bound = {"MAX": "at most", "MIN": "at least", "DEFAULT": "default"}[kind]
            bounds.setdefault(meaning, []).append(f"{bound} {_quantity(rest, value)}")
    settings = [
        (
            f"[`--{name.replace('_', '-')}`](settings.md#{name})",
            cell(_shown(name, field)),
            cell(escaped(field.description or "")),
        )
        for name, field in Settings.model_fields.items()
        if name.startswith("max_") or (field.description or "").startswith("Maximum")
    ]
    return "\n\n".join(
        [
            "# Limits",
            "A request beyond a limit is refused and changes nothing. The error is `INVALID_FIELD` "
            "and names the field, unless the [gRPC reference](protos.md) names another reason, "
            "such as `LIMIT_EXCEEDED`, `MESSAGE_TOO_LARGE` or, for a limit of the server's own, "
            "`OVERLOADED`.",
            "## Limits that an operator sets",
            table(("setting", "default", "meaning"), settings),
            "## Limits that are fixed",
            table(
                ("what", "limit"),
                [(cell(escaped(what)), ", ".join(found)) for what, found in bounds.items()],
            ),
        ]
    )


def _shown(name: str, field: Any) -> str:
    """Return a setting's default. Sizes are also given in a unit that people read."""
    if name.endswith("_bytes") and isinstance(field.default, int) and field.default:
        return f"{default_of(field)} ({_quantity('BYTES', field.default)})"
    return default_of(field)


def _constants(module: str) -> Iterator[tuple[str, int, str]]:
    """Yield the limits that a module defines, each with the comment at the end of its line."""
    source = Path(import_module(module).__file__ or "").read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) if name.startswith(
                ("MAX_", "MIN_", "DEFAULT_")
            ):
                _, _, meaning = lines[node.lineno - 1].partition("  # ")
                if not meaning:
                    sys.exit(f"generate-reference: {module}: {name} has no comment")
                yield name, getattr(import_module(module), name), meaning


def _quantity(name: str, value: int) -> str:
    """Return a limit with its unit, which is the end of its name."""
    match name.rpartition("_")[2]:
        case "CHARACTERS":
            return f"{value:,} characters"
        case "BYTES":
            units = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
            unit, size = next(unit for unit in units if value >= unit[1])
            return f"{value / size:g} {unit}"
        case "MS":
            day = 24 * 3600 * 1000
            return f"{value // day:,} days" if value >= day else f"{value / 1000:,g} s"
        case _:
            return f"{value:,}"
