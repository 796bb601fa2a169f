"""Training as it is really started: torchrun, in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from slipway.config import ModelConfig
from slipway.errors import TrainingFailedError
from slipway.export.bundle import read_bundle
from slipway.launch.local import launch_training
from slipway.training.job import BEST_NAME, ENVIRONMENT_NAME, HISTORY_NAME, LAST_NAME, TrainingJob

LAUNCH = """
import sys
from pathlib import Path
from slipway.launch.local import launch_training
from slipway.training.job import TrainingJob
launch_training(TrainingJob.read(Path(sys.argv[1])))
"""


def find_workers(job: TrainingJob) -> list[int]:
    """Pids of the job's training processes, torchrun's own left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if str(job.work_dir / "job.json") in arguments and "torch.distributed.run" not in arguments:
                found.append(int(entry.name))
    return found


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"nothing within {seconds} s"
        time.sleep(0.02)
    return value


def load_network(job: TrainingJob, name: str) -> dict[str, torch.Tensor]:
    return torch.load(job.work_dir / name, weights_only=True)["network"]


def test_a_worker_that_is_killed_is_restarted_and_ends_with_the_weights_of_one_that_was_not(make_job, train):
    undisturbed = make_job("undisturbed", epochs=40)
    train(undisturbed)
    job = make_job("killed", epochs=40)

    def kill() -> None:
        wait_for((job.work_dir / LAST_NAME).exists)
        os.kill(find_workers(job)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = launch_training(job)
    killer.join()
    assert result.num_restarts == 1
    assert result.num_epochs == 40
    for name in (LAST_NAME, BEST_NAME):
        killed, whole = load_network(job, name), load_network(undisturbed, name)
        assert all(torch.equal(killed[key], whole[key]) for key in whole)
    bundle = read_bundle(job.bundle_dir)
    assert bundle.info.bundle_id == result.bundle_id
    assert bundle.info.metrics == result.metrics
    assert json.loads((job.work_dir / HISTORY_NAME).read_text())["best_epoch"] == result.best_epoch
    recorded = json.loads((job.work_dir / ENVIRONMENT_NAME).read_text())
    assert recorded["packages"]["torch"] == torch.__version__.partition("+")[0]


def test_a_loss_that_is_not_finite_is_reported_with_its_step_and_not_tried_again(make_job, capfd):
    job = make_job(optimizer="sgd", learning_rate=100.0, momentum=0.99, clip_norm=0.0, epochs=20, warmup_epochs=0)
    with pytest.raises(TrainingFailedError, match=r"the training loss became (nan|inf) in epoch \d+, step \d+ of 5"):
        launch_training(job)
    assert capfd.readouterr().err.count("finished_epochs=") == 1
    assert not job.bundle_dir.exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=["terminated", "killed"])
def test_no_training_process_outlives_its_launcher(make_job, number, status):
    job = make_job(epochs=5000)
    path = job.write()
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCH, str(path)], stderr=subprocess.DEVNULL)
    wait_for((job.work_dir / HISTORY_NAME).exists)
    assert find_workers(job)
    launcher.send_signal(number)
    assert launcher.wait(30) == status
    wait_for(lambda: not find_workers(job), seconds=20)


def test_two_processes_learn_what_one_learns(make_job, wine_dir, train):
    """The network has no batch normalisation, whose statistics are each process's own."""
    settings = {"dataset_dir": wine_dir, "model": ModelConfig(), "epochs": 8, "batch_size": 32, "accumulate_steps": 3}
    job = make_job("two", num_processes=2, **settings)
    result = launch_training(job)
    alone = train(make_job("one", **settings))
    together = json.loads((job.work_dir / HISTORY_NAME).read_text())["epochs"]
    for name in ("train_loss", "validation_loss", "validation_score"):
        assert [entry[name] for entry in together] == pytest.approx([getattr(entry, name) for entry in alone.history], abs=1e-4)
    assert result.validation_score > 0.9
    assert np.isfinite(result.samples_per_second)
