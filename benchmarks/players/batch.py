"""Slipway's batch prediction of planned images, shard by shard; the model stays loaded, as it does in a worker."""

import argparse
import time
from pathlib import Path

from benchmarks.turns import Turns
from slipway.batch.plan import read_plan
from slipway.batch.shards import predict_shard
from slipway.cores import count_cores
from slipway.engines.choice import open_engine
from slipway.export.bundle import read_bundle
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True, help="that the plan lies in")
    parser.add_argument("--turns", required=True)
    options = parser.parse_args()

    storage = ObjectStorage(load_settings())
    plan = read_plan(storage, options.output)
    bundle = read_bundle(Path(plan.model.reference))
    engine = open_engine(bundle, num_threads=count_cores())
    turns = Turns(options.turns)
    while True:
        turns.wait()
        cpu = time.process_time()
        done = [predict_shard(storage, options.output, plan, shard, engine, bundle.info) for shard in plan.shards]
        turns.done(images=sum(shard.num_rows for shard in done), cpu_seconds=time.process_time() - cpu)


if __name__ == "__main__":
    main()
