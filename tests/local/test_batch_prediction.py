"""The compiled batch prediction, run on this machine."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipelines.compile import compile_batch_prediction
from tests.batches import read_output
from tests.bundles import write_table_bundle
from tests.slipway_home import SLIPWAY, Home

NUM_ROWS = 500
RUN = """
import sys
from pathlib import Path
from kfp import components, local

ir, root, source, output, model = sys.argv[1:]
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=True)
pipeline = components.load_component_from_file(ir)
pipeline(input_uri=source, output_uri=output, model=model, shard_rows=64, max_unreadable=0.01, num_workers=3)
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("batch")
    write_table_bundle(root / "bundle")
    cities = np.array(["Oslo", "Rome", ""])[np.arange(NUM_ROWS) % 3]
    lines = [f"{age},{city}\n" for age, city in zip(range(NUM_ROWS), cities, strict=True)]
    lines[100] = "old,Rome\n"
    (root / "people.csv").write_text("age,city\n" + "".join(lines))
    return root


def run_pipeline(table: Path, ir: Path, output: Path, new_home) -> subprocess.CompletedProcess[str]:
    home = new_home()
    arguments = [ir, table / "artifacts", table / "people.csv", output, table / "bundle"]
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    return subprocess.run(command, env=home.environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_compiled_pipeline_and_the_command_line_give_the_same_answers(table, tmp_path, new_home) -> None:
    compile_batch_prediction(tmp_path / "batch-prediction.yaml")
    done = run_pipeline(table, tmp_path / "batch-prediction.yaml", tmp_path / "by-pipeline", new_home)
    assert done.returncode == 0, done.stdout + done.stderr
    home: Home = new_home()
    options = ["--model", str(table / "bundle"), "--shard-rows", "64", "--max-unreadable", "0.01"]
    asked = home.slipway("predict", "--input", str(table / "people.csv"), "--output", str(tmp_path / "by-hand"), *options)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "499 samples answered, 1 unreadable, in 8 files" in asked.stdout
    answers = read_output(tmp_path / "by-pipeline")
    assert answers["row"].to_pylist() == [row for row in range(NUM_ROWS) if row != 100]
    assert answers.equals(read_output(tmp_path / "by-hand"))


def test_what_serves_can_answer_a_batch_and_a_registered_version_by_its_alias(served: Home, tmp_path) -> None:
    digits = load_digits()
    (tmp_path / "in").mkdir()
    for number in range(40):
        pixels = np.round(digits.images[number] * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number:02d}.png")
    for reference in ("", "digits@champion"):
        output = tmp_path / f"out-{reference}"
        done = served.slipway("predict", "--input", str(tmp_path / "in"), "--output", str(output), "--model", reference)
        assert done.returncode == 0, done.stdout + done.stderr
        found = read_output(output)["predicted_class"].to_pylist()
        right = [name == str(target) for name, target in zip(found, digits.target[:40], strict=True)]
        assert sum(right) >= 36


def test_a_batch_that_lets_nothing_be_unreadable_says_what_is_and_ends_with_1(table, tmp_path, new_home) -> None:
    home: Home = new_home()
    options = ["--output", str(tmp_path / "out"), "--model", str(table / "bundle")]
    done = home.slipway("predict", "--input", str(table / "people.csv"), *options)
    assert done.returncode == 1
    assert "people.csv, row 100: column age is 'old'" in done.stderr
    assert home.slipway("predict").returncode == 2
    assert home.slipway("predict", "--input", str(table / "people.csv")).returncode == 2


def test_a_batch_that_is_killed_again_and_again_ends_with_each_sample_once(table, tmp_path, new_home) -> None:
    home: Home = new_home()
    options = ["--input", str(table / "people.csv"), "--model", str(table / "bundle"), "--max-unreadable", "0.01"]
    done = home.slipway("predict", *options, "--output", str(tmp_path / "at-once"), "--shard-rows", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    output = tmp_path / "killed"
    command = [SLIPWAY, "predict", *options, "--output", str(output), "--shard-rows", "2"]
    for num_done in (1, 50, 100, 150, 200):
        with subprocess.Popen(command, env=home.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            deadline = time.monotonic() + 60
            while len(list(output.glob("done/0*.json"))) < num_done and running.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            running.kill()
        assert not (output / "manifest.json").exists()
    done = home.slipway("predict", *options, "--output", str(output), "--shard-rows", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_output(output).equals(read_output(tmp_path / "at-once"))
    visible = {str(path.relative_to(output)) for path in output.rglob("[!.]*") if path.is_file()}
    assert visible == {
        str(path.relative_to(tmp_path / "at-once")) for path in (tmp_path / "at-once").rglob("*") if path.is_file()
    }
