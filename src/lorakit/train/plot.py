"""The loss curve of a run as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plot_loss(events: list[dict[str, Any]], file: Path, *, title: str = "") -> None:
    """Draw the training loss, its running mean, and the evaluation loss."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [event["step"] for event in events if "loss" in event]
    losses = [event["loss"] for event in events if "loss" in event]
    evaluated = [(event["step"], event["eval_loss"]) for event in events if "eval_loss" in event]
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(steps, losses, color="#9db4d6", linewidth=0.8, label="training, each step")
    axes.plot(steps, running_mean(losses), color="#1f4e9c", linewidth=1.8, label="running mean")
    if evaluated:
        axes.plot(*zip(*evaluated), "o-", color="#d1622b", markersize=4, label="evaluation")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title, fontsize=10)
    if losses and min(losses) > 0 and max(losses) > 10 * min(losses):
        axes.set_yscale("log")  # else all that matters would be a line at the bottom
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(file)


def plot_losses(runs: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Draw the running means of the training losses of several runs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, events in runs.items():
        steps = [event["step"] for event in events if "loss" in event]
        losses = [event["loss"] for event in events if "loss" in event]
        axes.plot(steps, running_mean(losses), linewidth=1.3, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss, running mean")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7, ncols=1 + len(runs) // 12)
    figure.savefig(file)


def running_mean(values: list[float]) -> list[float]:
    """An exponential mean without the bias of its start (Kingma & Ba 2014, section 3).

    It looks back over a fortieth of the run, so that it follows a steep start.
    """
    keep = 1 - 1 / max(2.0, len(values) / 40)
    total = weight = 0.0
    found = []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        found.append(total / weight)
    return found
