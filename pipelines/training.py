"""The training pipeline: five stages, flat, deploy only where the gate let the model through, and an exit handler."""

from kfp import dsl

from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.finish.component import finish
from components.ingest.component import ingest
from components.preprocess.component import preprocess
from components.train.component import train
from pipelines import resources
from pipelines.images import Images
from pipelines.parameters import Parameters, pick, with_parameters
from slipway.config import Config

NAME = "slipway-training"


def training_pipeline(config: Config, images: Images) -> dsl.base_component.BaseComponent:
    """The pipeline with the defaults of `config`; GPUs and pods of its own are requested as `train.*` says."""

    def training(parameters: Parameters) -> None:
        """From a data set to a gated, registered, served model."""
        finishing = finish(**pick(finish, parameters))
        resources.apply_resources(finishing, resources.FINISH, images)
        with dsl.ExitHandler(finishing, name="training"):
            _define_stages(parameters, config, images)

    pipeline: dsl.base_component.BaseComponent = dsl.pipeline(name=NAME)(with_parameters(training, config))
    return pipeline


def _define_stages(parameters: Parameters, config: Config, images: Images) -> None:
    ingested = ingest(**pick(ingest, parameters))
    resources.apply_resources(ingested, resources.INGEST, images)

    prepared = preprocess(**pick(preprocess, parameters), raw=ingested.outputs["raw"])
    resources.apply_resources(prepared, resources.PREPROCESS, images)

    trained = train(**pick(train, parameters), dataset=prepared.outputs["dataset"])
    resources.apply_training(trained, config.train, images)

    evaluated = evaluate(
        **pick(evaluate, parameters),
        dataset=prepared.outputs["dataset"],
        bundle=trained.outputs["bundle"],
        training=trained.outputs["training"],
    )
    resources.apply_resources(evaluated, resources.EVALUATE, images)

    # A single unnamed output: kfp.local does not find a named one in a condition.
    with dsl.If(evaluated.outputs["Output"] == "passed", name="gate-passed"):
        deployed = deploy(
            **pick(deploy, parameters),
            bundle=trained.outputs["bundle"],
            evaluation=evaluated.outputs["evaluation"],
        )
        resources.apply_deploying(deployed, config.deploy, images)
