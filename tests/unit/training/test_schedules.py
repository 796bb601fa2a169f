from itertools import pairwise

import pytest

from slipway.config import TrainConfig
from slipway.training.schedules import count_plateaus, learning_rate_multiplier


def multipliers(steps_per_epoch=10, scores=(), **settings):
    config = TrainConfig(**{"epochs": 10, "warmup_epochs": 0, **settings})
    return [learning_rate_multiplier(config, step, steps_per_epoch, scores) for step in range(10 * steps_per_epoch)]


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "plateau"])
def test_warm_up_rises_evenly_to_the_peak_and_never_starts_at_zero(schedule):
    rates = multipliers(schedule=schedule, warmup_epochs=2)
    differences = [after - before for before, after in pairwise(rates[:21])]
    assert rates[0] > 0
    assert differences == pytest.approx([1 / 21] * 20, abs=1e-2)
    assert max(rates) == rates[20] == 1.0


def test_cosine_falls_all_the_way_and_ends_almost_at_zero():
    rates = multipliers(schedule="cosine")
    assert rates == sorted(rates, reverse=True)
    assert rates[50] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001


def test_step_reduces_after_every_so_many_epochs():
    assert multipliers(schedule="step", step_epochs=4, step_factor=0.5)[::10] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_one_cycle_peaks_at_three_tenths_and_ends_below_where_it_began():
    rates = multipliers(schedule="one-cycle")
    assert rates.index(max(rates)) == 30
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[-1] < rates[0] / 10


def test_plateau_reduces_when_the_score_has_not_improved_for_its_patience():
    assert count_plateaus([0.5, 0.6, 0.6, 0.59], patience=2) == 1
    assert count_plateaus([0.5, 0.6, 0.59, 0.61, 0.6], patience=2) == 0
    assert count_plateaus([0.9, 0.1, 0.1, 0.1, 0.1, 0.1], patience=2) == 2
    assert multipliers(schedule="plateau", step_epochs=2, scores=[0.9, 0.1, 0.1])[-1] == pytest.approx(0.1)


def test_one_epoch_of_training_still_has_a_learning_rate():
    config = TrainConfig(epochs=1, warmup_epochs=1)
    assert learning_rate_multiplier(config, 0, 5, ()) == 1.0
