"""One shard's answers: predicted, written as one file under a name made of its content, and marked as done.

Two workers on one shard, or a worker that was killed, leave at most a file that no mark names: the mark is one small file,
replaced at once, and what it names is whole.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True, kw_only=True)
class DoneShard:
    """What is left of a shard."""

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


def read_done(storage: ObjectStorage, output: str, shard: Shard, *, verify: bool = True) -> DoneShard | None:
    """The mark of a shard; None where it is not done, or (with `verify`) its file was removed or altered."""
    try:
        done = DoneShard(**json.loads(storage.read_bytes(_mark_uri(output, shard))))
        if verify and hashlib.sha256(storage.read_bytes(join_uri(output, done.file))).hexdigest() != done.sha256:
            return None
    except (ObjectMissingError, ValueError, TypeError):
        return None
    return done


def predict_shard(storage: ObjectStorage, output: str, plan: Plan, shard: Shard, engine: Engine, info: BundleInfo) -> DoneShard:
    """Predict a shard and write what comes of it.

    Raises:
        BatchError: more of it is unreadable than the whole may be, or a file lacks a column of the model.
        StorageError: the input or the output cannot be reached.
    """
    places: list[tuple[str, int]] = []
    answers: list[dict[str, NDArray[Any]]] = []
    errors: list[tuple[str, int, str]] = []
    for samples in read_samples(storage, plan.input, plan.kind, shard, info):
        errors += samples.errors
        if samples.places:
            answered, found, refused = _predict(engine, samples)
            places += answered
            answers += found
            errors += refused
        check_errors(plan, len(errors), errors)
    content = _write_parquet(places, answers, shard, info)
    digest = hashlib.sha256(content).hexdigest()
    file = f"shards/{shard.name}-{digest[:16]}.parquet"
    storage.write_bytes(join_uri(output, file), content)
    done = DoneShard(
        number=shard.number,
        num_rows=len(places),
        num_errors=len(errors),
        file=file,
        sha256=digest,
        errors_file=_write_errors(storage, output, shard, errors),
    )
    storage.write_bytes(_mark_uri(output, shard), json.dumps(asdict(done)).encode())
    return done


def check_errors(plan: Plan, num_errors: int, examples: Sequence[tuple[str, int, str]] = ()) -> None:
    """BatchError where more samples are unreadable than the plan lets through."""
    allowed = int(plan.options.max_unreadable * plan.num_rows)
    if num_errors > allowed:
        told = f" {examples[0][0]}, row {examples[0][1]}: {examples[0][2]}." if examples else ""
        raise BatchError(
            f"{num_errors} or more of {plan.num_rows} samples cannot be read; accepted: {allowed} "
            f"(max_unreadable is {plan.options.max_unreadable:g}).{told} "
            "Mend them, or raise max_unreadable in another output folder."
        )


def _predict(
    engine: Engine, samples: Samples
) -> tuple[list[tuple[str, int]], list[dict[str, NDArray[Any]]], list[tuple[str, int, str]]]:
    """Places and outputs of what the model took; where it does not take all together, one by one."""
    try:
        return samples.places, [engine.predict(samples.inputs)], []
    except RequestError as error:
        if len(samples.places) == 1:
            ((file, row),) = samples.places
            return [], [], [(file, row, str(error))]
    places, outputs, errors = [], [], []
    for index, place in enumerate(samples.places):
        one = Samples([place], {name: array[index : index + 1] for name, array in samples.inputs.items()}, [])
        answered, found, refused = _predict(engine, one)
        places += answered
        outputs += found
        errors += refused
    return places, outputs, errors


def _write_parquet(
    places: Sequence[tuple[str, int]], answers: Sequence[dict[str, NDArray[Any]]], shard: Shard, info: BundleInfo
) -> bytes:
    """The answers in the input's order, whatever order they were given in."""
    import pyarrow as pa
    from pyarrow import parquet

    order_of_files = {piece.file: order for order, piece in enumerate(shard.pieces)}
    order = sorted(range(len(places)), key=lambda index: (order_of_files[places[index][0]], places[index][1]))
    columns: dict[str, pa.Array] = {
        "file": pa.array([places[index][0] for index in order], pa.string()),
        "row": pa.array([places[index][1] for index in order], pa.int64()),
    }
    for spec in info.signature.outputs:
        width = [size or 0 for size in spec.shape[1:]]
        parts = [part[spec.name] for part in answers] or [np.empty((0, *width), dtype=spec.dtype)]
        values = np.concatenate(parts)[order]
        flat = values.reshape(len(values), -1) if len(values) else values.reshape(0, int(np.prod(width)) or 1)
        if spec.name == PROBABILITIES and info.class_names:
            best = flat.argmax(axis=1)
            columns["predicted_class"] = pa.array([info.class_names[index] for index in best.tolist()], pa.string())
            columns["probability"] = pa.array(flat.max(axis=1) if len(flat) else np.empty(0, np.float32))
        columns[spec.name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    target = io.BytesIO()
    parquet.write_table(pa.table(columns), target, compression="zstd")
    return target.getvalue()


def _write_errors(storage: ObjectStorage, output: str, shard: Shard, errors: Sequence[tuple[str, int, str]]) -> str:
    if not errors:
        return ""
    order_of_files = {piece.file: order for order, piece in enumerate(shard.pieces)}
    lines = [
        json.dumps({"file": file, "row": row, "reason": reason})
        for file, row, reason in sorted(errors, key=lambda error: (order_of_files[error[0]], error[1]))
    ]
    content = ("\n".join(lines) + "\n").encode()
    name = f"errors/{shard.name}-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    storage.write_bytes(join_uri(output, name), content)
    return name


def _mark_uri(output: str, shard: Shard) -> str:
    return join_uri(output, "done", f"{shard.name}.json")
