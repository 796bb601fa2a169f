"""The list of what a finished batch prediction consists of. What it names stands as long as it does."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from slipway.batch.plan import Plan, Shard
from slipway.batch.shards import DoneShard, read_done, stands
from slipway.errors import ObjectMissingError
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri

MANIFEST_NAME = "manifest.json"
_WRITTEN = {"shards": re.compile(r"\d{6,}-[0-9a-f]{16}\.parquet"), "errors": re.compile(r"\d{6,}-[0-9a-f]{16}\.jsonl")}


def find_done(storage: ObjectStorage, output: str, plan: Plan, shards: Iterable[Shard]) -> dict[int, DoneShard]:
    """Those of the shards whose files stand, by number: as a manifest lists them already, else as their marks say."""
    listed = _read_listed(storage, output, plan)
    found: dict[int, DoneShard] = {}
    for shard in shards:
        candidates = (listed.get(shard.number), read_done(storage, output, plan, shard))
        standing = next((done for done in candidates if done is not None and stands(storage, output, done)), None)
        if standing is not None:
            found[shard.number] = standing
    return found


def write_manifest(storage: ObjectStorage, output: str, plan: Plan, done: Sequence[DoneShard]) -> str:
    """List the shards; its URI. One that says the same already stays as it is."""
    uri = join_uri(output, MANIFEST_NAME)
    content = {
        "plan_id": plan.plan_id,
        "input": plan.input,
        "model": asdict(plan.model),
        "num_rows": sum(one.num_rows for one in done),
        "num_errors": sum(one.num_errors for one in done),
        "shards": [asdict(one) for one in done],
    }
    encoded = json.dumps(content, indent=2).encode()
    if storage.find_file(uri) is None or storage.read_bytes(uri) != encoded:
        storage.write_bytes(uri, encoded)
    return uri


def delete_others(storage: ObjectStorage, output: str, done: Iterable[DoneShard]) -> None:
    """Remove files of workers that were overtaken or killed; what no worker names in this way is not touched."""
    listed = {name for one in done for name in (one.file, one.errors_file)}
    for folder, pattern in _WRITTEN.items():
        for file in storage.list_files(join_uri(output, folder)):
            if pattern.fullmatch(file.name) and f"{folder}/{file.name}" not in listed:
                storage.delete(join_uri(output, folder, file.name))


def _read_listed(storage: ObjectStorage, output: str, plan: Plan) -> dict[int, DoneShard]:
    try:
        listed = [DoneShard(**one) for one in json.loads(storage.read_bytes(join_uri(output, MANIFEST_NAME)))["shards"]]
    except (ObjectMissingError, ValueError, KeyError, TypeError):
        return {}
    return {done.number: done for done in listed if done.plan_id == plan.plan_id}
