"""Slipway's batch prediction of planned images, shard by shard; the model stays loaded, as it does in a worker."""

import argparse
import time

from benchmarks.planned import PlannedBatch
from benchmarks.turns import Turns
from slipway.batch.shards import predict_shard


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True, help="that the plan lies in")
    parser.add_argument("--turns", required=True)
    options = parser.parse_args()

    batch = PlannedBatch.open(options.output)
    turns = Turns(options.turns)
    while True:
        turns.wait()
        cpu = time.process_time()
        done = [
            predict_shard(batch.storage, options.output, batch.plan, shard, batch.engine, batch.info)
            for shard in batch.plan.shards
        ]
        turns.done(images=sum(shard.num_rows for shard in done), cpu_seconds=time.process_time() - cpu)


if __name__ == "__main__":
    main()
