"""The ingest stage: copy, record, validate."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.config import DataConfig
from slipway.data.ingest import fingerprint_source, ingest_source
from slipway.overrides import config_from_parameters
from slipway.provenance import hash_sources, package_versions
from slipway.stages.cache import Facts, Workplace
from slipway.stages.runner import stage_session


def run_ingest(parameters: Mapping[str, Any], *, raw: str, report: str, summary: str) -> Facts:
    """Copy the source to `raw`, write the validation report (HTML to `report`, Markdown to `summary`).

    Raises:
        DataError: the source cannot be read.
        DataRejectedError: validation blocks; the report then lies in the run's folder.
    """
    config = config_from_parameters(parameters).data
    with stage_session("ingest") as session:
        key = {
            "source": fingerprint_source(config.source),
            "policy": {
                "split_by": config.split_by,
                "max_unreadable": config.max_unreadable,
                "max_constant": config.max_constant,
                "max_duplicates": config.max_duplicates,
                "max_leaked": config.max_leaked,
                "min_class_samples": config.min_class_samples,
                "max_imbalance": config.max_imbalance,
            },
            "code": hash_sources(),
            "packages": package_versions("numpy", "pillow", "pyarrow", "scikit-learn"),
        }
        outputs = {"raw": Path(raw), "report.html": Path(report), "summary.md": Path(summary)}
        report_dir = session.run_dir / "validation"
        return session.produce(key, outputs, lambda place: _ingest(config, place, report_dir))


def _ingest(config: DataConfig, place: Workplace, report_dir: Path) -> Facts:
    from slipway.data.validation import validate_raw
    from slipway.data.validation_report import write_validation_report

    provenance = ingest_source(config.source, place.outputs["raw"])
    report = validate_raw(place.outputs["raw"], config)
    html, markdown = report_dir / "report.html", report_dir / "report.md"
    write_validation_report(report, html, markdown)
    report.require_accepted(html)
    shutil.copyfile(html, place.outputs["report.html"])
    shutil.copyfile(markdown, place.outputs["summary.md"])
    return {"source": config.source, "content_hash": provenance.content_hash, "num_files": provenance.num_files}
