"""Which settings decide what a training gives, and which only where it runs."""

from dataclasses import replace

import pytest

from slipway.config import TrainConfig
from slipway.training.job import count_workers, describe_learning, describe_result

BASE = TrainConfig(num_processes=2)


@pytest.mark.parametrize(
    "spread",
    [
        {"num_nodes": 2, "num_processes": 1},
        {"launcher": "train-job"},
        {"schedule_seconds": 900},
        {"node_selector": "pool=training"},
        {"tolerations": "dedicated=ml:NoSchedule"},
        {"shared_memory_gib": 8},
        {"max_restarts": 9},
        {"checkpoint_steps": 5},
    ],
    ids=lambda spread: next(iter(spread)),
)
def test_one_result_serves_however_the_same_number_of_processes_is_spread(spread):
    assert describe_result(replace(BASE, **spread)) == describe_result(BASE)


def test_the_number_of_processes_and_their_device_are_part_of_the_result_but_not_of_what_a_checkpoint_belongs_to():
    """Augmentation and batch normalisation are each process's own, precision follows the device."""
    for changes in ({"num_processes": 4}, {"num_gpus": 2}, {"num_nodes": 2}):
        changed = replace(BASE, **changes)
        assert describe_result(changed) != describe_result(BASE)
        assert describe_learning(changed) == describe_learning(BASE)
    assert describe_learning(replace(BASE, learning_rate=0.5)) != describe_learning(BASE)


def test_processes_are_counted_over_all_nodes():
    assert count_workers(TrainConfig(num_nodes=3, num_processes=2)) == 6
    assert count_workers(TrainConfig(num_nodes=3, num_processes=2, num_gpus=8)) == 24
