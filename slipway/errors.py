"""The errors Slipway raises on purpose. Each message says what was wrong, where, what is accepted and what to do."""


class SlipwayError(Exception):
    """Base of every error whose message is written for the person who runs Slipway."""


class ConfigError(SlipwayError, ValueError):
    """A setting has an unknown name or a value that is not accepted."""


class DataError(SlipwayError, ValueError):
    """A data source or a data set cannot be used as it is."""


class DataRejectedError(DataError):
    """Validation found problems that the policy does not let through; the report lists them."""


class DatasetCorruptError(DataError):
    """A shard or manifest is truncated, altered or missing."""


class NonFiniteLossError(SlipwayError, ArithmeticError):
    """The training loss became NaN or infinite; the message names epoch and step."""


class CheckpointError(SlipwayError, ValueError):
    """A checkpoint cannot be resumed from."""


class BundleError(SlipwayError, ValueError):
    """A bundle is incomplete, altered, or not what its description says."""


class ParityError(BundleError):
    """The exported model does not give the outputs of the model that was trained."""


class EvaluationError(SlipwayError, ValueError):
    """Two results cannot be compared, or a figure cannot be computed."""


class RegistryError(SlipwayError):
    """The model registry does not hold what was asked of it, or cannot be reached."""


class DeployError(SlipwayError, RuntimeError):
    """A model was not promoted; the message says what still serves."""


class StorageError(SlipwayError):
    """An object store cannot be reached, or does not hold what was asked of it."""


class ClusterError(SlipwayError):
    """The Kubernetes API server cannot be reached, or refuses; `status` is its HTTP status, 0 where it gave none."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ObjectMissingError(StorageError):
    """There is no file of this name; the store itself answers."""


class ObjectChangedError(StorageError):
    """A file is not of the version that was asked for: it was replaced, altered or cut short."""


class BatchError(SlipwayError, ValueError):
    """A batch prediction cannot be made, or must not be called done."""


class ServerError(SlipwayError):
    """A predictor could not be reached, or failed."""


class RequestError(SlipwayError, ValueError):
    """A prediction request is not what the model's signature accepts."""


class OverloadedError(SlipwayError):
    """More waits for the model than may wait; `retry_after_seconds` is when it will have answered what waits now."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DeadlineError(SlipwayError):
    """The time that a request's sender waits for its answer was over before there was one."""


class PredictionError(SlipwayError):
    """The model failed on a request that its signature accepts; the server's log says why."""


class NotServedError(SlipwayError):
    """A request names a model or a version that is not the one in service."""


class TrainingFailedError(SlipwayError, RuntimeError):
    """The training processes ended with a failure that restarts did not mend."""


class SubmitError(SlipwayError, RuntimeError):
    """A pipeline could not be sent to a KFP endpoint, or did not succeed there."""
