"""A `kubectl` for the scripts in manifests/, where there is no cluster: Secrets as files, and kustomizations built for real.

It knows the few calls that the scripts make before they change anything but Secrets; any other ends with status 99.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

UNEXPECTED = 99


def main(words: list[str]) -> int:
    """Answer as kubectl answers; the cluster is the folder CLUSTER_FOLDER, with a folder for each namespace."""
    cluster = Path(os.environ["CLUSTER_FOLDER"])  # noqa: TID251 - it is a program of its own
    options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word)
    verb, *names = [word for word in words if not word.startswith("-")]
    namespace = cluster / options.get("namespace", "default")
    if verb == "kustomize":
        return subprocess.run([os.environ["KUSTOMIZE"], "build", *names], check=False).returncode  # noqa: TID251
    if verb == "get" and names[0] in ("namespace", "secret"):
        _get((cluster if names[0] == "namespace" else namespace) / names[1], names[0], options["output"])
    elif verb == "create":
        secret = json.load(sys.stdin)
        (namespace / secret["metadata"]["name"]).write_text(json.dumps(secret))
    elif verb == "apply" and options.get("kustomize") == "base/namespace":
        (cluster / "slipway").mkdir()
    else:
        sys.stderr.write(f"kubectl {' '.join(words)}: not expected here\n")
        return UNEXPECTED
    return 0


def _get(path: Path, kind: str, output: str) -> None:
    if output == "name":
        sys.stdout.write(f"{kind}/{path.name}\n" if path.exists() else "")
        return
    secret: dict[str, Any] = json.loads(path.read_text())
    if found := re.search(r'index \.data "([^"]+)"', output):
        sys.stdout.write(secret["stringData"].get(found[1], ""))
    elif found := re.search(r'\.metadata\.annotations.*index \. "([^"]+)"', output):
        sys.stdout.write(secret["metadata"]["annotations"].get(found[1], ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
