"""Which refusal an error is to its client, over whatever protocol."""

from http import HTTPStatus

from slipway.errors import DeadlineError, NotServedError, OverloadedError, PredictionError, RequestError
from slipway.log import get_logger
from slipway.serving.http.messages import HttpError
from slipway.serving.http.refusal import Refusal

_log = get_logger(__name__)


def describe_failure(error: Exception, where: str, request_id: str) -> Refusal:
    """The answer to a request that ended with `error`. What is no fault of the client's is told to the log alone.

    Args:
        error: Anything.
        where: What was asked, for the log.
        request_id: Under which the log tells it.
    """
    if isinstance(error, HttpError):
        return Refusal(status=error.status, sentence=str(error), headers=error.headers)
    if isinstance(error, RequestError):
        return Refusal(status=HTTPStatus.BAD_REQUEST, sentence=str(error))
    if isinstance(error, NotServedError):
        return Refusal(status=HTTPStatus.NOT_FOUND, sentence=str(error))
    if isinstance(error, OverloadedError):
        wait = (b"retry-after", b"%d" % error.retry_after_seconds)
        return Refusal(status=HTTPStatus.SERVICE_UNAVAILABLE, sentence=str(error), headers=(wait,))
    if isinstance(error, DeadlineError):
        return Refusal(status=HTTPStatus.GATEWAY_TIMEOUT, sentence=str(error))
    if not isinstance(error, PredictionError):  # the batcher has logged those
        _log.error("request_failed", request_id=request_id, where=where[:200], error=repr(error))
    told = "The prediction failed for a reason that lies with the server; its log says more."
    return Refusal(status=HTTPStatus.INTERNAL_SERVER_ERROR, sentence=told)
