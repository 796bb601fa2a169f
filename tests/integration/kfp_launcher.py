"""What runs inside the pod in place of KFP's launcher: fetch the inputs, run the component, keep the outputs.

    python launcher.py EXECUTOR_INPUT COMMAND...

It stands in for `launch` of KFP 2.17: artifacts at `s3://BUCKET/KEY` lie at `/s3/BUCKET/KEY` while the component runs, `{{$}}`
in its command is the executor input, its outputs are kept only where it succeeds. What the component says of its outputs is
written beside them, as `executor_output.json`, since there is no metadata server to tell.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage


def local_path(uri: str) -> Path:
    """Where a component finds an artifact."""
    return Path("/s3") / uri.removeprefix("s3://")


def main(executor_input: str, command: list[str]) -> int:
    """The component's exit status."""
    task = json.loads(executor_input)
    storage = ObjectStorage(load_settings())
    for uri in list_uris(task["inputs"]):
        fetch(storage, uri)
    outputs = list(list_uris(task["outputs"]))
    files = [Path(task["outputs"]["outputFile"])]
    files += [Path(one["outputFile"]) for one in task["outputs"].get("parameters", {}).values()]
    for path in (*files, *map(local_path, outputs)):
        path.parent.mkdir(parents=True, exist_ok=True)
    status = run([part.replace("{{$}}", executor_input) for part in command])
    if status == 0:
        keep(storage, outputs, Path(task["outputs"]["outputFile"]), task["outputs"]["standInUri"])
    return status


def list_uris(side: dict[str, Any]) -> Iterator[str]:
    """The URIs of a task's artifacts."""
    for listed in side.get("artifacts", {}).values():
        for artifact in listed["artifacts"]:
            yield artifact["uri"]


def fetch(storage: ObjectStorage, uri: str) -> None:
    """Bring an artifact, a file or a folder, to where the component looks for it."""
    if storage.exists(uri):
        storage.download_file(uri, local_path(uri))
    else:
        storage.download_folder(uri, local_path(uri))


def run(command: list[str]) -> int:
    """The status of the component, which gets the signals that this process gets, as under Argo."""
    process = subprocess.Popen(command, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: os.killpg(process.pid, received))
    return process.wait()


def keep(storage: ObjectStorage, outputs: list[str], said: Path, target: str) -> None:
    """Upload what the component wrote; an artifact that it did not write is none, as with KFP."""
    for uri in outputs:
        path = local_path(uri)
        if path.is_dir():
            storage.upload_folder(path, uri)
        elif path.exists():
            storage.upload_file(path, uri)
        else:
            print(f"the component wrote nothing to {path}", flush=True)
    storage.write_bytes(target, said.read_bytes() if said.exists() else b"{}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
