"""The chart: how many times better sessiond is than each peer."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"vs_openai_agents": "#4c72b0", "vs_floor": "#b0b0b0"}
LABELS = {
    "vs_openai_agents": "times as good as openai-agents",
    "vs_floor": "times as good as the asyncpg floor",
}
BAR = 0.38  # height of a bar, as a part of its line


def draw(ratios: list[dict[str, Any]], note: str, path: Path) -> bool:
    """Draw the chart of report.ratios() as a PNG.

    Args:
        ratios: result of report.ratios().
        note: a line below the title.
        path: the file to write.

    Returns:
        False if no peer was measured, so that there is nothing to draw.
    """
    ratios = [row for row in ratios if any(row[key] is not None for key in COLOURS)]
    if not ratios:
        return False
    figure, axes = plt.subplots(figsize=(10, 1.6 + 0.42 * len(ratios)), layout="constrained")
    for offset, (key, colour) in zip((-BAR / 2, BAR / 2), COLOURS.items(), strict=True):
        places = [place + offset for place, row in enumerate(ratios) if row[key] is not None]
        values = [row[key] for row in ratios if row[key] is not None]
        bars = axes.barh(
            places, [value - 1 for value in values], BAR, left=1, color=colour, label=LABELS[key]
        )
        for bar, value in zip(bars, values, strict=True):
            is_right = value >= 1
            axes.annotate(
                f"{value:.2f}",
                (value, bar.get_y() + bar.get_height() / 2),
                xytext=(3 if is_right else -3, 0),
                textcoords="offset points",
                ha="left" if is_right else "right",
                va="center",
                fontsize=7,
            )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.margins(x=0.08)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(ratios)), [row["title"] for row in ratios], fontsize=8)
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.suptitle(f"sessiond through gRPC against libraries in process\n{note}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True
