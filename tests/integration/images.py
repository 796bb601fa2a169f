"""Our images, built from this checkout and handed to the cluster; what is there already is used again.

`python -m tests.integration.images` does it by hand. A cluster that reaches no registry gets stand-ins for the public images too.
"""

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from images.build import IMAGES, REGISTRY, ROOT, build_image, find_tool, has_image
from tests.cluster_images.build import STAND_INS, provide_stand_in
from tests.integration.cluster import LiveCluster

_DEV_CLUSTER = ROOT.parent / "shared" / "cluster" / "cluster"
_VERSIONS = ROOT / "manifests" / "base" / "kustomization.yaml"
_COPY = re.compile(r"^COPY (?!--from)(.+) \S+$", re.MULTILINE)
_LOAD_SECONDS = 1800


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How images come to a cluster."""

    command: tuple[str, ...]
    """Given the images' references as further arguments."""
    tool: str
    """What builds them where `command` finds them."""
    has_registries: bool
    """Whether the cluster can pull public images; else it gets stand-ins."""
    base_image: tuple[str, ...] = ()
    """A command that puts the image which Dockerfiles start from where `tool` finds it; none where it can be pulled."""


def ensure_images(cluster: LiveCluster) -> Mapping[str, str]:
    """Build what is missing, hand all to the cluster, and return the tag of each image by its name."""
    return _provide(cluster.kubectl("config", "current-context").strip())


def ensure_image(cluster: LiveCluster, folder: str) -> str:
    """Build the one of images/`folder` if it is missing, hand it to the cluster, and return its reference."""
    loading = _find_loading(cluster.kubectl("config", "current-context").strip())
    with _one_at_a_time():
        ((name, tag),) = _build_missing(loading, (folder,)).items()
        _load(loading, [f"{name}:{tag}"])
    return f"{name}:{tag}"


def choose_loading(context: str, environ: Mapping[str, str]) -> Loading:
    """How images come to the cluster of a kubeconfig's context.

    SLIPWAY_LOAD_IMAGES names a command for any other cluster, and CONTAINER_TOOL what builds for it.

    Raises:
        RuntimeError: nothing is known about this cluster.
    """
    if "SLIPWAY_LOAD_IMAGES" in environ:
        command = tuple(shlex.split(environ["SLIPWAY_LOAD_IMAGES"]))
        return Loading(command=command, tool=environ.get("CONTAINER_TOOL") or find_tool(), has_registries=True)
    if context.startswith("kind-"):
        command = ("kind", "load", "docker-image", "--name", context.removeprefix("kind-"))
        return Loading(command=command, tool="docker", has_registries=True)
    if context == "dev-cluster":
        cluster = environ.get("CLUSTER_COMMAND") or str(_DEV_CLUSTER)
        if shutil.which(cluster) is None:
            raise RuntimeError(f"{cluster} is not there: say with CLUSTER_COMMAND where the command that runs dev-cluster is")
        return Loading(command=(cluster, "load"), tool="buildah", has_registries=False, base_image=(cluster, "base-image"))
    raise RuntimeError(
        f"how images come to the cluster {context!r} is not known: set SLIPWAY_LOAD_IMAGES to a command that takes their names"
    )


def hash_inputs(folder: str, checkout: Path = ROOT) -> str:
    """What images/`folder` is made from: its Dockerfile and the files it copies. Twelve hex digits."""
    dockerfile = checkout / "images" / folder / "Dockerfile"
    paths = [dockerfile, checkout / ".dockerignore"]
    for sources in _COPY.findall(dockerfile.read_text()):
        paths += [path for source in sources.split() for path in _files(checkout / source)]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(checkout).as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _provide(context: str) -> dict[str, str]:
    loading = _find_loading(context)
    with _one_at_a_time():
        tags = _build_missing(loading, tuple(IMAGES))
        if not loading.has_registries:
            versions = _public_versions()
            for folder, name in STAND_INS.items():
                provide_stand_in(folder, versions[name], tool=loading.tool)
                tags[name] = versions[name]
        _load(loading, [f"{name}:{tag}" for name, tag in tags.items()])
    return tags


def _find_loading(context: str) -> Loading:
    return choose_loading(context, os.environ)  # noqa: TID251 - which cluster and which tool is the environment's to say


def _build_missing(loading: Loading, folders: Sequence[str]) -> dict[str, str]:
    """The tag of each image by its name."""
    if loading.base_image:
        subprocess.run(loading.base_image, check=True, stdout=sys.stderr, timeout=_LOAD_SECONDS)
    with _snapshot() as checkout:
        return {f"{REGISTRY}/{IMAGES[folder]}": _build_unless_there(folder, checkout, loading.tool) for folder in folders}


def _load(loading: Loading, references: Sequence[str]) -> None:
    subprocess.run([*loading.command, *references], check=True, stdout=sys.stderr, timeout=_LOAD_SECONDS)


def _build_unless_there(folder: str, checkout: Path, tool: str) -> str:
    tag = f"inputs-{hash_inputs(folder, checkout)}"
    reference = f"{REGISTRY}/{IMAGES[folder]}:{tag}"
    if not has_image(reference, tool=tool):
        build_image(folder, reference, tool=tool, context=checkout)
    return tag


@contextmanager
def _snapshot() -> Iterator[Path]:
    """A copy of what images are made from: the checkout may be edited while they are built, and their tags must stay true."""
    with tempfile.TemporaryDirectory(prefix="slipway-checkout-") as name:
        copy = Path(name)
        shutil.copy2(ROOT / ".dockerignore", copy)
        for folder in ("images", "requirements", "slipway"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        yield copy


def _public_versions() -> dict[str, str]:
    """The tags that the manifests give to images."""
    kustomization = yaml.safe_load(_VERSIONS.read_text())
    return {image["name"]: image["newTag"] for image in kustomization["images"]}


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two sessions would build the same layers twice."""
    with (Path(tempfile.gettempdir()) / "slipway-images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    found = subprocess.run(["kubectl", "config", "current-context"], check=True, capture_output=True, text=True)
    print(json.dumps({name: f"{name}:{tag}" for name, tag in _provide(found.stdout.strip()).items()}, indent=1))
