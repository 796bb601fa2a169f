"""Publish predictions: the manifest, once every shard is done."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def publish_predictions(output_uri: str, predicted: list[int], metrics: dsl.Output[dsl.Metrics]) -> str:
    """Check that every shard stands, list them, then delete what does not belong; the manifest's URI."""
    from slipway.stages.publish_predictions import run_publish_predictions

    published = run_publish_predictions(output_uri, predicted)
    for name, value in published.metrics.items():
        metrics.log_metric(name, value)
    return published.manifest
