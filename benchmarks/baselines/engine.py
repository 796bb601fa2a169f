"""The engine alone in a loop, on the very arrays that a batch prediction would hand it: what is left if all else cost nothing."""

import argparse
import time
from pathlib import Path

from benchmarks.turns import Turns
from slipway.batch.plan import read_plan
from slipway.batch.samples import read_samples
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
    read = [found for shard in plan.shards for found in read_samples(storage, plan, shard, engine, bundle.info)]
    turns = Turns(options.turns)
    while True:
        turns.wait()
        cpu = time.process_time()
        for samples in read:
            engine.predict(samples.inputs)
        turns.done(images=sum(len(samples.rows) for samples in read), cpu_seconds=time.process_time() - cpu)


if __name__ == "__main__":
    main()
