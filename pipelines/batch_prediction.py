"""The batch prediction's pipeline: planned once, predicted by several workers, published when all shards stand."""

from kfp import dsl

from components.plan_predictions.component import plan_predictions
from components.predict.component import predict
from components.publish_predictions.component import publish_predictions
from pipelines import resources
from pipelines.images import Images

NAME = "slipway-batch-prediction"
MAX_PARALLEL = 16
"""Workers at once; more wait for their turn."""


def batch_prediction_pipeline(images: Images) -> dsl.base_component.BaseComponent:
    """The pipeline; what it predicts from, where to and with which model are parameters of a run."""

    def batch_prediction(
        input_uri: str,
        output_uri: str,
        model: str = "",
        shard_rows: int = 10_000,
        max_unreadable: float = 0.0,
        num_workers: int = 4,
    ) -> None:
        """Answers of one version of a model for all samples of a folder or file."""
        planned = plan_predictions(
            input_uri=input_uri,
            output_uri=output_uri,
            model=model,
            shard_rows=shard_rows,
            max_unreadable=max_unreadable,
            num_workers=num_workers,
        )
        resources.apply_resources(planned, resources.PLAN_PREDICTIONS, images)
        with dsl.ParallelFor(items=planned.output, parallelism=MAX_PARALLEL, name="workers") as worker:
            predicted = predict(output_uri=output_uri, num_workers=num_workers, worker=worker)
            resources.apply_resources(predicted, resources.PREDICT, images)
        published = publish_predictions(output_uri=output_uri, predicted=dsl.Collected(predicted.output))
        resources.apply_resources(published, resources.PUBLISH_PREDICTIONS, images)

    pipeline: dsl.base_component.BaseComponent = dsl.pipeline(name=NAME)(batch_prediction)
    return pipeline
