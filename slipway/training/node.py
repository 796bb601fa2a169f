"""One node of a training over several, as a pod runs it: `python -m slipway.training.node --work-uri s3://... --index 0`.

It fetches the job and its data set, then runs torchrun until the training has an end. Node 0 holds the rendezvous, keeps the
checkpoints in the object store and publishes the result; when that is done, all is done, and whoever started the nodes ends the
others, which until then stand ready to meet it again. Imports no torch.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from slipway.errors import SlipwayError, StorageError, TrainingFailedError
from slipway.log import configure_logging, get_logger
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri
from slipway.training.job import FAILURE_NAME, LAST_NAME, TrainingJob
from slipway.training.mirror import CheckpointMirror
from slipway.training.processes import (
    clear_traces,
    describe_end,
    end_torchrun,
    read_failure,
    training_environment,
    worker_arguments,
)
from slipway.training.torchrun import RENDEZVOUS_LOST, WORKERS_FAILED
from slipway.training.work_folder import Round, WorkFolder

FAILED_FOR_GOOD = 70
"""Exit status of a node after a failure that another start cannot mend; its termination message says which."""
TERMINATION_FILE = Path("/dev/termination-log")
PORT = 29500
"""Of the rendezvous, on node 0."""
_MESSAGE_BYTES = 4000  # Kubernetes keeps 4096
_LOOK_SECONDS = 0.1
_STOP_SECONDS = 10.0
_LINGER_SECONDS = 3.0
"""A node that failed waits so long before it ends, so that the others, which are ended with it, can say what they saw."""
_RETURN_SECONDS = 3600.0
"""How long another node waits for node 0 to appear, to come back, or to have ended it: export and upload included."""
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_JOIN_SECONDS = 600
_SHORT_ROUND_SECONDS = 30.0
_MAX_SHORT_ROUNDS = 5
_BETWEEN_ROUNDS_SECONDS = 1.0
_HEAR_SECONDS = 0.5
_WORD_SECONDS = 120.0
"""How long another node whose processes failed waits to hear that there is a new checkpoint, before it ends the training."""
_ADDRESS_IN_EACH_ROUND = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""torchrun says where the processes meet in the first round only, unless told so: a node that joins later would wait in vain."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class NodeFailure:
    """Why a node failed for good; its container's termination message."""

    kind: str
    message: str
    at: float
    """Seconds since the epoch: of several nodes' failures the earliest is the cause."""

    def write(self, path: Path) -> None:
        """Leave it where Kubernetes looks for it."""
        message = self.message
        while len(content := json.dumps(asdict(self) | {"message": message})) > _MESSAGE_BYTES:  # escapes count
            message = message[: -max(1, (len(content) - _MESSAGE_BYTES) // 6)]
        path.write_text(content)

    @classmethod
    def parse(cls, text: str) -> "NodeFailure | None":
        """Read a termination message; None where it is of another kind, such as a log's last lines."""
        try:
            content = json.loads(text)
            return cls(kind=content["kind"], message=content["message"], at=float(content["at"]))
        except (ValueError, KeyError, TypeError):
            return None


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
            rounds = Rounds(lambda: self.read_position(job))
            while not self._run_torchrun(job, self._place.address, rounds):
                rounds.count()
            self._shared.publish_result(job)
        log.info("result published", uri=self._shared.uri)

    def _take_part(self, job: TrainingJob) -> None:
        """Meet node 0 again and again: what it has not finished may need this node. Whoever started the nodes ends this one."""
        rounds = Rounds(lambda: self.read_position(job))
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

    def read_position(self, job: TrainingJob) -> str:
        """Differs once the last checkpoint is another one, which node 0 writes.

        The others hear of it from node 0 at the end of its round, or see the copy, where that is there sooner or node 0 was lost.
        """
        if self._place.index == 0:
            own = job.work_dir / LAST_NAME
            return str(own.stat().st_mtime_ns) if own.exists() else ""
        copied = self._shared.storage.find_file(join_uri(self._shared.checkpoints_uri, LAST_NAME))
        return f"{self._shared.read_round(self._meeting).position} {copied.version if copied is not None else ''}"

    def tell(self, job: TrainingJob, *, is_over: bool) -> None:
        """Let the others know where node 0 is; they see the copied checkpoint too, so a store that is away is no failure here."""
        if self._place.index != 0:
            return
        try:
            self._shared.write_round(self._meeting, Round(position=self.read_position(job), is_over=is_over))
        except StorageError as error:
            log.warning("the other nodes are not told of the last checkpoint", error=str(error))

    def has_come_further(self, rounds: "Rounds", *, seconds: float = _WORD_SECONDS) -> bool:
        """Whether a round of which the processes failed brought a new checkpoint.

        Node 0 knows, and tells the others when its own round is over, or within `seconds`: all of them decide alike. What they
        read then is of this round, since they met in it, and node 0 tells of its beginning first.
        """
        deadline = time.monotonic() + seconds
        while True:
            is_known = self._place.index == 0 or self._shared.read_round(self._meeting).is_over
            is_last = is_known or time.monotonic() >= deadline
            if rounds.has_moved():
                return True
            if is_last:
                return False
            time.sleep(_HEAR_SECONDS)

    def _run_torchrun(self, job: TrainingJob, leader: str, rounds: "Rounds") -> bool:
        """One round of torchrun with node 0 at `leader`; False where another round may go better.

        It may where the nodes lost each other, and where processes failed too often but had come further than before: torchrun
        cannot tell a process that failed from one whose node was taken away, and counts both.

        Raises:
            TrainingFailedError: the training itself failed.
        """
        rounds.begin()
        self.tell(job, is_over=False)
        clear_traces(job.work_dir)
        log.info("starting torchrun", node=self._place.index, nodes=job.train.num_nodes, leader=leader)
        with ExitStack() as stack:
            environment = training_environment(_per_node(job)) | _ADDRESS_IN_EACH_ROUND
            process = subprocess.Popen(self._command(job, leader), env=environment, stdin=subprocess.DEVNULL)
            stack.callback(end_torchrun, process, stop_seconds=_STOP_SECONDS)
            while process.poll() is None and not (job.work_dir / FAILURE_NAME).exists():
                time.sleep(_LOOK_SECONDS)
            self.ended_at = time.time()
        self.tell(job, is_over=True)
        message = read_failure(job.work_dir)
        if message:
            raise TrainingFailedError(message)
        if process.returncode == WORKERS_FAILED and self.has_come_further(rounds):
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


class Rounds:
    """Rounds of torchrun that ended without a result: any number, but few that end as soon as they begin and come no further."""

    def __init__(self, read_position: Callable[[], object]) -> None:
        self._read_position = read_position
        self._num_short = 0
        self.begin()

    def begin(self) -> None:
        """A round begins."""
        self._begun = time.monotonic()
        self._position = self._read_position()

    def has_moved(self) -> bool:
        """Whether there is a new checkpoint since the round began."""
        return self._read_position() != self._position

    def count(self) -> None:
        """A round has ended, and the next one begins after a breath."""
        short = time.monotonic() - self._begun < _SHORT_ROUND_SECONDS and not self.has_moved()
        self._num_short = self._num_short + 1 if short else 0
        if self._num_short >= _MAX_SHORT_ROUNDS:
            raise TrainingFailedError(
                f"the nodes did not come together {_MAX_SHORT_ROUNDS} times in a row. The log above has torchrun's own reasons; "
                "a network policy that keeps the workers from each other is a likely one."
            )
        time.sleep(_BETWEEN_ROUNDS_SECONDS)


def _resolve(name: str) -> str:
    """The address of this machine under its own name."""
    return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
