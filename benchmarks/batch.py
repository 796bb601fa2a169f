"""Batch prediction of JPEG files beside the engine alone on the same images, decoded."""

import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.datasets import FEW, LARGE, Textures, prepare
from benchmarks.figures import Figure
from benchmarks.machine import Watch
from benchmarks.pairs import Pair, play, undisturbed
from benchmarks.ratios import ratio_figure
from benchmarks.serving.network import prepare_network
from benchmarks.turns import Contestant, Turn, stock_environment
from slipway.batch.plan import PlanOptions
from slipway.batch.work import plan_batch
from slipway.settings import load_settings

NUM_PAIRS = 5
MAX_PAIRS = 8
GOAL = 0.8
"""Of the engine's own rate; asked for is a throughput near its limit."""
_JPEG_QUALITY = 90
_SIDES = (200, 700)
_SHARD_IMAGES = 1000


def measure_batch_32(watch: Watch, folder: Path) -> list[Figure]:
    """Images of 32 px, as the network takes them."""
    return [_measure(watch, folder, "32", FEW, 4000, lambda image, _: image)]


def measure_batch_224(watch: Watch, folder: Path) -> list[Figure]:
    """Images of 224 px, as the network takes them."""
    return [_measure(watch, folder, "224", LARGE, 800, lambda image, _: image.resize((224, 224)))]


def measure_batch_photos(watch: Watch, folder: Path) -> list[Figure]:
    """Images of 200 to 700 px, each of its own size, for a network of 224 px."""
    return [_measure(watch, folder, "photos", LARGE, 800, _resize_by_chance)]


def _resize_by_chance(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    width, height = generator.integers(*_SIDES, 2).tolist()
    return image.resize((width, height))


def _measure(
    watch: Watch,
    folder: Path,
    name: str,
    textures: Textures,
    num_images: int,
    change: Callable[[Image.Image, np.random.Generator], Image.Image],
) -> Figure:
    network = prepare_network(32 if textures is FEW else 224)
    source, output = folder / "images", str(folder / "answers")
    _write_images(source, sorted(prepare(textures).files.rglob(f"*{textures.suffix}"))[:num_images], change)
    plan_batch(load_settings(), str(source), output, str(network.bundle_dir), PlanOptions(shard_rows=_SHARD_IMAGES))
    start = partial(_start, output=output, folder=folder)
    with start("slipway", "benchmarks.players.batch") as player, start("engine", "benchmarks.baselines.engine") as engine:
        pairs = list(play(player, engine, watch, num_pairs=NUM_PAIRS, max_pairs=MAX_PAIRS))
    return ratio_figure(
        pairs,
        [pair.ratio for pair in pairs],
        name=f"batch-{name}",
        title=f"Batch prediction, JPEG, {name if name == 'photos' else f'{name} px'}, int8, of the engine's own rate",
        wanted=GOAL,
        details=_describe(pairs),
    )


def _start(name: str, module: str, *, output: str, folder: Path) -> Contestant:
    return Contestant(name, [sys.executable, "-m", module, "--output", output], stock_environment(), folder)


def _write_images(folder: Path, files: Sequence[Path], change: Callable[[Image.Image, np.random.Generator], Image.Image]) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number, path in enumerate(files):
        with Image.open(path) as image:
            change(image.convert("RGB"), generator).save(folder / f"{number:05d}.jpg", quality=_JPEG_QUALITY)


def _describe(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Medians over the undisturbed pairs: rates, processor time, and the ratio by it, which depends less on who else is there."""
    pairs = undisturbed(pairs)

    def both(measure: Callable[[Turn], float]) -> dict[str, float]:
        return {
            "slipway": round(statistics.median(measure(pair.ours) for pair in pairs), 3),
            "engine": round(statistics.median(measure(pair.baseline) for pair in pairs), 3),
        }

    return {
        "images_per_second": both(lambda turn: turn.rate),
        "processor_ms_an_image": both(_processor_ms),
        "ratio_by_processor_time": round(
            statistics.median(_processor_ms(pair.baseline) / _processor_ms(pair.ours) for pair in pairs), 3
        ),
    }


def _processor_ms(turn: Turn) -> float:
    return 1000.0 * turn.facts["cpu_seconds"] / turn.facts["images"]
