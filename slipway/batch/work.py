"""The three steps of a batch prediction: plan, predict (by one worker or by several), publish. Each can be repeated."""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from slipway.batch.inputs import cut_inputs, list_inputs
from slipway.batch.model import open_bundle, pin_model
from slipway.batch.plan import Plan, PlanOptions, read_plan, store_plan
from slipway.batch.samples import check_kind
from slipway.batch.shards import DoneShard, check_errors, predict_shard, read_done
from slipway.engines.choice import open_engine
from slipway.errors import BatchError, BundleError
from slipway.log import get_logger
from slipway.settings import Settings
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri

MANIFEST_NAME = "manifest.json"
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a finished batch prediction amounts to."""

    num_rows: int
    num_errors: int
    num_shards: int
    manifest: str
    """Its URI."""


def plan_batch(settings: Settings, source: str, output: str, model: str, options: PlanOptions) -> Plan:
    """Decide what is predicted by which version, and write it down; the same again where nothing has changed.

    Raises:
        BatchError: there is nothing to predict from, no such model, or the output belongs to another plan.
        StorageError: input or output cannot be reached.
    """
    storage = ObjectStorage(settings)
    listing = list_inputs(storage, source)
    plan = Plan(
        input=listing.folder,
        kind=listing.kind,
        model=pin_model(settings, model),
        options=options,
        content_id=listing.content_id,
        shards=cut_inputs(storage, listing, options.shard_rows),
    ).seal()
    store_plan(storage, output, plan)
    _log.info("planned", plan=plan.plan_id, rows=plan.num_rows, shards=len(plan.shards), model=plan.model.reference)
    return plan


def predict_shards(settings: Settings, output: str, worker: int = 0, num_workers: int = 1) -> int:
    """Predict each shard of the plan at `output` that is this worker's and is not done; how many it has predicted.

    Raises:
        BatchError: too much of the input is unreadable, or the model does not take it.
        BundleError: the model is not the planned one.
        StorageError: input or output cannot be reached.
    """
    storage = ObjectStorage(settings)
    plan = read_plan(storage, output)
    own = plan.shards[worker::num_workers]
    missing = [shard for shard in own if read_done(storage, output, shard) is None]
    _log.info("worker_begins", worker=worker, num_workers=num_workers, shards=len(own), done=len(own) - len(missing))
    if not missing:
        return 0
    with open_bundle(settings, plan.model.reference) as bundle:
        if bundle.info.bundle_id != plan.model.bundle_id:
            raise BundleError(
                f"{plan.model.reference} is bundle {bundle.info.bundle_id} now; the plan was made for {plan.model.bundle_id}. "
                "Choose another output folder."
            )
        check_kind(plan.kind, bundle.info.signature)
        engine = open_engine(bundle, num_threads=_count_cores())
        for shard in missing:
            begun = time.monotonic()
            done = predict_shard(storage, output, plan, shard, engine, bundle.info)
            seconds = round(time.monotonic() - begun, 3)
            _log.info("shard_done", shard=shard.number, rows=done.num_rows, errors=done.num_errors, seconds=seconds)
    return len(missing)


def publish_batch(settings: Settings, output: str) -> Summary:
    """Write the manifest once every shard is done, and delete what it does not list.

    Raises:
        BatchError: shards are missing, or too many samples could not be read.
        StorageError: the output cannot be reached.
    """
    storage = ObjectStorage(settings)
    plan = read_plan(storage, output)
    found = [read_done(storage, output, shard) for shard in plan.shards]
    done = [one for one in found if one is not None]
    if len(done) < len(found):
        raise BatchError(
            f"{len(found) - len(done)} of {len(found)} shards of {output} are not done. Run it again: it goes on there."
        )
    num_errors = sum(one.num_errors for one in done)
    check_errors(plan, num_errors)
    _delete_others(storage, output, done)
    summary = Summary(
        num_rows=sum(one.num_rows for one in done),
        num_errors=num_errors,
        num_shards=len(done),
        manifest=join_uri(output, MANIFEST_NAME),
    )
    content = {
        "plan_id": plan.plan_id,
        "input": plan.input,
        "model": asdict(plan.model),
        "num_rows": summary.num_rows,
        "num_errors": num_errors,
        "shards": [asdict(one) for one in done],
    }
    storage.write_bytes(summary.manifest, json.dumps(content, indent=2).encode())
    _log.info("published", rows=summary.num_rows, errors=num_errors, shards=len(done), manifest=summary.manifest)
    return summary


def predict_batch(settings: Settings, source: str, output: str, model: str, options: PlanOptions) -> Summary:
    """All of it in this process; see `plan_batch`, `predict_shards` and `publish_batch`."""
    plan_batch(settings, source, output, model, options)
    predict_shards(settings, output)
    return publish_batch(settings, output)


def _delete_others(storage: ObjectStorage, output: str, done: Iterable[DoneShard]) -> None:
    """Files of workers that were overtaken or killed."""
    listed = {name for one in done for name in (one.file, one.errors_file)}
    for folder in ("shards", "errors"):
        for file in storage.list_files(join_uri(output, folder)):
            if f"{folder}/{file.name}" not in listed:
                storage.delete(join_uri(output, folder, file.name))


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
