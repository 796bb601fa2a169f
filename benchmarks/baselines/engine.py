"""The engine alone in a loop, on the very arrays that a batch prediction would hand it: what is left if all else cost nothing."""

import argparse
import time

from benchmarks.planned import PlannedBatch
from benchmarks.turns import Turns
from slipway.batch.samples import read_samples


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True, help="that the plan lies in")
    parser.add_argument("--turns", required=True)
    options = parser.parse_args()

    batch = PlannedBatch.open(options.output)
    engine = batch.engine
    read = [found for shard in batch.plan.shards for found in read_samples(batch.storage, batch.plan, shard, engine, batch.info)]
    turns = Turns(options.turns)
    while True:
        turns.wait()
        cpu = time.process_time()
        for samples in read:
            engine.predict(samples.inputs)
        turns.done(images=sum(len(samples.rows) for samples in read), cpu_seconds=time.process_time() - cpu)


if __name__ == "__main__":
    main()
