"""Is this data fit to train on? Asks every rule and gathers what they find."""

from pathlib import Path

import numpy as np

from slipway.config import DataConfig
from slipway.data.column_rules import check_columns
from slipway.data.findings import Severity, ValidationReport
from slipway.data.index import IDENTITY_SIDE, SampleIndex, read_index
from slipway.data.preprocess import open_raw
from slipway.data.provenance import INDEX_NAME, read_provenance
from slipway.data.raw import RawTable
from slipway.data.sample_rules import SAMPLE_RULES, count_classes


def validate_raw(raw_dir: Path, config: DataConfig) -> ValidationReport:
    """Check what `ingest_source` put into `raw_dir` against the policy in `config`.

    Raises:
        DataError: `raw_dir` does not hold ingested data.
    """
    provenance = read_provenance(raw_dir)
    index = read_index(raw_dir / INDEX_NAME)
    findings = [finding for rule in SAMPLE_RULES for finding in rule(index, config)]
    facts = {"Source": provenance.source, "Samples": f"{index.num_samples:,}", "Classes": str(len(index.class_names))}
    if index.kind == "table":
        raw = open_raw(raw_dir, provenance)
        if isinstance(raw, RawTable):
            facts |= _table_facts(raw)
            findings += check_columns(raw)
    else:
        facts |= _image_facts(index)
    facts |= {"Files": str(provenance.num_files), "Bytes": f"{provenance.size_bytes:,}", "Content hash": provenance.content_hash}
    counts = count_classes(index)
    order: tuple[Severity, ...] = ("block", "warn", "info")
    return ValidationReport(
        source=provenance.source,
        kind=index.kind,
        num_samples=index.num_samples,
        class_counts=dict(zip(index.class_names, map(int, counts), strict=True)),
        facts=facts,
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
    )


def _image_facts(index: SampleIndex) -> dict[str, str]:
    if not index.readable.any():
        return {}
    rows = index.rows.filter(index.readable)
    heights, widths = rows["height"].to_numpy(), rows["width"].to_numpy()
    smallest, largest = np.lexsort((widths, heights))[[0, -1]]
    size = f"{widths[smallest]} x {heights[smallest]}"
    if heights.min() != heights.max() or widths.min() != widths.max():
        size = f"from {size} to {widths[largest]} x {heights[largest]}"
    if max(heights.max(), widths.max()) >= IDENTITY_SIDE:
        size += " (large JPEGs as they are decoded, scaled down)"
    num_grey = int((rows["channels"].to_numpy() == 1).sum())
    colors = {0: "colour", index.num_samples: "grey"}.get(num_grey, f"colour, {num_grey:,} of them grey")
    facts = {"Pixels (width x height)": size, "Colours": colors}
    if index.from_test.any():
        facts["Of them in the source's test set"] = f"{int(index.from_test.sum()):,}"
    return facts


def _table_facts(raw: RawTable) -> dict[str, str]:
    numeric = sum(feature.role == "numeric" for feature in raw.features)
    return {"Columns": f"{len(raw.features)} ({numeric} numeric, {len(raw.features) - numeric} categorical)"}
