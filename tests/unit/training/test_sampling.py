import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.data.dataset import Dataset
from slipway.errors import ConfigError
from slipway.settings import load_process_group
from slipway.training.distributed import Workers, join_workers
from slipway.training.run import open_trainer
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
        # Larger only where one more step would leave some process with a single sample.
        assert sum(sizes) <= plan["batch_size"] or len(steps) == plan["num_rows"] // (MIN_SHARE * world_size)


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


def test_a_validation_split_smaller_than_the_number_of_processes_is_refused(make_job):
    job = make_job(batch_size=512)
    workers = Workers(rank=0, size=200, restart_count=0, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"the validation split has \d+ samples, too few for 200 processes"):
        open_trainer(job, Dataset.open(job.dataset_dir), workers)


def test_the_gpus_of_several_nodes_are_counted_together_where_all_their_processes_share_a_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    group = load_process_group({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
    with pytest.raises(ConfigError, match="num_gpus is 1 and 2 processes are to share this machine"), join_workers(group, 1):
        pass


def test_fewer_gpus_than_asked_for_stop_every_process_and_not_only_those_without_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for rank in ("0", "1"):
        group = load_process_group({"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"})
        with pytest.raises(ConfigError, match=r"train.num_gpus is 2, but PyTorch sees 1 GPU\(s\)"), join_workers(group, 2):
            pass
