"""Nodes as pods run them, here as processes on two addresses of the loopback device; what they share is a folder."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from slipway.training.node import Place
from slipway.training.node_failure import FAILED_FOR_GOOD, NodeFailure
from slipway.training.processes import training_environment
from slipway.training.rounds import Rounds
from slipway.training.work_folder import SharedJob, WorkFolder
from tests.servers.ports import find_free_port

FIGURES = ("train_loss", "validation_loss", "validation_score")
WAIT_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True)
class RunningNode:
    """A node as a process."""

    process: subprocess.Popen[bytes]
    log: Path
    failure_file: Path

    @property
    def failure(self) -> NodeFailure | None:
        """What it said at its end."""
        return NodeFailure.parse(self.failure_file.read_text())

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(WAIT_SECONDS)

    def kill(self) -> None:
        """As the end of a pod ends all that is in it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def await_epoch(self, num_starts: int) -> None:
        """Wait until training has begun so many times according to its log, and come to the end of an epoch again."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not ((begun := self.log.read_text().split("] training "))[num_starts:] and "] epoch " in begun[-1]):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"no epoch after start {num_starts}: {self.log.read_text()}"
            time.sleep(0.05)


StartNode = Callable[[int], RunningNode]


@pytest.fixture
def shared(tmp_path: Path) -> WorkFolder:
    return WorkFolder(storage=ObjectStorage(load_settings({})), uri=str(tmp_path / "shared"))


@pytest.fixture
def start_node(shared: WorkFolder, tmp_path: Path) -> Iterator[StartNode]:
    """Starts node `index` on an address of its own, with its files where an earlier one of this number had none left."""
    with ExitStack() as stack:
        port = find_free_port()
        started = 0

        def start(index: int) -> RunningNode:
            nonlocal started
            started += 1
            log_path, failure_file = tmp_path / f"node-{index}-{started}.log", tmp_path / f"failure-{index}"
            command = [
                *(sys.executable, "-m", "slipway.training.node", "--work-uri", shared.uri, "--index", str(index)),
                *("--folder", str(tmp_path / f"node-{index}-{started}"), "--failure-file", str(failure_file)),
                *("--address", f"127.0.0.{index + 1}", "--port", str(port), "--meeting", "m"),
            ]
            log = stack.enter_context(log_path.open("wb"))
            process = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
            node = RunningNode(process=process, log=log_path, failure_file=failure_file)
            stack.callback(node.kill)
            return node

        yield start


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


def test_nodes_that_lose_each_other_again_and_again_end_with_the_curve_of_processes_that_did_not(
    shared, start_node, digits_dir, tmp_path
):
    """torchrun may start its processes again once: it mends node 1's first loss, and the second and node 0's need a new round.

    Whoever comes back has nothing left. Float sums of two processes have one order: equal to 1e-6.
    """
    job = begin(shared, digits_dir, epochs=60, max_restarts=1)
    undisturbed = replace(job.place(tmp_path / "local"), dataset_dir=digits_dir)
    nodes = [start_node(0), start_node(1)]
    with ThreadPoolExecutor() as pool:
        for lost, num_starts in ((1, 1), (1, 2), (0, 3)):
            nodes[0].await_epoch(num_starts)
            nodes[lost].kill()
            nodes[lost] = start_node(lost)
            if num_starts == 1:  # torchrun takes 15 s to see who is gone
                launching = pool.submit(launch_training, undisturbed)
        expected = launching.result()
    assert nodes[0].wait() == 0
    assert nodes[1].process.poll() is None, "node 1 stands by until it is ended"
    nodes[1].process.terminate()
    assert nodes[1].wait() == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("failure-*"))
    first, last = [log.read_text() for log in sorted(tmp_path.glob("node-0-*.log"))]
    assert [text.count("starting torchrun") for text in (first, last)] == [2, 1]
    assert "processes failed after a new checkpoint; going on from it" in first
    assert "finished_epochs=0 " not in last
    assert shared.read_round("m").is_over
    assert shared.read_round("m").position

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


def test_another_node_takes_node_0s_word_for_a_checkpoint_whose_copy_is_still_on_its_way(shared, digits_dir, tmp_path):
    """Node 0 gives it when its round is over, a little after the other's."""
    job = begin(shared, digits_dir).place(tmp_path / "node")
    job.work_dir.mkdir(parents=True)
    leader, other = (Rounds(shared, "m", index=index, work_dir=job.work_dir) for index in (0, 1))
    other.begin()
    leader.begin()
    assert not other.has_come_further(seconds=0.1), "it waits no longer than it may"
    (job.work_dir / LAST_NAME).write_bytes(b"checkpoint")
    saying = threading.Timer(0.3, leader.end)
    saying.start()
    assert other.has_come_further(seconds=60)
    saying.join()
    assert not Path(shared.checkpoints_uri).exists()

    other.begin()
    leader.begin()
    leader.end()
    begun = time.monotonic()
    assert not other.has_come_further(seconds=60), "the same checkpoint is no progress"
    assert time.monotonic() - begun < 30, "once node 0 has said so there is nothing to wait for"


@pytest.mark.parametrize("num_nodes", [1, 2])
def test_a_crash_that_repeats_itself_ends_the_training_however_far_it_came_before(
    shared, start_node, digits_dir, tmp_path, num_nodes
):
    """The history cannot be written at the end of the first epoch, inside of which checkpoints were."""
    begin(shared, digits_dir, num_nodes=num_nodes, max_restarts=0, checkpoint_steps=1)
    (tmp_path / "node-0-1" / "work" / HISTORY_NAME).mkdir(parents=True)
    nodes = [start_node(index) for index in range(num_nodes)]
    assert nodes[0].wait() == FAILED_FOR_GOOD
    for other in nodes[1:]:  # it may have lost node 0 and wait for its return: then the Job, which has failed, ends it
        other.process.terminate()
        assert other.wait() in (FAILED_FOR_GOOD, 128 + signal.SIGTERM)
    assert "IsADirectoryError" in nodes[0].failure.message
    log = nodes[0].log.read_text()
    assert log.count("processes failed after a new checkpoint; going on from it") == 1
    assert log.count("starting torchrun") == 2


def test_a_failure_that_no_restart_mends_ends_the_node_at_once_with_the_message_and_a_status_of_its_own(
    shared, start_node, digits_dir
):
    diverging = {"optimizer": "sgd", "learning_rate": 100.0, "momentum": 0.99, "clip_norm": 0.0, "warmup_epochs": 0}
    begin(shared, digits_dir, epochs=50, batch_size=32, **diverging)
    nodes = [start_node(0), start_node(1)]
    assert [node.wait() for node in nodes] == [FAILED_FOR_GOOD, FAILED_FOR_GOOD]
    assert all("the training loss became" in node.failure.message for node in nodes)
    assert not shared.has_result()


def test_a_node_that_comes_back_after_all_is_done_does_nothing_again(shared, start_node, digits_dir):
    begin(shared, digits_dir, num_nodes=1, epochs=1)
    for is_done in (False, True):
        assert shared.has_result() == is_done
        node = start_node(0)
        assert node.wait() == 0
        assert ("starting torchrun" in node.log.read_text()) != is_done


def test_a_node_without_its_job_can_be_started_again_and_says_what_it_misses(shared, start_node):
    node = start_node(0)
    assert node.wait() == 1
    assert "job.json" in node.failure.message


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
