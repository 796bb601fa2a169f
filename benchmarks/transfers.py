"""The turns of a program that moves a folder to a bucket and back."""

import argparse
import filecmp
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.turns import Turns


def add_places(parser: argparse.ArgumentParser) -> None:
    """Options that every such program takes."""
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--turns", required=True)


def take_turns(options: argparse.Namespace, upload: Callable[[], object], download: Callable[[], object]) -> None:
    """Time both ways; what came back is compared with what was sent while the clock stands."""
    turns = Turns(options.turns)
    while True:
        turns.wait()
        cpu = time.process_time()
        start = time.perf_counter()
        upload()
        middle = time.perf_counter()
        download()
        end = time.perf_counter()
        cpu = time.process_time() - cpu
        _require_same(options.source, options.target)
        shutil.rmtree(options.target)
        turns.done(up_seconds=middle - start, down_seconds=end - middle, cpu_seconds=cpu)


def _require_same(source: Path, target: Path) -> None:
    names = sorted(path.name for path in source.iterdir())
    match, mismatch, errors = filecmp.cmpfiles(source, target, names, shallow=False)
    if match != names or len(list(target.iterdir())) != len(names):
        raise RuntimeError(f"{len(mismatch) + len(errors)} of {len(names)} files did not come back as they were sent.")
