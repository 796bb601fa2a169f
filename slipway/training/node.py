"""One node of a training over several, as a pod runs it: `python -m slipway.training.node --work-uri s3://... --index 0`.

It fetches the job and its data set, then runs torchrun until the training has an end. Node 0 holds the rendezvous, keeps the
checkpoints in the object store and publishes the result; when that is done, all is done, and whoever started the nodes ends the
others, which until then stand ready to meet it again. Imports no torch.
"""

import argparse
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from slipway.errors import SlipwayError, StorageError, TrainingFailedError
from slipway.log import configure_logging, get_logger
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage
from slipway.training.job import FAILURE_NAME, TrainingJob
from slipway.training.mirror import CheckpointMirror
from slipway.training.node_failure import FAILED_FOR_GOOD, TERMINATION_FILE, NodeFailure
from slipway.training.processes import (
    clear_traces,
    describe_end,
    end_torchrun,
    read_failure,
    training_environment,
    worker_arguments,
)
from slipway.training.rounds import Rounds
from slipway.training.torchrun import RENDEZVOUS_LOST, WORKERS_FAILED
from slipway.training.work_folder import WorkFolder

PORT = 29500
"""Of the rendezvous, on node 0."""
_LOOK_SECONDS = 0.1
_STOP_SECONDS = 10.0
_LINGER_SECONDS = 3.0
"""A node that failed waits so long before it ends, so that the others, which are ended with it, can say what they saw."""
_RETURN_SECONDS = 3600.0
"""How long another node waits for node 0 to appear, to come back, or to have ended it: export and upload included."""
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_JOIN_SECONDS = 600
_ADDRESS_IN_EACH_ROUND = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""torchrun says where the processes meet in the first round only, unless told so: a node that joins later would wait in vain."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A node's place among the nodes."""

    index: int
    address: str
    """Its own stable name, under which the others reach it. Ranks follow the order of these, so node 0's must be the first."""
    port: int = PORT
    """Of the rendezvous on node 0."""

    @classmethod
    def of_pod(cls, index: int, name: str, port: int = PORT) -> "Place":
        """The place of a pod of an Indexed Job or JobSet, whose full name is `<job>-<index>.<service>.<...>`."""
        host, dot, _ = name.partition(".")
        if not (dot and host.endswith(f"-{index}")):
            raise TrainingFailedError(
                f"this node's name is {name!r}, which does not end its first part with -{index}: it is no pod of an Indexed Job "
                "with a subdomain. Give --address."
            )
        return cls(index=index, address=name, port=port)


