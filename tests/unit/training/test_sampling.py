import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.errors import ConfigError
from slipway.training.sampling import MIN_SHARE, count_steps, plan_epoch, take_share

plans = st.fixed_dictionaries(
    {
        "num_rows": st.integers(16, 400),
        "batch_size": st.integers(16, 100),
        "seed": st.integers(0, 2**32),
        "epoch": st.integers(0, 1000),
    }
)


def shares(plan, world_size):
    steps = count_steps(plan["num_rows"], plan["batch_size"], world_size)
    batches = plan_epoch(plan["num_rows"], steps, plan["seed"], plan["epoch"])
    return [[take_share(rows, rank, world_size) for rank in range(world_size)] for rows in batches]


@given(plan=plans, world_size=st.integers(1, 8))
@settings(max_examples=100, derandomize=True)
def test_all_processes_together_see_each_sample_once_in_equal_numbers_of_steps(plan, world_size):
    steps = shares(plan, world_size)
    seen = np.concatenate([rows for step in steps for rows in step])
    assert sorted(seen) == list(range(plan["num_rows"]))
    for step in steps:
        sizes = [len(rows) for rows in step]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= MIN_SHARE
        assert sum(sizes) <= plan["batch_size"]


@given(plan=plans, world_size=st.integers(2, 4))
@settings(max_examples=50, derandomize=True)
def test_a_step_covers_the_same_samples_for_any_number_of_processes(plan, world_size):
    alone, together = shares(plan, 1), shares(plan, world_size)
    assert len(alone) == len(together)
    for (rows,), parts in zip(alone, together, strict=True):
        assert set(rows) == set(np.concatenate(parts))


def test_each_epoch_and_seed_has_an_order_of_its_own_that_repeats():
    def order(seed, epoch):
        return np.concatenate(plan_epoch(50, 5, seed, epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_a_batch_too_small_to_share_is_refused_with_what_is_accepted():
    with pytest.raises(ConfigError, match=r"train.batch_size is 4, which 4 process\(es\) share; accepted: 8 or more"):
        count_steps(1000, 4, 4)
