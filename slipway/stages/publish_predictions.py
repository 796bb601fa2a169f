"""The publish_predictions stage: a batch prediction's manifest, once all shards stand."""

from collections.abc import Sequence
from dataclasses import dataclass

from slipway.batch.work import publish_batch
from slipway.log import configure_logging
from slipway.settings import load_settings


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the pipeline shows of it."""

    manifest: str
    metrics: dict[str, float]


def run_publish_predictions(output: str, predicted: Sequence[int]) -> Published:
    """Write the manifest; `predicted` is how many shards each worker has predicted in this run."""
    settings = load_settings()
    configure_logging(settings.log_format)
    summary = publish_batch(settings, output)
    metrics = {
        "rows": float(summary.num_rows),
        "unreadable": float(summary.num_errors),
        "shards": float(summary.num_shards),
        "shards_predicted_in_this_run": float(sum(predicted)),
    }
    return Published(manifest=summary.manifest, metrics=metrics)
