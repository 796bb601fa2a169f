"""Build the container images with docker, buildah or podman, whichever works here. `make images` calls it.

python images/build.py [--tool TOOL] [--registry REGISTRY] [--tag TAG] [pipeline trainer predictor mlflow]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = {
    "pipeline": "slipway-pipeline-python",
    "trainer": "slipway-trainer-python",
    "predictor": "slipway-predictor",
    "mlflow": "slipway-mlflow",
}
"""The folder of each image here, and its name in the registry. kfp.local wants "python" in the names of the tasks' images."""
REGISTRY = "ghcr.io/slipway"

_BUILD_COMMANDS = {
    "docker": ("docker", "build"),
    "buildah": ("buildah", "build", "--layers"),
    "podman": ("podman", "build"),
}
_PROBES = {"docker": ("docker", "info"), "buildah": ("buildah", "version"), "podman": ("podman", "version")}
_PROBE_SECONDS = 20
_ENVIRONMENT = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
"""One manifest an image: `kind load` fails on those with docker's attestations beside them where containerd keeps the images."""


def find_tool() -> str:
    """The first of docker, buildah and podman that is installed and, in docker's case, has its daemon running.

    Raises:
        RuntimeError: there is none.
    """
    for tool, probe in _PROBES.items():
        if shutil.which(tool) is None:
            continue
        try:
            done = subprocess.run(probe, capture_output=True, timeout=_PROBE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0:
            return tool
    raise RuntimeError("none of docker (with its daemon running), buildah and podman works here: install one of them")


def describe_commit() -> str:
    """Twelve digits of the git commit, with `-dirty` where the checkout differs from it; `unknown` outside a checkout."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return "unknown"
    commit = _ask(git, "rev-parse", "--short=12", "HEAD")
    return f"{commit}-dirty" if _ask(git, "status", "--porcelain") else commit


def build_image(folder: str, reference: str, *, tool: str, context: Path = ROOT) -> None:
    """Build images/`folder` of the checkout `context` as `reference`; layers that are there already are used again.

    Raises:
        subprocess.CalledProcessError: the tool failed; what it wrote is on standard error.
    """
    labels = {"REVISION": describe_commit(), "VERSION": _project_version()}
    build_context(context, context / "images" / folder / "Dockerfile", reference, tool=tool, **labels)


def build_context(context: Path, dockerfile: Path, reference: str, *, tool: str, **arguments: str) -> None:
    """Build `dockerfile` with the files of the folder `context` and build arguments, as `build_image` does."""
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    command = [*_BUILD_COMMANDS[tool], "--file", str(dockerfile), "--tag", reference, *words, str(context)]
    environment = {**os.environ, **_ENVIRONMENT}  # noqa: TID251 - the tool's own settings
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)


def has_image(reference: str, *, tool: str) -> bool:
    """Whether `tool` has an image of that name here."""
    inspect = (tool, "inspect", "--type", "image") if tool == "buildah" else (tool, "image", "inspect")
    return subprocess.run([*inspect, reference], capture_output=True, check=False).returncode == 0


def _ask(git: str, *arguments: str) -> str:
    return subprocess.run([git, "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout.strip()


def _project_version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def _parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="images/build.py", description="Build the container images.")
    parser.add_argument("--tool", choices=sorted(_BUILD_COMMANDS), help="by default the first one that works")
    parser.add_argument("--registry", default=REGISTRY, help="by default %(default)s")
    parser.add_argument("--tag", help="by default the git commit, with -dirty where the checkout differs from it")
    parser.add_argument("images", nargs="*", metavar="image", help=f"{', '.join(IMAGES)}; by default all")
    given = parser.parse_args(words)
    if unknown := set(given.images) - set(IMAGES):
        parser.error(f"there is no image {', '.join(sorted(unknown))}; accepted: {', '.join(IMAGES)}")
    return given


def main(words: Sequence[str] | None = None) -> int:
    """Print the reference of each image that was built, one a line."""
    given = _parse_arguments(words)
    try:
        tool = given.tool or find_tool()
        for folder in given.images or IMAGES:
            reference = f"{given.registry}/{IMAGES[folder]}:{given.tag or describe_commit()}"
            build_image(folder, reference, tool=tool)
            sys.stdout.write(f"{reference}\n")
    except (RuntimeError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
