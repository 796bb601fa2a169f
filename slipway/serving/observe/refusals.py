"""Requests that are turned away before anything is made of them: by their connection, or since their client may not ask."""

from collections import Counter

from slipway.serving.observe.access_log import AccessLog


class Refusals:
    """Counts them for the metrics, and tells them to the access log."""

    def __init__(self, access_log: AccessLog | None = None) -> None:
        """`access_log` is None where nothing is logged."""
        self.num_by_status: Counter[int] = Counter()
        """Statuses are HTTP's, over whatever protocol."""
        self._access_log = access_log

    def observe(self, status: int, *, request_id: str, address: str) -> None:
        """Take in one of a client at `address`. Called on the event loop; neither blocks nor raises."""
        self.num_by_status[status] += 1
        if self._access_log is not None:
            self._access_log.observe_refusal(status, request_id=request_id, address=address)
