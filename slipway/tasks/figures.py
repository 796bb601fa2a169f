"""One hand for all pictures of the reports. Matplotlib is imported only when something is drawn."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2a37"
MUTED = "#6b7785"
GRID = "#e3e8ee"
ACCENT = "#1d6fb8"
CONTRAST = "#d9662b"
PALETTE = ("#1d6fb8", "#d9662b", "#2f9e6e", "#b0457f", "#7a5cc0", "#b58900", "#3aa6b9", "#8d6e63", "#5f7d2f", "#c0392b")


def new_figure(width: float = 5.8, height: float = 4.4) -> "tuple[Figure, Axes]":
    """An empty figure of so many inches with one set of axes, drawn without a display or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    style_axes(axes)
    return figure, axes


def style_axes(axes: "Axes") -> None:
    """Light grid behind the data, no box, small grey ticks."""
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def to_png(figure: "Figure") -> bytes:
    """The figure as a PNG file without metadata, so that equal figures give equal bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def shorten(text: str, length: int = 18) -> str:
    """`text` cut for an axis, with signs that Matplotlib would read as mathematics made plain."""
    cut = text if len(text) <= length else text[: length - 1] + "…"
    return cut.replace("$", r"\$")
