"""The predict stage: one worker's shards of a batch prediction."""

from slipway.batch.work import predict_shards
from slipway.log import configure_logging
from slipway.settings import load_settings


def run_predict(output: str, worker: int, num_workers: int) -> int:
    """Predict this worker's shards that are not done; how many those were."""
    settings = load_settings()
    configure_logging(settings.log_format)
    return predict_shards(settings, output, worker, num_workers)
