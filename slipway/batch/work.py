"""The three steps of a batch prediction: plan, predict (by one worker or by several), publish. Each can be repeated."""

import time
from dataclasses import dataclass

from slipway.batch.inputs import absolute_uri, cut_inputs, list_inputs
from slipway.batch.manifest import delete_others, find_done, write_manifest
from slipway.batch.model import open_bundle, pin_model
from slipway.batch.plan import Plan, PlanOptions, read_plan, store_plan
from slipway.batch.samples import check_kind
from slipway.batch.shards import check_errors, predict_shard
from slipway.cores import count_cores
from slipway.engines.choice import open_engine
from slipway.errors import BatchError, BundleError
from slipway.log import get_logger
from slipway.settings import Settings
from slipway.storage.objects import ObjectStorage

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
        BatchError: there is nothing to predict from, no such model, the output is no folder apart from the input or belongs to
            another plan.
        StorageError: input or output cannot be reached.
    """
    storage = ObjectStorage(settings)
    source = absolute_uri(source)
    _check_apart(source, absolute_uri(output))
    listing = list_inputs(storage, source)
    plan = Plan(
        input=source,
        folder=listing.folder,
        kind=listing.kind,
        model=pin_model(settings, model),
        options=options,
        files=listing.files,
        shards=cut_inputs(storage, listing, options.shard_rows),
    ).seal()
    store_plan(storage, output, plan)
    _log.info("planned", plan=plan.plan_id, rows=plan.num_rows, shards=len(plan.shards), model=plan.model.reference)
    return plan


def predict_shards(settings: Settings, output: str, worker: int = 0, num_workers: int = 1) -> int:
    """Predict each shard of the plan at `output` that is this worker's and is not done; how many it has predicted.

    Raises:
        BatchError: too much of the input is unreadable, it has changed since it was planned, or the model does not take it.
        BundleError: the model is not the planned one.
        StorageError: input or output cannot be reached.
    """
    storage = ObjectStorage(settings)
    plan = read_plan(storage, output)
    own = plan.shards[worker::num_workers]
    done_before = find_done(storage, output, plan, own)
    missing = [shard for shard in own if shard.number not in done_before]
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
        engine = open_engine(bundle, num_threads=count_cores())
        for shard in missing:
            begun = time.monotonic()
            done = predict_shard(storage, output, plan, shard, engine, bundle.info)
            seconds = round(time.monotonic() - begun, 3)
            _log.info("shard_done", shard=shard.number, rows=done.num_rows, errors=done.num_errors, seconds=seconds)
    return len(missing)


def publish_batch(settings: Settings, output: str) -> Summary:
    """Write the manifest once every shard is done, then delete what it does not list. Repeated, it changes nothing.

    Raises:
        BatchError: shards are missing, or too many samples could not be read.
        StorageError: the output cannot be reached.
    """
    storage = ObjectStorage(settings)
    plan = read_plan(storage, output)
    found = find_done(storage, output, plan, plan.shards)
    num_missing = len(plan.shards) - len(found)
    if num_missing:
        raise BatchError(f"{num_missing} of {len(plan.shards)} shards of {output} are not done. Run it again: it goes on there.")
    done = list(found.values())
    num_errors = sum(one.num_errors for one in done)
    check_errors(plan, num_errors)
    manifest = write_manifest(storage, output, plan, done)
    delete_others(storage, output, done)
    summary = Summary(num_rows=sum(one.num_rows for one in done), num_errors=num_errors, num_shards=len(done), manifest=manifest)
    _log.info("published", rows=summary.num_rows, errors=num_errors, shards=len(done), manifest=manifest)
    return summary


def predict_batch(settings: Settings, source: str, output: str, model: str, options: PlanOptions) -> Summary:
    """All of it in this process; see `plan_batch`, `predict_shards` and `publish_batch`."""
    plan_batch(settings, source, output, model, options)
    predict_shards(settings, output)
    return publish_batch(settings, output)


def _check_apart(source: str, output: str) -> None:
    if f"{output}/".startswith(f"{source}/") or f"{source}/".startswith(f"{output}/"):
        raise BatchError(f"The output {output} and the input {source} lie in each other. Choose a folder apart from the input.")
