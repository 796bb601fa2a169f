import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.config import DataConfig
from slipway.data.arrays import ArrayPart, read_arrays
from slipway.data.index import build_index
from slipway.data.manifest import SPLITS
from slipway.data.preprocess import sample_id
from slipway.data.splits import LEFT_OUT, select_samples
from slipway.errors import DataError

quick = settings(max_examples=25, deadline=None, derandomize=True)


def index_of(images, labels, test_images=None, test_labels=()):
    origin = "" if test_images is None else "train"
    parts = [ArrayPart(name="train", origin=origin, images=images[..., np.newaxis], labels=np.array(labels))]
    if test_images is not None:
        parts.append(ArrayPart(name="test", origin="test", images=test_images[..., np.newaxis], labels=np.array(test_labels)))
    return build_index(read_arrays(("a", "b"), parts))


def images_of(seed, count):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 4), dtype=np.uint8)


def alternate(count):
    return [number % 2 for number in range(count)]


def splits_by_id(index, config):
    selection = select_samples(index, config)
    rows = np.flatnonzero(selection.splits != LEFT_OUT)
    splits = {sample_id(index, int(row)): SPLITS[selection.splits[row]] for row in rows}
    assert len(splits) == len(rows), "a sample's id stands for one sample"
    return splits


@quick
@given(
    data_seed=st.integers(0, 1000),
    split_seed=st.integers(0, 1000),
    num_added=st.integers(0, 300),
    order_seed=st.integers(0, 1000),
)
def test_adding_and_reordering_data_never_moves_a_sample(data_seed, split_seed, num_added, order_seed):
    config = DataConfig(seed=split_seed)
    images = images_of(data_seed, 150 + num_added)
    before = splits_by_id(index_of(images[:150], alternate(150)), config)
    order = np.random.default_rng(order_seed).permutation(len(images))
    after = splits_by_id(index_of(images[order], np.array(alternate(len(images)))[order]), config)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(images)


@quick
@given(data_seed=st.integers(0, 1000), copies=st.lists(st.integers(0, 149), max_size=200))
def test_of_equal_samples_one_is_kept(data_seed, copies):
    images = images_of(data_seed, 150)
    labels = alternate(150)
    plain = splits_by_id(index_of(images, labels), DataConfig())
    repeated = index_of(np.concatenate([images, images[copies]]), labels + [labels[copy] for copy in copies])
    assert splits_by_id(repeated, DataConfig()) == plain


@quick
@given(data_seed=st.integers(0, 1000), leaked=st.sets(st.integers(0, 199), max_size=60), swap=st.booleans())
def test_the_sources_test_set_stays_whole_and_out_of_training(data_seed, leaked, swap):
    images, labels = images_of(data_seed, 200), alternate(200)
    copied = sorted(leaked)
    test_images = np.concatenate([images_of(data_seed + 5000, 40), images[copied]])
    test_labels = alternate(40) + [labels[row] ^ swap for row in copied]
    index = index_of(images, labels, test_images, test_labels)
    splits = select_samples(index, DataConfig(split_by="source")).splits
    assert (splits[200:] == SPLITS.index("test")).all()
    assert (splits[:200] != SPLITS.index("test")).all()
    assert np.flatnonzero(splits[:200] == LEFT_OUT).tolist() == copied


@quick
@given(test_fraction=st.floats(0.1, 0.4), validation_fraction=st.floats(0.1, 0.4), seed=st.integers(0, 10**6))
def test_splits_have_the_sizes_that_were_asked_for(test_fraction, validation_fraction, seed):
    config = DataConfig(test_fraction=test_fraction, validation_fraction=validation_fraction, seed=seed)
    splits = list(splits_by_id(index_of(images_of(0, 1000), alternate(1000)), config).values())
    assert splits.count("test") == pytest.approx(1000 * test_fraction, abs=80)
    assert splits.count("validation") == pytest.approx(1000 * validation_fraction, abs=80)


def test_the_splits_are_frozen():
    """These ids were computed when the format was laid down: if this fails, every data set's test split has moved."""
    index = index_of(images_of(0, 60), alternate(60))
    splits = splits_by_id(index, DataConfig())
    in_test = [key[:8] for key, split in splits.items() if split == "test"]
    assert in_test == ["4c6ab52d", "1f8cad22", "90dbc852", "ead9c9f0", "828969c6", "f2989467", "a4b2f2d2", "5db875cd"]


def test_images_whose_labels_disagree_are_left_out():
    images = images_of(0, 150)
    index = index_of(np.concatenate([images, images[:3]]), alternate(150) + [1 - label for label in alternate(3)])
    selection = select_samples(index, DataConfig())
    assert np.flatnonzero(selection.splits == LEFT_OUT).tolist() == [0, 1, 2, 150, 151, 152]
    assert selection.left_out == {"labels_disagree": 6}


def test_the_sources_test_set_can_be_set_aside():
    index = index_of(images_of(0, 200), alternate(200), images_of(1, 200), alternate(200))
    selection = select_samples(index, DataConfig(split_by="hash"))
    assert selection.split_by == "hash"
    assert 0 < (selection.splits[200:] == SPLITS.index("train")).sum() < 200


def test_asking_for_a_test_set_that_is_not_there_is_an_error():
    with pytest.raises(DataError, match=r"comes without a test set of its own\. Set data\.split_by=hash"):
        select_samples(index_of(images_of(0, 200), alternate(200)), DataConfig(split_by="source"))


def test_a_class_that_is_missing_from_a_split_is_named_with_a_seed_that_mends_it():
    index = index_of(images_of(0, 200), [1] * 2 + [0] * 198)
    with pytest.raises(DataError, match="No sample of class 'b' would be in the test split") as caught:
        select_samples(index, DataConfig(seed=0))
    usable = int(str(caught.value).split("data.seed=")[1].split()[0])
    select_samples(index, DataConfig(seed=usable))


def test_too_few_samples_for_three_splits_are_refused():
    with pytest.raises(DataError, match=r"would be empty \(2 samples in all\)"):
        select_samples(index_of(images_of(0, 2), alternate(2)), DataConfig())


def test_a_label_outside_its_range_is_named():
    with pytest.raises(DataError, match=r"train\[3\] has label 7; accepted: 0 to 1"):
        select_samples(index_of(images_of(0, 4), [0, 1, 0, 7]), DataConfig())
