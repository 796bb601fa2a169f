"""Which samples make up a data set, and in which split each of them is.

Invariants:
- A sample's split follows from its content and the seed (and, where the source's own test set is kept, from being in it):
  adding data never moves a sample.
- Equal content never stands in two splits.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipway.config import DataConfig
from slipway.data.index import SampleIndex
from slipway.data.manifest import SPLITS, Split
from slipway.errors import DataError

LEFT_OUT = -1
_TRAIN, _VALIDATION, _TEST = range(3)
_TOLERANCE_DEVIATIONS = 5.0
_SEEDS_TRIED = 100
_MAX_ROWS_FOR_SEEDS = 20_000


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What becomes of each ingested sample."""

    splits: NDArray[np.int8]
    """Position in SPLITS, or LEFT_OUT [samples]."""
    split_by: str
    """`source` or `hash`: the rule that was used."""
    left_out: dict[str, int]
    """Samples left out, by reason."""

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Ingested samples of `split`, in the source's order."""
        return np.flatnonzero(self.splits == SPLITS.index(split))


def split_position(content: bytes, seed: int) -> float:
    """Where a sample stands between 0 and 1: uniform, and decided by its content and the seed alone."""
    digest = hashlib.sha256(seed.to_bytes(8, "little", signed=True) + content).digest()
    return int.from_bytes(digest[:8]) / 2**64


def select_samples(index: SampleIndex, config: DataConfig) -> Selection:
    """Choose the samples of the data set and their splits.

    Left out are unreadable samples, all but one of those that repeat each other, training copies of the source's test
    samples, and images of equal content whose labels disagree.

    Raises:
        DataError: a label is outside its range, `data.split_by=source` where the source has no test set, a split is empty or
            outside its tolerance, or a class is missing from train or test.
    """
    _check_labels(index)
    keep_test = _keeps_source_test(index, config)
    kept, left_out = _choose(index, keep_test)
    splits = np.full(index.num_samples, LEFT_OUT, np.int8)
    rows = np.flatnonzero(kept)
    splits[rows] = _assign(index, rows, config, config.seed, keep_test)
    selection = Selection(splits=splits, split_by="source" if keep_test else "hash", left_out=left_out)
    problem = _find_problem(index, splits[rows], index.labels[rows], config, keep_test)
    if problem:
        raise DataError(f"{problem} {_remedy(index, rows, config, keep_test)}")
    return selection


def _keeps_source_test(index: SampleIndex, config: DataConfig) -> bool:
    has_test = bool(index.from_test.any())
    if config.split_by == "source" and not has_test:
        raise DataError(
            f"data.split_by is 'source', but {config.source} comes without a test set of its own. Set data.split_by=hash."
        )
    return has_test and config.split_by != "hash"


def _check_labels(index: SampleIndex) -> None:
    wrong = np.flatnonzero(~index.in_range)
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{index.where(row)} has label {index.labels[row]}; accepted: 0 to {len(index.class_names) - 1} "
            f"({len(wrong)} such samples). Correct the labels."
        )


def find_disagreeing(index: SampleIndex, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Samples of the mask `among` whose content occurs in it under another label too [samples]."""
    disagreeing = np.zeros(index.num_samples, bool)
    rows = np.flatnonzero(among)
    if len(rows):
        groups, labels = index.content_groups[rows], index.labels[rows]
        lowest = np.full(groups.max() + 1, np.iinfo(np.int64).max)
        highest = np.full(groups.max() + 1, np.iinfo(np.int64).min)
        np.minimum.at(lowest, groups, labels)
        np.maximum.at(highest, groups, labels)
        disagreeing[rows] = (lowest < highest)[groups]
    return disagreeing


def find_repeated(index: SampleIndex, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Samples of the mask `among` that repeat an earlier one of it, with the same label [samples]."""
    rows = np.flatnonzero(among)
    keys = np.stack([index.content_groups[rows], index.labels[rows]], axis=1)
    _, first = np.unique(keys, axis=0, return_index=True)
    repeated = among.copy()
    repeated[rows[first]] = False
    return repeated


def find_leaked(index: SampleIndex) -> NDArray[np.bool_]:
    """Readable training samples whose content also stands in the source's own test set [samples]."""
    test_groups = np.unique(index.content_groups[index.from_test & index.readable])
    return index.readable & ~index.from_test & np.isin(index.content_groups, test_groups)


def _choose(index: SampleIndex, keep_test: bool) -> tuple[NDArray[np.bool_], dict[str, int]]:
    kept = index.readable.copy()
    left_out = {"unreadable": int((~kept).sum())}

    def leave_out(reason: str, rows: NDArray[np.bool_]) -> None:
        nonlocal kept
        left_out[reason] = int(rows.sum())
        kept = kept & ~rows

    if keep_test:
        leave_out("in_test_too", find_leaked(index))
    if index.kind == "images":
        leave_out("labels_disagree", find_disagreeing(index, kept))
    leave_out("repeated", find_repeated(index, kept))
    return kept, {reason: count for reason, count in left_out.items() if count}


def _assign(index: SampleIndex, rows: NDArray[np.int64], config: DataConfig, seed: int, keep_test: bool) -> NDArray[np.int8]:
    contents = index.contents
    positions = np.array([split_position(contents[row] or b"", seed) for row in rows])
    if keep_test:
        held_out = np.where(positions < config.validation_fraction, _VALIDATION, _TRAIN)
        return np.where(index.from_test[rows], _TEST, held_out).astype(np.int8)
    in_validation = positions < config.test_fraction + config.validation_fraction
    held_out = np.where(in_validation, _VALIDATION, _TRAIN)
    return np.where(positions < config.test_fraction, _TEST, held_out).astype(np.int8)


def _find_problem(
    index: SampleIndex, splits: NDArray[np.int8], labels: NDArray[np.int64], config: DataConfig, keep_test: bool
) -> str:
    """What makes the split unusable; "" where nothing does."""
    num_drawn = int((splits != _TEST).sum()) if keep_test else len(splits)
    fractions = {"validation": config.validation_fraction} | ({} if keep_test else {"test": config.test_fraction})
    for position, split in enumerate(SPLITS):
        size = int((splits == position).sum())
        if size == 0:
            return f"The {split} split of {config.source} would be empty ({len(splits)} samples in all)."
        expected = num_drawn * fractions.get(split, 0.0)
        allowed = _TOLERANCE_DEVIATIONS * np.sqrt(expected) + 1
        if split in fractions and abs(size - expected) > allowed:
            return f"The {split} split of {config.source} would have {size} samples where about {expected:.0f} are expected."
    for position in (_TRAIN, _TEST):
        missing = np.setdiff1d(np.arange(len(index.class_names)), labels[splits == position])
        if len(missing):
            names = ", ".join(repr(index.class_names[label]) for label in missing[:5])
            return f"No sample of class {names} would be in the {SPLITS[position]} split of {config.source}."
    return ""


def _remedy(index: SampleIndex, rows: NDArray[np.int64], config: DataConfig, keep_test: bool) -> str:
    if keep_test:
        return "Mend the source's own test set, or set data.split_by=hash."
    if len(rows) <= _MAX_ROWS_FOR_SEEDS:
        for seed in range(_SEEDS_TRIED):
            splits = _assign(index, rows, config, seed, keep_test)
            if not _find_problem(index, splits, index.labels[rows], config, keep_test):
                return f"Add samples of the classes that have few, or take another split: data.seed={seed} gives a usable one."
    return "Add samples of the classes that have few, or raise data.test_fraction and data.validation_fraction."