def main(arguments: list[str]) -> int:
    """Run the node to the training's end; the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m slipway.training.node", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work-uri", required=True, help="folder that all nodes and the launcher share")
    parser.add_argument("--index", type=int, required=True, help="this node's number, from 0")
    parser.add_argument("--meeting", required=True, help="what these nodes have in common, and no earlier ones of the training")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/slipway-node"), help="for this node's files")  # noqa: S108 - a pod's own
    parser.add_argument("--address", default="", help="name or address of this node; the pod's own full name by default")
    parser.add_argument("--port", type=int, default=PORT, help="of the rendezvous on node 0")
    parser.add_argument("--failure-file", type=Path, default=TERMINATION_FILE, help="where to say why training failed for good")
    options = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging(settings.log_format)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    folder = WorkFolder(storage=ObjectStorage(settings), uri=options.work_uri)
    node: Node | None = None
    try:
        if options.address:
            place = Place(index=options.index, address=options.address, port=options.port)
        else:
            place = Place.of_pod(options.index, socket.getfqdn(), options.port)
        node = Node(place, folder, options.folder, options.meeting)
        node.run()
    except StorageError as error:  # not the training's fault, and perhaps gone at the next start
        log.error("node failed", index=options.index, kind=type(error).__name__, error=str(error))
        NodeFailure(kind=type(error).__name__, message=str(error), at=time.time()).write(options.failure_file)
        return 1
    except SlipwayError as error:
        log.error("node failed", index=options.index, kind=type(error).__name__, error=str(error))
        at = (node.ended_at if node is not None else 0.0) or time.time()  # not when the others had told what it means
        NodeFailure(kind=type(error).__name__, message=str(error), at=at).write(options.failure_file)
        time.sleep(max(0.0, at + _LINGER_SECONDS - time.time()))
        return FAILED_FOR_GOOD
    return 0


def _leave(number: int, _frame: FrameType | None) -> None:
    """End torchrun and copy what is left to copy, instead of ending on the spot."""
    sys.exit(128 + number)


class Node:
    """A node at work."""

    def __init__(self, place: Place, shared: WorkFolder, folder: Path, meeting: str) -> None:
        self._place = place
        self._shared = shared
        self._folder = folder
        self._meeting = meeting
        self.ended_at = 0.0
        """When the last round's torchrun ended, in seconds since the epoch; 0 before."""

    def run(self) -> None:
        """Take part until there is a result.

        Raises:
            TrainingFailedError: starting again cannot mend it.
            StorageError: the object store does not answer, or lacks the data set.
        """
        if self._shared.has_result():
            return
        if self._place.index == 0:
            # By number, through the store: a pod's name that is asked for before it is known counts as unknown for seconds.
            self._shared.write_leader(self._meeting, _resolve(self._place.address))
        shared = self._shared.read_job()
        job = shared.place(self._folder)
        job.work_dir.mkdir(parents=True, exist_ok=True)
        if not job.dataset_dir.exists():
            self._shared.storage.download_folder(shared.dataset_uri, job.dataset_dir)
        job.write()
        if self._place.index == 0:
            self._lead(job)
        else:
            self._take_part(job)

    def _lead(self, job: TrainingJob) -> None:
        with CheckpointMirror(self._shared.storage, job.work_dir, self._shared.checkpoints_uri) as mirror:
            if mirror.restore():
                log.info("checkpoint fetched", uri=self._shared.checkpoints_uri)
            rounds = self._count_rounds(job)
            while not self._run_torchrun(job, self._place.address, rounds):
                rounds.count()
            self._shared.publish_result(job)
        log.info("result published", uri=self._shared.uri)

    def _take_part(self, job: TrainingJob) -> None:
        """Meet node 0 again and again: what it has not finished may need this node. Whoever started the nodes ends this one."""
        rounds = self._count_rounds(job)
        leader = self._await_leader(bool)
        while True:
            if self._run_torchrun(job, leader, rounds):
                self._await_leader(lambda address: not self._answers(address))
            else:
                rounds.count()
            leader = self._await_leader(self._answers)

    def _await_leader(self, suits: Callable[[str], bool]) -> str:
        """Node 0's address, once it suits."""
        deadline, pause = time.monotonic() + _RETURN_SECONDS, _FIRST_PAUSE_SECONDS
        while not suits(address := self._shared.read_leader(self._meeting)):
            if time.monotonic() > deadline:
                raise TrainingFailedError(
                    f"node 0 ({address or 'nowhere'}) neither came back nor finished within {_RETURN_SECONDS:g} s. "
                    "Its own log says why."
                )
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, 1.2 * pause)
        return address

    def _answers(self, address: str) -> bool:
        """Whether node 0 holds a rendezvous there."""
        if not address:
            return False
        try:
            socket.create_connection((address, self._place.port), timeout=2.0).close()
        except OSError:
            return False
        return True

    def _count_rounds(self, job: TrainingJob) -> Rounds:
        return Rounds(self._shared, self._meeting, index=self._place.index, work_dir=job.work_dir)

    def _run_torchrun(self, job: TrainingJob, leader: str, rounds: Rounds) -> bool:
        """One round of torchrun with node 0 at `leader`; False where another round may go better.

        It may where the nodes lost each other, and where processes failed too often but had come further than before.

        Raises:
            TrainingFailedError: the training itself failed.
        """
        rounds.begin()
        clear_traces(job.work_dir)
        log.info("starting torchrun", node=self._place.index, nodes=job.train.num_nodes, leader=leader)
        with ExitStack() as stack:
            environment = training_environment(_per_node(job)) | _ADDRESS_IN_EACH_ROUND
            process = subprocess.Popen(self._command(job, leader), env=environment, stdin=subprocess.DEVNULL)
            stack.callback(end_torchrun, process, stop_seconds=_STOP_SECONDS)
            while process.poll() is None and not (job.work_dir / FAILURE_NAME).exists():
                time.sleep(_LOOK_SECONDS)
            self.ended_at = time.time()
        rounds.end()
        message = read_failure(job.work_dir)
        if message:
            raise TrainingFailedError(message)
        if process.returncode == WORKERS_FAILED and rounds.has_come_further():
            end = describe_end(job, process.returncode, self._shared.checkpoints_uri)
            log.warning("processes failed after a new checkpoint; going on from it", node=self._place.index, reason=end)
            return False
        if process.returncode not in (0, RENDEZVOUS_LOST):
            raise TrainingFailedError(describe_end(job, process.returncode, self._shared.checkpoints_uri))
        return process.returncode == 0

    def _command(self, job: TrainingJob, leader: str) -> list[str]:
        place, is_host = self._place, int(self._place.index == 0)
        endpoint = f"[{leader}]:{place.port}" if ":" in leader else f"{leader}:{place.port}"
        return [
            *(sys.executable, "-m", "slipway.training.torchrun"),
            *("--nnodes", str(job.train.num_nodes), "--nproc-per-node", str(_per_node(job))),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", self._meeting),
            *("--rdzv-conf", f"is_host={is_host},join_timeout={max(_JOIN_SECONDS, 2 * job.train.schedule_seconds)}"),
            *("--local-addr", place.address),
            *("--max-restarts", str(job.train.max_restarts), "--monitor-interval", "0.2"),
            *worker_arguments(job.work_dir / "job.json", job.work_dir),
        ]


def _per_node(job: TrainingJob) -> int:
    return job.train.num_gpus or job.train.num_processes


def _resolve(name: str) -> str:
    """The address of this machine under its own name."""
    return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
