"""Following the pointer file: a new version is loaded beside the old one, then takes over."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from slipway.errors import SlipwayError
from slipway.log import get_logger
from slipway.serving.inference.model import LoadedModel, ModelSlot
from slipway.serving.record import ServingRecord, read_pointer

_POLL_SECONDS = 0.5
_log = get_logger(__name__)


class PointerFollower:
    """Keeps a slot's model the one that a pointer file names; `load` makes the model of a record.

    A version that cannot be loaded is logged and passed over: the model in service stays until the pointer names another.
    """

    def __init__(
        self,
        slot: ModelSlot,
        pointer: Path,
        load: Callable[[ServingRecord], LoadedModel],
        *,
        count_reload: Callable[[Literal["loaded", "failed"]], None] | None = None,
    ) -> None:
        self._slot = slot
        self._pointer = pointer
        self._load = load
        self._count = count_reload or (lambda _outcome: None)
        self._seen = b""

    def start(self) -> None:
        """Look at the pointer for as long as the process lives, on a thread that its end does not wait for."""
        threading.Thread(target=self._run, name="follow", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_POLL_SECONDS)
            self._follow()

    def _follow(self) -> None:
        try:
            content = self._pointer.read_bytes()
        except OSError:
            return
        if content == self._seen:
            return
        self._seen = content
        current = self._slot.current
        try:
            record = read_pointer(self._pointer)
            if (record.version, record.bundle_id) == (current.version, current.info.bundle_id):
                return
            model = self._load(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next version is to be followed
            self._count("failed")
            told = str(error) if isinstance(error, (SlipwayError, OSError)) else repr(error)
            _log.error("version_not_loaded", error=told, still_serving=current.version)
            return
        self._slot.swap(model)
        self._count("loaded")
        _log.info("version_changed", model=model.name, version=model.version, previous=current.version)
