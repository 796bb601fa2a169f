"""Pictures of a classifier's answers: confusion matrix, ROC, precision against recall, reliability."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from slipway.tasks.classification_metrics import (
    NUM_CALIBRATION_BINS,
    Labels,
    Probabilities,
    compute_calibration,
    compute_ece,
    count_confusions,
    pool_decisions,
)
from slipway.tasks.figures import ACCENT, CONTRAST, INK, MUTED, PALETTE, new_figure, shorten, to_png
from slipway.tasks.task import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_CURVES = len(PALETTE)
_MAX_NARROW = 12
_MAX_ANNOTATED = 30
_MAX_NAMED = 60


def draw_all(probabilities: Probabilities, labels: Labels, class_names: Sequence[str]) -> list[Plot]:
    """All pictures that are defined on these samples."""
    plots = [draw_confusion(count_confusions(probabilities, labels), class_names)]
    truth, scores = pool_decisions(probabilities, labels)
    if truth.any() and not truth.all():
        curves = _choose_curves(probabilities, labels, class_names)
        note = f" Shown: the {_MAX_CURVES} weakest classes, and all together." if len(class_names) > _MAX_CURVES else ""
        plots += [_draw_roc(truth, scores, curves, note), _draw_precision_recall(truth, scores, curves, note)]
    return [*plots, draw_reliability(probabilities, labels)]


def draw_confusion(counts: NDArray[np.int64], class_names: Sequence[str]) -> Plot:
    """The matrix, coloured by share of the true class, with counts where they can be read."""
    num_classes = len(class_names)
    from matplotlib.colors import PowerNorm

    side = float(np.clip(2.2 + 0.25 * num_classes, 4.2, 13.0))
    figure, axes = new_figure(side + 1.4, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The square root lifts rare confusions out of the white.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=1.0))
    axes.grid(visible=False)
    # Every class has a tick; beyond 60, only every second or third is named so that the names stay legible.
    step = -(-num_classes // _MAX_NAMED)
    ticks = range(0, num_classes, step)
    names = [shorten(class_names[index]) for index in ticks]
    size = 9 if num_classes <= _MAX_ANNOTATED else 6
    upright = max(map(len, names)) <= 2  # noqa: PLR2004
    axes.set_xticks(ticks, names, rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")
    if num_classes <= _MAX_ANNOTATED:
        _write_counts(axes, counts, shares)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=8)
    bar.set_label("share of the actual class", color=MUTED, fontsize=9)
    caption = "Rows are the true classes, columns the answers. A perfect model fills the diagonal alone."
    is_wide = num_classes > _MAX_NARROW
    return Plot(name="confusion_matrix", title="Confusion matrix", caption=caption, png=to_png(figure), is_wide=is_wide)


def _write_counts(axes: "Axes", counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    size = 9.0 if len(counts) <= 15 else 6.5  # noqa: PLR2004
    for row, column in np.argwhere(counts > 0):
        color = "white" if shares[row, column] > 0.3 else INK  # noqa: PLR2004
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=size, color=color)


Curve = tuple[str, NDArray[np.bool_], Probabilities]


def _choose_curves(probabilities: Probabilities, labels: Labels, class_names: Sequence[str]) -> list[Curve]:
    """The curves of the classes: none for two classes (the pooled one says it all), the ten weakest where there are more."""
    num_classes = len(class_names)
    if num_classes <= 2:  # noqa: PLR2004
        return []
    defined = [index for index in range(num_classes) if 0 < (labels == index).sum() < len(labels)]
    if len(defined) > _MAX_CURVES:
        correct = probabilities.argmax(axis=1) == labels
        defined = sorted(sorted(defined, key=lambda index: correct[labels == index].mean())[:_MAX_CURVES])
    return [(class_names[index], labels == index, probabilities[:, index]) for index in defined]


def _draw_roc(truth: NDArray[np.bool_], scores: Probabilities, curves: Sequence[Curve], note: str) -> Plot:
    from sklearn.metrics import auc, roc_curve

    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    for color, (name, is_class, probability) in zip(PALETTE, curves, strict=False):
        false_positive, true_positive, _ = roc_curve(is_class, probability)
        axes.plot(false_positive, true_positive, color=color, linewidth=1.1, alpha=0.8, label=shorten(name))
    false_positive, true_positive, _ = roc_curve(truth, scores)
    label = f"{_pooled_name(curves)}, area {auc(false_positive, true_positive):.4f}"
    axes.plot(false_positive, true_positive, color=INK, linewidth=2.2, label=label)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _add_legend(axes, "lower right")
    caption = (
        "How many are found against how many are wrongly taken, as the threshold falls. The nearer the upper left, the better."
    )
    return Plot(name="roc", title="ROC curve", caption=caption + note, png=to_png(figure))


def _draw_precision_recall(truth: NDArray[np.bool_], scores: Probabilities, curves: Sequence[Curve], note: str) -> Plot:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = new_figure()
    for color, (name, is_class, probability) in zip(PALETTE, curves, strict=False):
        precision, recall, _ = precision_recall_curve(is_class, probability)
        axes.plot(recall, precision, color=color, linewidth=1.1, alpha=0.8, label=shorten(name))
    precision, recall, _ = precision_recall_curve(truth, scores)
    label = f"{_pooled_name(curves)}, average precision {average_precision_score(truth, scores):.4f}"
    axes.plot(recall, precision, color=INK, linewidth=2.2, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
    _add_legend(axes, "lower left")
    caption = "How many of those taken are right, against how many are found. The nearer the upper right, the better."
    return Plot(name="precision_recall", title="Precision and recall", caption=caption + note, png=to_png(figure))


def _pooled_name(curves: Sequence[Curve]) -> str:
    return "all classes" if curves else "model"


def _add_legend(axes: "Axes", place: Literal["lower left", "lower right", "upper left"]) -> None:
    axes.legend(loc=place, fontsize=8, frameon=True, framealpha=0.9, edgecolor="none", labelcolor=INK)


def draw_reliability(probabilities: Probabilities, labels: Labels) -> Plot:
    """Observed accuracy for each stated confidence, over the 15 bins of the calibration error."""
    counts, confidence, accuracy = compute_calibration(probabilities, labels)
    figure, axes = new_figure()
    width = 1.0 / NUM_CALIBRATION_BINS
    centers = (np.arange(NUM_CALIBRATION_BINS) + 0.5) * width
    filled = counts > 0
    axes.bar(centers, accuracy, width=width * 0.92, color=ACCENT, label="accuracy")
    gaps = np.abs(confidence - accuracy)[filled]
    bottoms = np.minimum(confidence, accuracy)[filled]
    gap_bars = axes.bar(centers[filled], gaps, width * 0.92, bottoms, label="gap to the confidence", hatch="////", linewidth=0.8)
    for bar in gap_bars:
        bar.set(facecolor="none", edgecolor=CONTRAST)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":", label="perfectly calibrated")
    for center, count, height in zip(centers[filled], counts[filled], np.maximum(confidence, accuracy)[filled], strict=True):
        axes.text(center, height + 0.012, f"{count:,}", ha="center", va="bottom", fontsize=7, color=MUTED)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.07))
    _add_legend(axes, "upper left")
    caption = (
        "Bars that end below the dotted line: the model is surer than it should be. The small numbers count the samples. "
        f"Calibration error {compute_ece(probabilities, labels):.4f}."
    )
    return Plot(name="reliability", title="Reliability", caption=caption, png=to_png(figure))
