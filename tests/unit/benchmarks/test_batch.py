import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.turns import Contestant, stock_environment
from slipway.batch.plan import PlanOptions
from slipway.batch.work import plan_batch, publish_batch
from tests.batches import read_output
from tests.bundles import write_image_bundle


@pytest.mark.parametrize("module", ["benchmarks.players.batch", "benchmarks.baselines.engine"])
def test_each_side_predicts_every_image_of_the_plan_in_each_turn(settings, tmp_path, module):
    write_image_bundle(tmp_path / "bundle")
    (tmp_path / "in").mkdir()
    for number in range(7):
        pixels = np.full((8, 8 + number % 2, 3), 30 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.jpg")
    output = tmp_path / "out"
    plan_batch(settings, str(tmp_path / "in"), str(output), str(tmp_path / "bundle"), PlanOptions(shard_rows=3))
    with Contestant("side", [sys.executable, "-m", module, "--output", str(output)], stock_environment(), tmp_path) as side:
        for _ in range(2):
            facts = side.take_turn().facts
            assert facts["images"] == 7
            assert facts["cpu_seconds"] > 0
    if module == "benchmarks.players.batch":
        publish_batch(settings, str(output))
        assert len(read_output(output)) == 7
