"""One shard's answers: predicted, written as one file under a name made of its content, and marked as done.

Two workers on one shard, or a worker that was killed, leave at most a file that no mark names: the mark is one small file,
replaced at once, and what it names is whole.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.batch.plan import Plan, Shard
from slipway.batch.samples import Samples, read_samples
from slipway.data.manifest import PROBABILITIES
from slipway.engines.engine import Engine
from slipway.errors import BatchError, ObjectMissingError, RequestError
from slipway.export.bundle import BundleInfo
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri

_HASH_DIGITS = 16
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class DoneShard:
    """What is left of a shard."""

    plan_id: str
    number: int
    num_rows: int
    """That were answered."""
    num_errors: int
    """That could not be read."""
    file: str
    """Of the answers, relative to the output."""
    sha256: str
    errors_file: str
    """JSON lines with what is wrong; "" for none."""


def read_done(storage: ObjectStorage, output: str, plan: Plan, shard: Shard) -> DoneShard | None:
    """The mark of a shard; None where it is not done, or was done for another plan."""
    try:
        done = DoneShard(**json.loads(storage.read_bytes(join_uri(output, "done", f"{shard.name}.json"))))
    except (ObjectMissingError, ValueError, TypeError):
        return None
    return done if done.plan_id == plan.plan_id else None


def stands(storage: ObjectStorage, output: str, done: DoneShard) -> bool:
    """Whether the files of a shard are there, as they were written."""
    try:
        content = storage.read_bytes(join_uri(output, done.file))
        errors = storage.read_bytes(join_uri(output, done.errors_file)) if done.errors_file else b""
    except ObjectMissingError:
        return False
    is_whole = hashlib.sha256(content).hexdigest() == done.sha256
    return is_whole and done.errors_file in ("", _name_errors(done.number, errors))


def predict_shard(storage: ObjectStorage, output: str, plan: Plan, shard: Shard, engine: Engine, info: BundleInfo) -> DoneShard:
    """Predict a shard and write what comes of it.

    Raises:
        BatchError: more of it is unreadable than the whole may be, a file lacks a column of the model, or has changed.
        StorageError: the input or the output cannot be reached.
    """
    answered: list[_Answered] = []
    errors: list[tuple[int, int, str]] = []
    for samples in read_samples(storage, plan, shard, engine, info):
        errors += samples.errors
        if len(samples.rows):
            found, refused = _predict(engine, samples)
            answered += found
            errors += refused
        check_errors(plan, len(errors), errors)
    content = _write_parquet(plan, answered, info)
    digest = hashlib.sha256(content).hexdigest()
    file = f"shards/{shard.name}-{digest[:_HASH_DIGITS]}.parquet"
    storage.write_bytes(join_uri(output, file), content)
    done = DoneShard(
        plan_id=plan.plan_id,
        number=shard.number,
        num_rows=sum(len(part.rows) for part in answered),
        num_errors=len(errors),
        file=file,
        sha256=digest,
        errors_file=_write_errors(storage, output, plan, shard, errors),
    )
    storage.write_bytes(join_uri(output, "done", f"{shard.name}.json"), json.dumps(asdict(done)).encode())
    return done


def check_errors(plan: Plan, num_errors: int, examples: Sequence[tuple[int, int, str]] = ()) -> None:
    """BatchError where more samples are unreadable than the plan lets through."""
    allowed = floor(plan.options.max_unreadable * plan.num_rows + _ROUNDING)
    if num_errors > allowed:
        told = "".join(f" {plan.files[file].name}, row {row}: {reason.rstrip('.')}." for file, row, reason in examples[:1])
        raise BatchError(
            f"{num_errors} or more of {plan.num_rows} samples cannot be read; accepted: {allowed} "
            f"(max_unreadable is {plan.options.max_unreadable:g}).{told} "
            "Mend them, or raise max_unreadable in another output folder."
        )


@dataclass(frozen=True)
class _Answered:
    files: NDArray[np.int64]
    rows: NDArray[np.int64]
    outputs: dict[str, NDArray[Any]]


def _predict(engine: Engine, samples: Samples) -> tuple[list[_Answered], list[tuple[int, int, str]]]:
    """Outputs of what the model took, and what is wrong with the others; where it does not take all together, one by one."""
    try:
        return [_Answered(samples.files, samples.rows, engine.predict(samples.inputs))], []
    except RequestError as error:
        if len(samples.rows) == 1:
            return [], [(int(samples.files[0]), int(samples.rows[0]), str(error))]
    answered, errors = [], []
    for place in range(len(samples.rows)):
        part = slice(place, place + 1)
        one = Samples(samples.files[part], samples.rows[part], {name: array[part] for name, array in samples.inputs.items()}, [])
        found, refused = _predict(engine, one)
        answered += found
        errors += refused
    return answered, errors


def _write_parquet(plan: Plan, answered: Sequence[_Answered], info: BundleInfo) -> bytes:
    """The answers in the input's order, whatever order they were given in."""
    import pyarrow as pa
    from pyarrow import parquet

    files, rows = (
        np.concatenate([np.empty(0, np.int64), *(getattr(part, name) for part in answered)]) for name in ("files", "rows")
    )
    order = np.lexsort((rows, files))
    used, codes = np.unique(files[order], return_inverse=True)
    columns: dict[str, pa.Array] = {
        "file": pa.array([plan.files[file].name for file in used.tolist()], pa.string()).take(pa.array(codes)),
        "row": pa.array(rows[order]),
    }
    for spec in info.signature.outputs:
        width = [size or 0 for size in spec.shape[1:]]
        parts = [part.outputs[spec.name] for part in answered] or [np.empty((0, *width), dtype=spec.dtype)]
        values = np.concatenate(parts)[order]
        flat = values.reshape(len(values), -1) if len(values) else values.reshape(0, int(np.prod(width)) or 1)
        if spec.name == PROBABILITIES and info.class_names:
            columns["predicted_class"] = pa.array(info.class_names, pa.string()).take(pa.array(flat.argmax(axis=1)))
            columns["probability"] = pa.array(flat.max(axis=1) if len(flat) else np.empty(0, np.float32))
        columns[spec.name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    target = io.BytesIO()
    parquet.write_table(pa.table(columns), target, compression="zstd")
    return target.getvalue()


def _write_errors(storage: ObjectStorage, output: str, plan: Plan, shard: Shard, errors: Sequence[tuple[int, int, str]]) -> str:
    if not errors:
        return ""
    lines = [
        json.dumps({"file": plan.files[file].name, "row": row, "reason": reason}) + "\n" for file, row, reason in sorted(errors)
    ]
    content = "".join(lines).encode()
    name = _name_errors(shard.number, content)
    storage.write_bytes(join_uri(output, name), content)
    return name


def _name_errors(number: int, content: bytes) -> str:
    return f"errors/{number:06d}-{hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]}.jsonl"
