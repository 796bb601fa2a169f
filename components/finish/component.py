"""Finish: the exit handler, which runs whatever happened before it."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def finish(data_source: str, deploy_model_name: str, deploy_target: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Write the run's summary, end its MLflow run, release what is left."""
    parameters = locals()
    from slipway.stages.finish import run_finish

    run_finish(parameters, state=status.state, error=status.error_message or "")
