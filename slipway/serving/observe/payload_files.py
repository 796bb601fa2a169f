"""The payload log's files: each is whole or absent, its name sorts by time, and all together stay below a bound."""

import io
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from slipway.errors import ConfigError, StorageError
from slipway.log import get_logger
from slipway.serving.observe.payload_rows import SCHEMA_VERSION, Asked, Redaction, RowFormat, Values
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri

_COMPLAINT_SECONDS = 60.0
_POINTER_BYTES = 64
"""Taken for what a string holds beyond its pointer."""
_SUFFIX = ".parquet"
_log = get_logger(__name__)

DropReason = Literal["queue_full", "write_failed", "not_readable", "ended"]


@dataclass(frozen=True, kw_only=True)
class PayloadOptions:
    """What is logged, and how much of it is kept."""

    uri: str
    """Folder, or `s3://BUCKET/FOLDER`; files lie in one folder a model below it."""
    rate: float = 0.1
    """Share of the requests."""
    drop_inputs: tuple[str, ...] = ()
    """Inputs (columns) that are left out."""
    hash_inputs: tuple[str, ...] = ()
    """Inputs (columns) that are replaced by a keyed hash."""
    hash_key: str = field(default="", repr=False)
    """Of the hashes; "" makes one for this process alone, so that its hashes mean nothing elsewhere."""
    keep_images: bool = False
    """Log an image's pixels, too, not just what they add up to."""
    max_queue_rows: int = 10_000
    max_queue_bytes: int = 64 << 20
    """Of requests that wait for the writing thread; what comes beyond that is dropped."""
    max_file_rows: int = 50_000
    max_file_bytes: int = 32 << 20
    """Of a file's rows in memory, before compression."""
    flush_seconds: float = 60.0
    """How long a row waits for a file at most."""
    max_total_bytes: int = 1 << 30
    """Of the model's files in all, whoever wrote them: beyond it the oldest are deleted. 0 deletes none."""

    def __post_init__(self) -> None:
        both = sorted({*self.drop_inputs} & {*self.hash_inputs})
        if both:
            raise ConfigError(f"The payload log is to drop and to hash {', '.join(both)}; accepted: one of the two.")


@dataclass(kw_only=True)
class PayloadCounts:
    """What has become of rows so far."""

    num_written: int = 0
    dropped: dict[DropReason, int] = field(
        default_factory=lambda: {"queue_full": 0, "write_failed": 0, "not_readable": 0, "ended": 0}
    )


class PayloadFiles:
    """The file that is being filled; used by the writing thread alone."""

    def __init__(self, options: PayloadOptions, storage: ObjectStorage, redaction: Redaction, counts: PayloadCounts) -> None:
        self._options = options
        self._storage = storage
        self._redaction = redaction
        self._counts = counts
        self._replica = secrets.token_hex(4)
        self._num_files = 0
        self._format: RowFormat | None = None
        self._parts: list[list[Values]] = []
        self._num_rows = self._num_bytes = 0
        self._first_at = 0.0
        self._due_at = 0.0
        self._complain_at = 0.0

    def seconds_to_flush(self) -> float | None:
        """Until the rows that wait must be written; None where there are none."""
        return max(self._due_at - time.monotonic(), 0.0) if self._num_rows else None

    def add(self, asked: Asked) -> None:
        """Take in a request's rows, and write the file where that makes it full."""
        if self._format is None or self._format.model is not asked.model:
            self.flush()
            self._format = RowFormat(asked.model, self._redaction, keep_images=self._options.keep_images)
        try:
            part = self._format.read(asked)
        except Exception as error:  # noqa: BLE001 whatever a request holds, the next ones are to be logged
            self._drop("not_readable", asked.num_rows, error)
            return
        if not self._num_rows:
            self._first_at = asked.received_at
            self._due_at = time.monotonic() + self._options.flush_seconds
        self._parts.append(part)
        self._num_rows += asked.num_rows
        self._num_bytes += sum(map(count_bytes, part))
        is_full = self._num_rows >= self._options.max_file_rows or self._num_bytes >= self._options.max_file_bytes
        if is_full or time.monotonic() >= self._due_at:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait as one file; drop them where that fails."""
        if self._format is None or not self._num_rows:
            return
        parts, num_rows = self._parts, self._num_rows
        self._parts, self._num_rows, self._num_bytes = [], 0, 0
        try:
            folder = join_uri(self._options.uri, self._format.model.name)
            content = _encode(self._format, parts)
            self._storage.write_bytes(join_uri(folder, self._name_file()), content)
        except Exception as error:  # noqa: BLE001 a full disk, an absent bucket, ...: answers go on
            self._drop("write_failed", num_rows, error)
            return
        self._counts.num_written += num_rows
        try:
            self._delete_oldest(folder)
        except StorageError as error:
            self._complain("payload_log_not_pruned", error)

    def _name_file(self) -> str:
        moment = datetime.fromtimestamp(self._first_at, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._num_files += 1
        return f"{moment}-{self._replica}-{self._num_files:06d}{_SUFFIX}"

    def _delete_oldest(self, folder: str) -> None:
        if not self._options.max_total_bytes:
            return
        files = [file for file in self._storage.list_files(folder) if file.name.endswith(_SUFFIX) and "/" not in file.name]
        excess = sum(file.size_bytes for file in files) - self._options.max_total_bytes
        for file in sorted(files, key=lambda file: file.name):
            if excess <= 0:
                return
            self._storage.delete(join_uri(folder, file.name))
            excess -= file.size_bytes

    def _drop(self, reason: DropReason, num_rows: int, error: Exception) -> None:
        self._counts.dropped[reason] += num_rows
        self._complain("payload_rows_dropped", error, reason=reason, num_rows=num_rows)

    def _complain(self, event: str, error: Exception, **facts: object) -> None:
        """Say once a minute what goes wrong, not at each file."""
        if time.monotonic() < self._complain_at:
            return
        self._complain_at = time.monotonic() + _COMPLAINT_SECONDS
        with suppress(OSError):  # the log may lie on the disk that is full
            _log.error(event, uri=self._options.uri, error=str(error) or repr(error), **facts, dropped=dict(self._counts.dropped))


def _encode(row_format: RowFormat, parts: list[list[Values]]) -> bytes:
    from arro3.io import write_parquet

    target = io.BytesIO()
    write_parquet(
        row_format.to_table(parts), target, compression="zstd(3)", key_value_metadata={"slipway.payload_log": SCHEMA_VERSION}
    )
    return target.getvalue()


def count_bytes(values: Values) -> int:
    """About what a column takes in memory."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values.nbytes
    items = values.ravel().tolist() if isinstance(values, np.ndarray) else values
    if isinstance(items[0], np.ndarray):
        return sum(item.nbytes for item in items)
    num_bytes = _POINTER_BYTES * len(items)
    if not isinstance(items[0], int | float):  # but bytes, or strings, of which some may be missing
        num_bytes += sum(map(len, filter(None, items)))
    return num_bytes
