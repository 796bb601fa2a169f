"""Plan predictions: decide what is predicted by which version, in which shards."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def plan_predictions(
    input_uri: str, output_uri: str, model: str, shard_rows: int, max_unreadable: float, num_workers: int
) -> list[int]:
    """Write the plan to the output folder, unless it is there; the numbers of the workers that are to predict."""
    from slipway.stages.plan_predictions import run_plan_predictions

    return run_plan_predictions(input_uri, output_uri, model, shard_rows, max_unreadable, num_workers)
