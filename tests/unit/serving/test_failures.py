from structlog.testing import capture_logs

from slipway.errors import PredictionError, RequestError
from slipway.serving.http.failures import describe_failure


def test_what_nobody_foresaw_is_told_to_the_log_alone_under_the_requests_id():
    with capture_logs() as events:
        refusal = describe_failure(ZeroDivisionError("in the depths"), "/v2/models/m/infer", "order-1")
    assert (refusal.status, "depths" in refusal.sentence) == (500, False)
    told = {name: events[0][name] for name in ("event", "request_id", "where", "error")}
    assert told == {
        "event": "request_failed",
        "request_id": "order-1",
        "where": "/v2/models/m/infer",
        "error": "ZeroDivisionError('in the depths')",
    }


def test_the_log_is_told_nothing_of_what_the_client_is_told_or_the_model_has_told_already():
    with capture_logs() as events:
        assert describe_failure(RequestError("No rows."), "/", "order-2").sentence == "No rows."
        assert describe_failure(PredictionError("It failed."), "/", "order-3").status == 500
    assert events == []
