"""The rules that look at a table's columns."""

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from slipway.data.findings import MAX_SHOWN, Finding
from slipway.data.manifest import Feature
from slipway.data.raw import RawTable

_MANY_CATEGORIES = 50
_IDENTIFIER_SHARE = 0.5


def check_columns(raw: RawTable) -> list[Finding]:
    """Findings on each column, and one on the missing values of all."""
    findings = [_find_missing(raw)]
    for feature in raw.features:
        column = raw.columns[feature.name]
        findings += _check_numeric(raw, feature, column) if feature.role == "numeric" else _check_categorical(feature, column)
    return findings


def _find_missing(raw: RawTable) -> Finding:
    counts = {feature.name: _count_missing(feature, raw.columns[feature.name]) for feature in raw.features}
    missing = {name: count for name, count in counts.items() if count}
    shown = sorted(missing, key=lambda name: -missing[name])[:MAX_SHOWN]
    message = f"{len(missing)} of {len(counts)} columns have missing values." if missing else "No value is missing."
    return Finding(
        rule="missing_values",
        severity="info",
        message=message,
        where=tuple(f"column {name!r}: {missing[name] / len(raw.labels):.1%}" for name in shown),
        figures={"columns": len(missing), "values": sum(missing.values())},
    )


def _count_missing(feature: Feature, column: pa.ChunkedArray) -> int:
    if feature.role == "categorical":
        return int(column.null_count)
    return int(np.isnan(column.to_numpy()).sum())


def _check_numeric(raw: RawTable, feature: Feature, column: pa.ChunkedArray) -> list[Finding]:
    values = column.to_numpy()
    where = (f"column {feature.name!r}",)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        message = (
            f"{len(infinite)} values are infinite or too large for 32-bit floats (first in row {infinite[0] + 1}). "
            f"Correct them in {raw.file}, or empty the cells: empty means missing."
        )
        return [Finding(rule="finite", severity="block", message=message, where=where, figures={"count": len(infinite)})]
    present = values[~np.isnan(values)]
    if not len(present):
        message = f"The column has no value at all. Leave it out with drop={feature.name}."
        return [Finding(rule="empty_column", severity="block", message=message, where=where)]
    if present.min() == present.max():
        message = f"The column always says {present[0]:g}: nothing can be learnt from it."
        return [Finding(rule="constant_column", severity="warn", message=message, where=where)]
    return []


def _check_categorical(feature: Feature, column: pa.ChunkedArray) -> list[Finding]:
    where = (f"column {feature.name!r}",)
    num_present = len(column) - column.null_count
    num_categories = pc.count_distinct(column, mode="only_valid").as_py()
    if num_categories == 0:
        message = f"The column has no value at all. Leave it out with drop={feature.name}."
        return [Finding(rule="empty_column", severity="block", message=message, where=where)]
    if num_categories == 1:
        message = "The column always says the same: nothing can be learnt from it."
        return [Finding(rule="constant_column", severity="warn", message=message, where=where)]
    if num_categories > _MANY_CATEGORIES and num_categories > num_present * _IDENTIFIER_SHARE:
        message = (
            f"The column has {num_categories} different values in {num_present} rows, as names and identifiers have: a model "
            f"would learn rows by heart. Leave it out with drop={feature.name}."
        )
        return [
            Finding(
                rule="identifier_column",
                severity="warn",
                message=message,
                where=where,
                figures={"categories": num_categories},
            )
        ]
    return []
