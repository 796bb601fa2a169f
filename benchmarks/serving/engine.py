"""The engine alone as a program with turns: what the predictor's answers would take if all around it cost nothing."""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.turns import Turns
from slipway.engines.choice import open_engine
from slipway.export.bundle import read_bundle


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="array [count, height, width, 3] as .npy")
    parser.add_argument("--precision", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, required=True)
    parser.add_argument("--turns", required=True)
    options = parser.parse_args()

    engine = open_engine(read_bundle(options.bundle), precision=options.precision, num_threads=options.threads)
    images = np.load(options.images)
    turns = Turns(options.turns)
    while True:
        turns.wait()
        clock = time.perf_counter
        counts_from = clock() + options.warm_up
        ends_at = counts_from + options.seconds
        times: list[float] = []
        number = 0
        while (start := clock()) < ends_at:
            engine.predict({"image": images[number % len(images)][None]})
            number += 1
            if start >= counts_from:
                times.append(clock() - start)
        times.sort()
        turns.done(
            images=len(times),
            rate=len(times) / sum(times),
            p50=times[len(times) // 2],
            p90=times[int(len(times) * 0.9)],
            p99=times[int(len(times) * 0.99)],
        )


if __name__ == "__main__":
    main()
