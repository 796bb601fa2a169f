"""The rules that look at samples: each turns the index and the policy into findings."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slipway.config import DataConfig
from slipway.data.findings import MAX_SHOWN, Finding, Severity
from slipway.data.index import SampleIndex
from slipway.data.splits import find_disagreeing, find_leaked, find_repeated

_MANY_CLASSES_SHARE = 0.25


def count_classes(index: SampleIndex) -> NDArray[np.int64]:
    """Readable samples of each class [classes]."""
    labels = index.labels[index.readable & index.in_range]
    return np.bincount(labels, minlength=len(index.class_names))


def _first_places(index: SampleIndex, mask: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(index.where(int(row)) for row in np.flatnonzero(mask)[:MAX_SHOWN])


def _judge_share(
    index: SampleIndex, mask: NDArray[np.bool_], *, out_of: int, rule: str, setting: str, limit: float, what: str, then: str
) -> list[Finding]:
    """A finding on a share of samples: nothing where there are none, blocking beyond the limit."""
    count = int(mask.sum())
    if not count:
        return []
    share = count / out_of
    blocks = share > limit
    verdict = (
        f"more than {setting}={limit:g} lets through. Mend the data, or raise {setting} to {_round_up(share):g}."
        if blocks
        else f"within {setting}={limit:g}. {then}"
    )
    return [
        Finding(
            rule=rule,
            severity="block" if blocks else "warn",
            message=f"{count} of {out_of} {what}: {share:.2%}, {verdict}",
            where=_first_places(index, mask),
            figures={"count": count, "share": share, "limit": limit},
        )
    ]


def _round_up(share: float) -> float:
    """The next value with at most four decimals that lets `share` through."""
    return float(np.ceil(share * 1e4) / 1e4)


def _find_unreadable(index: SampleIndex, config: DataConfig) -> list[Finding]:
    findings = _judge_share(
        index,
        ~index.readable,
        out_of=index.num_samples,
        rule="unreadable",
        setting="data.max_unreadable",
        limit=config.max_unreadable,
        what="samples cannot be read",
        then="They are left out.",
    )
    rows = np.flatnonzero(~index.readable)[:MAX_SHOWN]
    where = tuple(f"{index.where(int(row))}: {index.rows['problem'][int(row)].as_py()}" for row in rows)
    return [replace(finding, where=where) for finding in findings]


def _find_wrong_labels(index: SampleIndex, config: DataConfig) -> list[Finding]:  # noqa: ARG001 (all rules look alike)
    wrong = ~index.in_range
    if not wrong.any():
        return []
    values = sorted({int(value) for value in index.labels[wrong]})
    count = int(wrong.sum())
    message = (
        f"{count} labels are outside the range 0 to {_highest_label(index)}: {', '.join(map(str, values[:MAX_SHOWN]))}. "
        "Correct the labels; for an IDX data set of more than 10 classes give their number: idx://DIR?classes=47."
    )
    where = tuple(f"{index.where(int(row))} has label {index.labels[row]}" for row in np.flatnonzero(wrong)[:MAX_SHOWN])
    return [Finding(rule="label_range", severity="block", message=message, where=where, figures={"count": count})]


def _highest_label(index: SampleIndex) -> int:
    return len(index.class_names) - 1


def _find_small_classes(index: SampleIndex, config: DataConfig) -> list[Finding]:
    counts = count_classes(index)
    few = np.flatnonzero(counts < config.min_class_samples)
    if not len(few):
        return []
    named = ", ".join(f"{index.class_names[label]!r} has {counts[label]}" for label in few[:MAX_SHOWN])
    more = f" and {len(few) - MAX_SHOWN} more classes" if len(few) > MAX_SHOWN else ""
    message = (
        f"Classes have fewer samples than data.min_class_samples={config.min_class_samples}: {named}{more}. "
        "Add samples, leave the class out, or lower the setting."
    )
    if len(counts) > index.num_samples * _MANY_CLASSES_SHARE:
        message += " So many classes suggest that the labels are not classes."
    figures = {"classes": float(len(few)), "fewest": float(counts.min()), "limit": float(config.min_class_samples)}
    return [Finding(rule="min_class_samples", severity="block", message=message, figures=figures)]


def _find_imbalance(index: SampleIndex, config: DataConfig) -> list[Finding]:
    counts = count_classes(index)
    if counts.min() == 0:
        return []  # said by the rule above
    ratio = float(counts.max() / counts.min())
    biggest, smallest = index.class_names[int(counts.argmax())], index.class_names[int(counts.argmin())]
    severity: Severity = "info"
    message = f"The largest class ({biggest!r}) has {ratio:.1f} times as many samples as the smallest ({smallest!r})"
    if ratio > config.max_imbalance:
        severity = "block"
        message += (
            f", more than data.max_imbalance={config.max_imbalance:g} lets through. Add samples of {smallest!r}, or raise it."
        )
    elif counts.max() == counts.min():
        message = f"All classes have {counts.min()} samples."
    else:
        message += "."
    figures = {"ratio": ratio, "limit": config.max_imbalance}
    return [Finding(rule="class_balance", severity=severity, message=message, figures=figures)]


def _find_constant(index: SampleIndex, config: DataConfig) -> list[Finding]:
    constant = np.asarray(index.rows["constant"].fill_null(False).to_numpy())
    return _judge_share(
        index,
        constant,
        out_of=index.num_samples,
        rule="constant",
        setting="data.max_constant",
        limit=config.max_constant,
        what="images are of one single colour",
        then="They stay in the data set.",
    )


def _find_duplicates(index: SampleIndex, config: DataConfig) -> list[Finding]:
    repeated = find_repeated(index, index.readable)
    return _judge_share(
        index,
        repeated,
        out_of=index.num_samples,
        rule="duplicates",
        setting="data.max_duplicates",
        limit=config.max_duplicates,
        what="samples repeat an earlier one exactly",
        then="One of each is kept.",
    )


def _find_disagreement(index: SampleIndex, config: DataConfig) -> list[Finding]:  # noqa: ARG001
    disagreeing = find_disagreeing(index, index.readable)
    count = int(disagreeing.sum())
    if not count:
        return []
    then = "They are left out: nobody can say which label is right." if index.kind == "images" else "They stay, in one split."
    return [
        Finding(
            rule="labels_disagree",
            severity="warn",
            message=f"{count} samples have the same content as another and a different label. {then}",
            where=tuple(
                f"{index.where(int(row))} as {index.class_names[index.labels[row]]!r}"
                for row in _group_first(index, disagreeing & index.in_range)
            ),
            figures={"count": count, "share": count / index.num_samples},
        )
    ]


def _group_first(index: SampleIndex, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first rows of the mask, those of equal content beside each other."""
    rows = np.flatnonzero(mask)
    return rows[np.argsort(index.content_groups[rows], kind="stable")][:MAX_SHOWN]


def _find_leaks(index: SampleIndex, config: DataConfig) -> list[Finding]:
    num_test = int(index.from_test.sum())
    if not num_test:
        if config.split_by != "source":
            return []
        message = "data.split_by is 'source', but the source has no test set of its own. Set data.split_by=hash."
        return [Finding(rule="split", severity="block", message=message)]
    train_groups = np.unique(index.content_groups[~index.from_test & index.readable])
    in_both = index.from_test & index.readable & np.isin(index.content_groups, train_groups)
    findings = _judge_share(
        index,
        in_both,
        out_of=num_test,
        rule="leaked",
        setting="data.max_leaked",
        limit=config.max_leaked,
        what="samples of the source's test set stand in its training set too",
        then=f"The {int(find_leaked(index).sum())} training copies are left out.",
    )
    if config.split_by == "hash":  # the source's own split is not used, and equal content always shares a split
        return [replace(finding, severity="info") for finding in findings]
    return findings


SAMPLE_RULES: tuple[Callable[[SampleIndex, DataConfig], list[Finding]], ...] = (
    _find_unreadable,
    _find_wrong_labels,
    _find_small_classes,
    _find_imbalance,
    _find_constant,
    _find_duplicates,
    _find_disagreement,
    _find_leaks,
)
