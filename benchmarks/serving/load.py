"""The load generator as a program with turns: each turn it loads the server that it is pointed at, and says what came of it."""

import argparse
import time
from pathlib import Path

from benchmarks.processes import processor_seconds
from benchmarks.serving.client import send_load
from benchmarks.turns import Turns


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--requests", type=Path, required=True, help="folder of files, each a whole HTTP request")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, required=True)
    parser.add_argument("--turns", required=True)
    options = parser.parse_args()

    requests = [path.read_bytes() for path in sorted(options.requests.iterdir())]
    turns = Turns(options.turns)
    while True:
        turns.wait()
        own, server, clock = time.process_time(), processor_seconds(options.server_pid), time.perf_counter()
        load = send_load(
            ("127.0.0.1", options.port),
            requests,
            num_clients=options.clients,
            seconds=options.seconds,
            warm_up=options.warm_up,
        )
        wall = time.perf_counter() - clock
        server = processor_seconds(options.server_pid) - server
        turns.done(
            images=len(load.latencies),
            rate=load.rate,
            p50=load.percentile(50),
            p90=load.percentile(90),
            p99=load.percentile(99),
            generator_share=(time.process_time() - own) / wall,
            server_share=server / wall,
            server_seconds=server / load.num_answers,
        )


if __name__ == "__main__":
    main()
