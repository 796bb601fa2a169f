"""Batch predictions as the tests make and read them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from slipway.batch.plan import PlanOptions
from slipway.batch.work import Summary, predict_batch
from slipway.settings import Settings


def run(settings: Settings, source: object, output: object, bundle: object, **options: object) -> Summary:
    return predict_batch(settings, str(source), str(output), str(bundle), PlanOptions(**options))


def read_output(output: Path) -> pa.Table:
    """What the manifest lists, in its order."""
    manifest = json.loads((output / "manifest.json").read_text())
    return pa.concat_tables([pq.read_table(output / shard["file"]) for shard in manifest["shards"]])
