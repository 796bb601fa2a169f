"""Nodes as pods run them, here as processes on two addresses of the loopback device; what they share is a folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.config import ModelConfig, TrainConfig
from slipway.cores import count_cores
from slipway.errors import TrainingFailedError
from slipway.export.bundle import read_bundle
from slipway.launch.local import launch_training
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage
from slipway.training.job import HISTORY_NAME, LAST_NAME, TrainingJob
from slipway.training.node import FAILED_FOR_GOOD, Node, NodeFailure, Place, Rounds
from slipway.training.processes import training_environment
from slipway.training.work_folder import SharedJob, WorkFolder

StartNode = Callable[[int], subprocess.Popen[bytes]]
FIGURES = ("train_loss", "validation_loss", "validation_score")


@pytest.fixture
def shared(tmp_path: Path) -> WorkFolder:
    return WorkFolder(storage=ObjectStorage(load_settings({})), uri=str(tmp_path / "shared"))


@pytest.fixture
def start_node(shared: WorkFolder, tmp_path: Path) -> Iterator[StartNode]:
    """Starts node `index` on an address of its own, with its files where an earlier one of this number had none left."""
    with socket.socket() as free, ExitStack() as stack:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        started = 0

        def start(index: int) -> subprocess.Popen[bytes]:
            nonlocal started
            started += 1
            command = [
                *(sys.executable, "-m", "slipway.training.node", "--work-uri", shared.uri, "--index", str(index)),
                *("--folder", str(tmp_path / f"node-{index}-{started}"), "--failure-file", str(tmp_path / f"failure-{index}")),
                *("--address", f"127.0.0.{index + 1}", "--port", str(port), "--meeting", "m"),
            ]
            log = stack.enter_context((tmp_path / f"node-{index}-{started}.log").open("wb"))
            process = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
            stack.callback(kill, process)
            return process

        yield start


def kill(process: subprocess.Popen[bytes]) -> None:
    """As the end of a pod ends all that is in it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"nothing within {seconds} s"
        time.sleep(0.05)
    return value


def begin(shared: WorkFolder, dataset_dir: Path, **train: object) -> SharedJob:
    job = SharedJob(
        dataset_uri=str(dataset_dir),
        model=ModelConfig(width=0.125),
        train=TrainConfig(**{"epochs": 4, "batch_size": 256, "num_nodes": 2, **train}),
    )
    shared.write_job(job)
    return job


def read_curve(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / HISTORY_NAME).read_text())["epochs"]


def test_two_nodes_that_lose_each_other_in_turn_end_with_the_curve_of_two_processes_that_did_not(
    shared, start_node, digits_dir, tmp_path
):
    """Node 1 is killed and comes back with nothing, then node 0. Float sums of two processes have one order: equal to 1e-6."""
    job = begin(shared, digits_dir, epochs=60, max_restarts=3)
    checkpoint = Path(shared.checkpoints_uri) / LAST_NAME
    nodes = [start_node(0), start_node(1)]
    for lost in (1, 0):
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        wait_for(lambda seen=seen: checkpoint.exists() and checkpoint.stat().st_mtime_ns > seen)
        kill(nodes[lost])
        nodes[lost] = start_node(lost)
    assert nodes[0].wait(120) == 0
    assert nodes[1].poll() is None, "node 1 stands by until it is ended"
    nodes[1].terminate()
    assert nodes[1].wait(30) == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("failure-*"))

    undisturbed = job.place(tmp_path / "local")
    undisturbed = replace(undisturbed, dataset_dir=digits_dir)
    expected = launch_training(undisturbed)
    fetched = TrainingJob(
        dataset_dir=digits_dir,
        bundle_dir=tmp_path / "fetched" / "bundle",
        work_dir=tmp_path / "fetched" / "work",
        model=job.model,
        train=job.train,
    )
    result = shared.fetch_result(fetched)
    together, alone = read_curve(fetched.work_dir), read_curve(undisturbed.work_dir)
    assert [entry["epoch"] for entry in together] == list(range(1, 61))
    for name in FIGURES:
        assert [entry[name] for entry in together] == pytest.approx([entry[name] for entry in alone], abs=1e-6), name
    assert (result.best_epoch, result.num_epochs) == (expected.best_epoch, expected.num_epochs)
    assert result.bundle_dir == fetched.bundle_dir
    assert read_bundle(fetched.bundle_dir).info.bundle_id == result.bundle_id


def test_losses_between_which_training_comes_further_do_not_end_it(shared, start_node, digits_dir, tmp_path):
    """Node 1 is taken away twice, and torchrun on node 0 may never start its processes again."""
    begin(shared, digits_dir, epochs=100, max_restarts=0)
    checkpoint = Path(shared.checkpoints_uri) / LAST_NAME
    nodes = [start_node(0), start_node(1)]
    for _ in range(2):
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        wait_for(lambda seen=seen: checkpoint.exists() and checkpoint.stat().st_mtime_ns > seen)
        kill(nodes[1])
        nodes[1] = start_node(1)
    assert nodes[0].wait(180) == 0, (tmp_path / "failure-0").read_text()
    assert "processes failed after a new checkpoint; going on from it" in (tmp_path / "node-0-1.log").read_text()
    assert shared.read_round("m").is_over
    assert shared.read_round("m").position
    assert shared.has_result()


