"""Ingest: copy the source, record where it came from, refuse what validation does not let through."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def ingest(
    data_source: str,
    data_split_by: str,
    data_max_unreadable: float,
    data_max_constant: float,
    data_max_duplicates: float,
    data_max_leaked: float,
    data_min_class_samples: int,
    data_max_imbalance: float,
    raw: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Copy the source into the platform's storage and check it; blocks with a readable report."""
    parameters = locals()
    from slipway.stages.ingest import run_ingest

    raw.metadata.update(run_ingest(parameters, raw=raw.path, report=report.path, summary=summary.path))
