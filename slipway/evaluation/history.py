"""The course of training as a picture."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from slipway.tasks.figures import ACCENT, CONTRAST, MUTED, PALETTE, new_figure, style_axes, to_png
from slipway.tasks.task import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

History = Sequence[Mapping[str, float | None]]
"""One entry an epoch: `epoch` and any of `train_loss`, `validation_loss`, `validation_score`, `learning_rate`."""


def draw_history(history: History) -> Plot:
    """Losses on the left axis, the validation score on the right one, learning rate as a thin line without a scale."""
    figure, axes = new_figure(8.0, 3.8)
    _draw_series(axes, history, "train_loss", ACCENT, "training loss")
    _draw_series(axes, history, "validation_loss", PALETTE[6], "validation loss")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.set_ylim(bottom=0)
    if _has(history, "learning_rate"):
        rates = axes.twinx()
        _draw_series(rates, history, "learning_rate", MUTED, "learning rate (own scale)", linestyle=":", linewidth=1.2)
        rates.set_ylim(bottom=0)
        rates.set_axis_off()
    if _has(history, "validation_score"):
        scores = axes.twinx()
        style_axes(scores)
        scores.grid(visible=False)
        scores.spines["right"].set_visible(True)
        _draw_series(scores, history, "validation_score", CONTRAST, "validation score")
        scores.set_ylabel("validation score")
    lines = [line for each in figure.axes for line in each.get_lines()]
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines) or 1, frameon=False, fontsize=9)
    caption = "The exported model is the one of the best validation score."
    return Plot(name="history", title="Course of training", caption=caption, png=to_png(figure))


def _has(history: History, name: str) -> bool:
    return any(entry.get(name) is not None for entry in history)


def _draw_series(
    axes: "Axes", history: History, name: str, color: str, label: str, *, linestyle: str = "-", linewidth: float = 2.0
) -> None:
    points = [(index, entry[name]) for index, entry in enumerate(history, start=1) if entry.get(name) is not None]
    if points:
        epochs, values = zip(*points, strict=True)
        marker = "o" if len(points) <= 3 else ""  # noqa: PLR2004
        axes.plot(epochs, values, color=color, label=label, linestyle=linestyle, linewidth=linewidth, marker=marker)