def test_another_node_takes_node_0s_word_for_a_checkpoint_whose_copy_is_still_on_its_way(shared, digits_dir, tmp_path):
    """Node 0 gives it when its round is over, a little after the other's."""
    job = begin(shared, digits_dir).place(tmp_path / "node")
    job.work_dir.mkdir(parents=True)
    leader, other = (Node(Place(index=index, address="127.0.0.1"), shared, tmp_path / "node", "m") for index in (0, 1))
    rounds = Rounds(lambda: other.read_position(job))
    leader.tell(job, is_over=False)
    assert not other.has_come_further(rounds, seconds=0.1), "it waits no longer than it may"
    (job.work_dir / LAST_NAME).write_bytes(b"checkpoint")
    saying = threading.Timer(0.3, leader.tell, [job], {"is_over": True})
    saying.start()
    assert other.has_come_further(rounds, seconds=60)
    saying.join()
    assert not Path(shared.checkpoints_uri).exists()

    rounds.begin()
    leader.tell(job, is_over=False)
    leader.tell(job, is_over=True)
    begun = time.monotonic()
    assert not other.has_come_further(rounds, seconds=60), "the same checkpoint is no progress"
    assert time.monotonic() - begun < 30, "once node 0 has said so there is nothing to wait for"


@pytest.mark.parametrize("num_nodes", [1, 2])
def test_a_crash_that_repeats_itself_ends_the_training_however_far_it_came_before(
    shared, start_node, digits_dir, tmp_path, num_nodes
):
    """The history cannot be written, which is found out after the first checkpoint was."""
    begin(shared, digits_dir, num_nodes=num_nodes, max_restarts=1)
    (tmp_path / "node-0-1" / "work" / HISTORY_NAME).mkdir(parents=True)
    nodes = [start_node(index) for index in range(num_nodes)]
    assert nodes[0].wait(120) == FAILED_FOR_GOOD
    for other in nodes[1:]:  # it may have lost node 0 and wait for its return: then the Job, which has failed, ends it
        other.terminate()
        assert other.wait(60) in (FAILED_FOR_GOOD, 128 + signal.SIGTERM)
    failure = NodeFailure.parse((tmp_path / "failure-0").read_text())
    assert "IsADirectoryError" in failure.message
    log = (tmp_path / "node-0-1.log").read_text()
    assert log.count("starting torchrun") <= 3


def test_a_failure_that_no_restart_mends_ends_the_node_at_once_with_the_message_and_a_status_of_its_own(
    shared, start_node, digits_dir, tmp_path
):
    diverging = {"optimizer": "sgd", "learning_rate": 100.0, "momentum": 0.99, "clip_norm": 0.0, "warmup_epochs": 0}
    begin(shared, digits_dir, epochs=50, batch_size=32, **diverging)
    nodes = [start_node(0), start_node(1)]
    assert [node.wait(120) for node in nodes] == [FAILED_FOR_GOOD, FAILED_FOR_GOOD]
    failures = [NodeFailure.parse((tmp_path / f"failure-{index}").read_text()) for index in (0, 1)]
    assert all("the training loss became" in failure.message for failure in failures)
    assert not shared.has_result()


def test_a_node_that_comes_back_after_all_is_done_does_nothing_again(shared, start_node, digits_dir):
    begin(shared, digits_dir, num_nodes=1)
    assert start_node(0).wait(120) == 0
    begun = time.monotonic()
    assert start_node(0).wait(60) == 0
    assert time.monotonic() - begun < 5


def test_a_node_without_its_job_can_be_started_again_and_says_what_it_misses(shared, start_node, tmp_path):
    assert start_node(0).wait(60) == 1
    assert "job.json" in NodeFailure.parse((tmp_path / "failure-0").read_text()).message


@pytest.mark.parametrize("name", ["train-run-key-12.train-run-key.kubeflow.svc.cluster.local", "key-node-0-12.key.ns.svc"])
def test_a_pod_of_an_indexed_job_or_a_train_job_is_reached_under_its_own_name(name):
    assert Place.of_pod(12, name).address == name


def test_torchruns_ranks_follow_the_names_so_that_node_0_is_the_first():
    names = [Place.of_pod(index, f"train-run-key-{index}.train-run-key.ns.svc").address for index in range(25)]
    assert min(names) == names[0]


@pytest.mark.parametrize("name", ["some-host", "train-run-key-12", "train-run-key-1.service.ns.svc"])
def test_a_pod_whose_name_does_not_end_in_its_index_is_refused(name):
    with pytest.raises(TrainingFailedError, match="no pod of an Indexed Job"):
        Place.of_pod(12, name)


def test_processes_count_the_cores_of_their_container_and_not_those_of_the_machine(tmp_path):
    quota = tmp_path / "cpu.max"
    machine = len(os.sched_getaffinity(0))
    assert count_cores(quota) == machine
    quota.write_text("max 100000\n")
    assert count_cores(quota) == machine
    quota.write_text("50000 100000\n")
    assert count_cores(quota) == 1


def test_variables_that_torchrun_would_take_for_options_do_not_reach_it(monkeypatch):
    monkeypatch.setenv("PET_NNODES", "7")
    assert not [name for name in training_environment(1) if name.startswith("PET_")]
