import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.data.dataset import Dataset
from slipway.data.loaders import MappedBatches, SplitData
from slipway.errors import DataError
from slipway.tasks.registry import load_training_task

CPU = torch.device("cpu")


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5), data=st.data())
@settings(max_examples=60, derandomize=True)
def test_a_batch_over_shards_is_what_indexing_the_whole_would_give(sizes, data):
    num_rows = sum(sizes)
    images = np.random.default_rng(0).integers(0, 256, (num_rows, 3, 2, 1), dtype=np.uint8)
    numbers = np.arange(num_rows, dtype=np.float32)
    cuts = np.cumsum(sizes)[:-1]
    split = SplitData(
        inputs={"image": np.split(images, cuts), "number": np.split(numbers, cuts)}, targets=np.arange(num_rows, dtype=np.int64)
    )
    rows = np.array(data.draw(st.lists(st.integers(0, num_rows - 1)) if num_rows else st.just([])), dtype=np.int64)
    rows.sort()
    batch, targets = MappedBatches(split, CPU).gather(rows)
    assert np.array_equal(batch["image"].numpy(), images[rows])
    assert np.array_equal(batch["number"].numpy(), numbers[rows])
    assert targets.tolist() == rows.tolist()


def test_images_are_read_from_the_mapped_shards_and_batches_are_copies_of_their_own(digits_dir):
    split = load_training_task("image-classification").load_split(Dataset.open(digits_dir), "train")
    assert all(not part.flags.owndata and not part.flags.writeable for part in split.inputs["image"])
    source = MappedBatches(split, CPU)
    first, _ = source.gather(np.arange(4))
    kept = first["image"].clone()
    source.gather(np.arange(4, 8))
    assert first["image"].dtype is torch.uint8
    assert torch.equal(first["image"], kept)


def test_inputs_and_targets_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="'image' has 3 rows where the split has 2 targets"):
        SplitData(inputs={"image": [np.zeros((3, 2, 2, 1), np.uint8)]}, targets=np.zeros(2, np.int64))
