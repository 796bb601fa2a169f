"""Figures of a classifier, from its probabilities [samples, classes] and the true class indices [samples]."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slipway.tasks.task import Breakdown, ConfusionMatrix, Figure, RocCurve

Probabilities = NDArray[np.floating]
Labels = NDArray[np.int64]

TOP_K = 5
NUM_CALIBRATION_BINS = 15
MAX_ROC_POINTS = 100

FIGURES = {
    "accuracy": Figure(title="Accuracy", meaning="Share of the test samples that get the right class."),
    "top5_accuracy": Figure(
        title="Top-5 accuracy", meaning="Share of the samples whose class is among the five most probable ones."
    ),
    "precision_macro": Figure(
        title="Precision, macro", meaning="Of the samples taken for a class, the share that is of it; mean over classes."
    ),
    "recall_macro": Figure(
        title="Recall, macro", meaning="Of the samples of a class, the share that is found; mean over classes."
    ),
    "f1_macro": Figure(title="F1, macro", meaning="Harmonic mean of precision and recall; mean over classes."),
    "precision_weighted": Figure(title="Precision, weighted", meaning="As above, classes weighted by their samples."),
    "recall_weighted": Figure(title="Recall, weighted", meaning="As above, classes weighted by their samples."),
    "f1_weighted": Figure(title="F1, weighted", meaning="As above, classes weighted by their samples."),
    "roc_auc": Figure(
        title="ROC AUC", meaning="Chance that a sample of a class is ranked above one of another; mean over classes."
    ),
    "log_loss": Figure(
        title="Log loss", meaning="Mean surprise at the true class, in nats; wrong and sure costs most.", higher_is_better=False
    ),
    "ece": Figure(
        title="Calibration error",
        meaning="Expected gap between stated probability and observed accuracy (ECE, 15 bins).",
        higher_is_better=False,
    ),
    "precision": Figure(title="Precision", meaning="Of the samples taken for this class, the share that is of it."),
    "recall": Figure(title="Recall", meaning="Of the samples of this class, the share that is found."),
    "f1": Figure(title="F1", meaning="Harmonic mean of precision and recall."),
}


def compute_figures(probabilities: Probabilities, labels: Labels) -> dict[str, float]:
    """Overall figures. Averages over classes are over those that occur in `labels`, since recall is undefined for the others."""
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    figures = {"accuracy": float((predicted == labels).mean())}
    if num_classes > TOP_K:
        top = np.argpartition(probabilities, -TOP_K, axis=1)[:, -TOP_K:]
        figures["top5_accuracy"] = float((top == labels[:, None]).any(axis=1).mean())
    figures |= _average_figures(predicted, labels)
    roc_auc = compute_roc_auc(probabilities, labels)
    if roc_auc is not None:
        figures["roc_auc"] = roc_auc
    figures["log_loss"] = compute_log_loss(probabilities, labels)
    figures["ece"] = compute_ece(probabilities, labels)
    return figures


def _average_figures(predicted: Labels, labels: Labels) -> dict[str, float]:
    from sklearn.metrics import precision_recall_fscore_support

    present = np.unique(labels)
    figures: dict[str, float] = {}
    for average in ("macro", "weighted"):
        values = precision_recall_fscore_support(labels, predicted, labels=present, average=average, zero_division=0.0)
        figures |= {
            f"{name}_{average}": float(value) for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True)
        }
    return figures


def compute_roc_auc(probabilities: Probabilities, labels: Labels) -> float | None:
    """Mean over classes of one-versus-rest ROC AUC; None where a class does not occur, or is the only one that does."""
    from sklearn.metrics import roc_auc_score

    num_classes = probabilities.shape[1]
    if len(np.unique(labels)) < num_classes:
        return None
    areas = [roc_auc_score(labels == index, probabilities[:, index]) for index in range(num_classes)]
    return float(np.mean(areas))


def compute_log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Mean negative logarithm of the true class's probability, which is taken to be at least float32's epsilon."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(true, np.finfo(np.float32).eps, 1.0)).mean())


def compute_calibration(
    probabilities: Probabilities, labels: Labels
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Samples, mean confidence and accuracy in each of 15 bins of equal width over the confidence; 0 where a bin is empty."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    # Guo et al. bin over (lower, upper]: a confidence of exactly 1 belongs to the last bin.
    bins = np.clip(np.ceil(confidence * NUM_CALIBRATION_BINS).astype(np.int64) - 1, 0, NUM_CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_CALIBRATION_BINS)
    divisor = np.maximum(counts, 1)
    mean_confidence = np.bincount(bins, weights=confidence, minlength=NUM_CALIBRATION_BINS) / divisor
    accuracy = np.bincount(bins, weights=correct, minlength=NUM_CALIBRATION_BINS) / divisor
    return counts, mean_confidence, accuracy


def compute_ece(probabilities: Probabilities, labels: Labels) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy over 15 bins, weighted by their samples.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), equation 3.
    """
    counts, confidence, accuracy = compute_calibration(probabilities, labels)
    return float((counts * np.abs(accuracy - confidence)).sum() / len(labels))


def count_confusions(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """Samples by true class (rows) and predicted class (columns)."""
    num_classes = probabilities.shape[1]
    flat = labels * num_classes + probabilities.argmax(axis=1)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def break_down_classes(probabilities: Probabilities, labels: Labels, class_names: Sequence[str]) -> Breakdown:
    """Precision, recall and F1 of each class, the confusion matrix, and the ROC curve."""
    from sklearn.metrics import precision_recall_fscore_support

    indices = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0.0)
    slices: dict[str, dict[str, float]] = {}
    for index, name in enumerate(class_names):
        taken = bool((predicted == index).any())
        defined = {"precision": (precision, taken), "recall": (recall, support[index] > 0), "f1": (f1, support[index] > 0)}
        slices[name] = {figure: float(values[index]) for figure, (values, is_defined) in defined.items() if is_defined}
    counts = count_confusions(probabilities, labels)
    confusion = ConfusionMatrix(
        class_names=tuple(class_names), counts=tuple(tuple(int(count) for count in row) for row in counts)
    )
    return Breakdown(slices=slices, confusion=confusion, roc=compute_roc_curve(probabilities, labels))


def compute_roc_curve(probabilities: Probabilities, labels: Labels) -> RocCurve | None:
    """The curve of class 1 where there are two classes, else the micro-average of one-versus-rest; None where undefined."""
    from sklearn.metrics import roc_curve

    truth, scores = pool_decisions(probabilities, labels)
    if truth.all() or not truth.any():
        return None
    false_positive_rates, true_positive_rates, thresholds = roc_curve(truth, scores)
    kept = np.unique(np.linspace(0, len(thresholds) - 1, MAX_ROC_POINTS).round().astype(np.int64))
    return RocCurve(
        false_positive_rates=tuple(false_positive_rates[kept].tolist()),
        true_positive_rates=tuple(true_positive_rates[kept].tolist()),
        # The curve's first threshold is infinite: nothing passes it. Nothing passes one above 1 either.
        thresholds=tuple(np.minimum(thresholds[kept], 1.0).tolist()),
    )


def pool_decisions(probabilities: Probabilities, labels: Labels) -> tuple[NDArray[np.bool_], Probabilities]:
    """All yes-or-no decisions of the classifier in one row: class 1 or not for two classes, else every class or not."""
    if probabilities.shape[1] <= 2:  # noqa: PLR2004
        return labels == 1, probabilities[:, -1]
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    return truth.ravel(), probabilities.ravel()
