"""Predict: one worker's shards of a planned batch prediction."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def predict(output_uri: str, num_workers: int, worker: int) -> int:
    """Predict the shards that are this worker's and are not done; how many those were."""
    from slipway.stages.predict import run_predict

    return run_predict(output_uri, worker, num_workers)
