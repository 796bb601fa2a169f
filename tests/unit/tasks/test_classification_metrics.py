import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.tasks.classification_metrics import (
    break_down_classes,
    compute_calibration,
    compute_ece,
    compute_figures,
    compute_log_loss,
)
from slipway.tasks.image_classification.task import TASK

FOUR = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], dtype=np.float32)
FOUR_LABELS = np.array([0, 1, 1, 2])


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of any size; some classes never occur, some probabilities are exactly 0 or 1, many are tied."""
    num_classes, count = draw(st.integers(2, 9)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = generator.integers(0, draw(st.integers(1, num_classes)), size=count)
    weights = generator.random((count, num_classes)) ** draw(st.sampled_from([0.0, 1.0, 60.0]))
    if draw(st.booleans()):
        weights = np.eye(num_classes)[generator.integers(0, num_classes, size=count)]
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32), labels


def test_the_figures_of_four_samples_worked_out_by_hand():
    figures = compute_figures(FOUR, FOUR_LABELS)
    assert figures["accuracy"] == 0.75
    assert figures["precision_macro"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert figures["recall_macro"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert figures["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert figures["recall_weighted"] == pytest.approx(0.75)
    assert figures["f1_weighted"] == pytest.approx((2 / 3 + 2 * 2 / 3 + 1) / 4)
    assert figures["log_loss"] == pytest.approx(-np.log([0.8, 0.5, 0.3, 0.7]).mean())
    assert figures["ece"] == pytest.approx((0.2 + 0.5 + 0.6 + 0.3) / 4)
    # Of the pairs (sample of the class, other sample), the share ranked rightly: class 0 3/3, class 1 4/4, class 2 3/3.
    assert figures["roc_auc"] == pytest.approx(1.0)
    assert "top5_accuracy" not in figures


def test_top5_counts_a_class_among_the_five_most_probable():
    ranked = np.linspace(0.9, 0.1, 7)
    probabilities = np.stack([ranked, ranked]) / ranked.sum()
    figures = compute_figures(probabilities, np.array([4, 5]))
    assert figures["accuracy"] == 0.0
    assert figures["top5_accuracy"] == 0.5


def test_calibration_bins_hold_their_upper_edge():
    probabilities = np.array([[1.0, 0.0], [0.6, 0.4], [0.6, 0.4]])
    counts, confidence, accuracy = compute_calibration(probabilities, np.array([0, 0, 1]))
    assert counts[14] == 1
    assert counts[8] == 2  # (8/15, 9/15]
    assert confidence[8] == pytest.approx(0.6)
    assert accuracy[8] == 0.5
    assert compute_ece(probabilities, np.array([0, 0, 1])) == pytest.approx(2 / 3 * 0.1)


def test_a_class_that_no_test_sample_has_leaves_out_what_it_makes_undefined():
    labels = np.array([0, 0, 1, 1])
    figures = compute_figures(FOUR, labels)
    assert "roc_auc" not in figures
    assert figures["recall_macro"] == pytest.approx((1 / 2 + 0) / 2)
    breakdown = break_down_classes(FOUR, labels, ["a", "b", "c"])
    assert breakdown.slices["c"] == {"precision": 0.0}
    masks = TASK.find_slices(labels, ["a", "b", "c"])
    assert [int(mask.sum()) for mask in masks.values()] == [2, 2, 0]


@settings(max_examples=120, derandomize=True)
@given(answers())
def test_every_figure_of_any_answers_is_finite_and_accuracy_is_the_mean_score(case):
    probabilities, labels = case
    names = [f"class {index}" for index in range(probabilities.shape[1])]
    outputs = {"probabilities": probabilities}
    figures = TASK.compute_metrics(outputs, labels, names)
    breakdown = TASK.break_down(outputs, labels, names)
    values = [*figures.values(), *(value for each in breakdown.slices.values() for value in each.values())]
    if breakdown.roc is not None:
        values += [*breakdown.roc.false_positive_rates, *breakdown.roc.true_positive_rates, *breakdown.roc.thresholds]
    assert np.isfinite(values).all()
    assert figures.keys() <= TASK.figures.keys()
    assert figures[TASK.primary_metric.name] == pytest.approx(TASK.score_samples(outputs, labels).mean())
    assert breakdown.confusion is not None
    assert np.sum(breakdown.confusion.counts) == len(labels)
    assert np.trace(breakdown.confusion.counts) == TASK.score_samples(outputs, labels).sum()


@settings(max_examples=50, derandomize=True)
@given(answers())
def test_log_loss_is_scikit_learns_but_for_the_clipping(case):
    from sklearn.metrics import log_loss

    probabilities, labels = case
    smooth = (probabilities.astype(np.float64) + 0.01) / (1 + 0.01 * probabilities.shape[1])
    smooth /= smooth.sum(axis=1, keepdims=True)
    expected = log_loss(labels, smooth, labels=range(probabilities.shape[1]))
    assert compute_log_loss(smooth, labels) == pytest.approx(expected)


def test_the_roc_curve_of_many_samples_is_thinned_out_and_keeps_its_ends():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=3000)
    roc = break_down_classes(probabilities, generator.integers(0, 4, 3000), list("abcd")).roc
    assert roc is not None
    assert len(roc.thresholds) <= 100
    assert (roc.false_positive_rates[0], roc.true_positive_rates[0]) == (0.0, 0.0)
    assert (roc.false_positive_rates[-1], roc.true_positive_rates[-1]) == (1.0, 1.0)


@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_pictures_are_drawn_for_any_number_of_classes_and_any_names(num_classes):
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(num_classes), size=300)
    names = [f"$x_{index}$ \\frac <b>{'long ' * 10}" for index in range(num_classes)]
    labels = generator.integers(0, num_classes, 300)
    plots = TASK.draw_plots({"probabilities": probabilities}, labels, names)
    assert [plot.name for plot in plots] == ["confusion_matrix", "roc", "precision_recall", "reliability"]
    assert all(plot.png.startswith(b"\x89PNG") for plot in plots)
    again = TASK.draw_plots({"probabilities": probabilities}, labels, names)
    assert [plot.png for plot in plots] == [plot.png for plot in again]


def test_one_class_alone_in_the_test_split_draws_what_is_defined():
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6]])
    plots = TASK.draw_plots({"probabilities": probabilities}, np.array([0, 0]), ["a", "b"])
    assert [plot.name for plot in plots] == ["confusion_matrix", "reliability"]
