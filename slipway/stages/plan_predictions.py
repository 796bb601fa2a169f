"""The plan_predictions stage: what a batch prediction is made of."""

from slipway.batch.plan import PlanOptions
from slipway.batch.work import plan_batch
from slipway.errors import ConfigError
from slipway.log import configure_logging
from slipway.settings import load_settings


def run_plan_predictions(
    source: str, output: str, model: str, shard_rows: int, max_unreadable: float, num_workers: int
) -> list[int]:
    """Write the plan to `output`, unless it is there.

    Returns:
        The numbers of the workers, no more than there are shards.

    Raises:
        ConfigError: a number is not accepted.
        BatchError: see `plan_batch`.
    """
    if num_workers < 1:
        raise ConfigError(f"num_workers is {num_workers}; accepted: 1 or more.")
    settings = load_settings()
    configure_logging(settings.log_format)
    plan = plan_batch(settings, source, output, model, PlanOptions(shard_rows=shard_rows, max_unreadable=max_unreadable))
    return list(range(min(num_workers, len(plan.shards))))
