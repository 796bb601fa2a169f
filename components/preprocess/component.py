"""Preprocess: from the source's own files to the canonical data set."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def preprocess(
    data_image_size: int,
    data_split_by: str,
    data_seed: int,
    data_validation_fraction: float,
    data_test_fraction: float,
    data_max_unreadable: float,
    raw: dsl.Input[dsl.Dataset],
    dataset: dsl.Output[dsl.Dataset],
) -> None:
    """Write Arrow shards, manifest and frozen splits."""
    parameters = locals()
    from slipway.stages.preprocess import run_preprocess

    dataset.metadata.update(run_preprocess(parameters, raw=raw.path, dataset=dataset.path))
