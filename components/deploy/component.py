"""Deploy: dark launch, smoke test, promote, move the alias last."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def deploy(
    data_source: str,
    deploy_model_name: str,
    deploy_target: str,
    deploy_smoke_tolerance: float,
    deploy_timeout_seconds: int,
    deploy_min_replicas: int,
    deploy_max_replicas: int,
    deploy_slo_seconds: int,
    deploy_slo_error_rate: float,
    deploy_slo_latency_ms: float,
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    served: dsl.Output[dsl.Artifact],
) -> None:
    """Make the version that the gate let through the one that serves, or leave the previous one in place."""
    parameters = locals()
    from slipway.stages.deploy import run_deploy

    served.metadata.update(run_deploy(parameters, bundle.path, evaluation.path, served.path))
