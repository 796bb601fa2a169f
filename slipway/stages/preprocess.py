"""The preprocess stage: from the source's own files to the canonical data set."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.config import DataConfig
from slipway.overrides import config_from_parameters
from slipway.provenance import hash_sources, package_versions
from slipway.stages.cache import Facts, Workplace
from slipway.stages.runner import stage_session


def run_preprocess(parameters: Mapping[str, Any], *, raw: str, dataset: str) -> Facts:
    """Write the canonical data set of what lies at `raw` to `dataset`; DataError where it cannot be split as asked."""
    config = config_from_parameters(parameters).data
    with stage_session("preprocess") as session:
        provenance = json.loads((Path(raw) / "provenance.json").read_text())
        key = {
            "content": provenance["content_hash"],
            "source": provenance["source"],
            "image_size": config.image_size,
            "split_by": config.split_by,
            "seed": config.seed,
            "validation_fraction": config.validation_fraction,
            "test_fraction": config.test_fraction,
            "max_unreadable": config.max_unreadable,
            "code": hash_sources(),
            "packages": package_versions("numpy", "pillow", "pyarrow"),
        }
        return session.produce(key, {"dataset": Path(dataset)}, lambda place: _preprocess(config, Path(raw), place))


def _preprocess(config: DataConfig, raw: Path, place: Workplace) -> Facts:
    from slipway.data.preprocess import build_dataset

    manifest = build_dataset(raw, place.outputs["dataset"], config)
    return {
        "dataset_id": manifest.dataset_id,
        "task": manifest.task,
        "num_rows": manifest.num_rows,
        "num_classes": len(manifest.class_names),
    }
