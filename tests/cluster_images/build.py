"""Images that stand in for public ones where no registry can be reached: the same names, made from ordinary packages.

MinIO is its Go module, Postgres is Debian's package. They hold what the manifests use of the public images and no more, and
their versions are near those that the tags name, not the same. On a cluster that reaches the registries the public ones are used.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from images.build import build_context, has_image
from tests.servers.programs import MODULES, find_program

STAND_INS = {"minio": "quay.io/minio/minio", "postgres": "docker.io/library/postgres"}
"""The folder of each here, and the public name it is given."""

_HERE = Path(__file__).parent
_PROGRAMS = {"minio": ("minio",), "postgres": ()}
"""Go programs that lie beside the Dockerfile when it is built."""


def provide_stand_in(folder: str, tag: str, *, tool: str) -> str:
    """Build the image unless this machine has it already, and give it the public name with `tag`; the whole reference."""
    public = f"{STAND_INS[folder]}:{tag}"
    built = f"localhost/slipway-tests/{folder}:{_hash_inputs(folder)}"
    if not has_image(built, tool=tool):
        with tempfile.TemporaryDirectory(prefix="slipway-image-") as name:
            context = Path(name)
            shutil.copytree(_HERE / folder, context, dirs_exist_ok=True)
            for program in _PROGRAMS[folder]:
                shutil.copy2(find_program(program), context)
            build_context(context, context / "Dockerfile", built, tool=tool)
    subprocess.run([tool, "tag", built, public], check=True, stdout=sys.stderr)
    return public


def _hash_inputs(folder: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((_HERE / folder).iterdir()):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    for program in _PROGRAMS[folder]:
        digest.update(MODULES[program].encode())
    return digest.hexdigest()[:12]
