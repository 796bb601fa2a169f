"""Images of the platform layer: which, in which version, and named where."""

import re
import tomllib

import pytest
import yaml

from images.build import IMAGES, REGISTRY
from pipelines.images import choose_images
from tests.contract.objects import named
from tests.contract.pod_rules import find_images
from tests.contract.tools import MANIFESTS, ROOT, build

_FULL_VERSION = re.compile(r"RELEASE\.\d{4}-|\d+\.\d+")
_IMAGE = re.compile(r"(?P<name>[a-z0-9.-]+\.[a-z]+/[a-z0-9./-]+):(?P<tag>[\w.-]+)(@sha256:[0-9a-f]{64})?")


@pytest.fixture(scope="module")
def project_version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def test_every_image_has_a_registry_and_a_version(manifests):
    for image in find_images(manifests):
        assert (found := _IMAGE.fullmatch(image)), image
        assert _FULL_VERSION.search(found["tag"]), f"{image}: latest, a branch or a major version moves on by itself"


def test_our_images_have_the_projects_version(manifests, project_version):
    ours = {image for image in find_images(manifests) if "/slipway/" in image}
    assert ours
    assert {image.rpartition(":")[2] for image in ours} == {project_version}


def test_versions_of_images_stand_in_one_place_of_the_base():
    listed = {one["name"] for one in yaml.safe_load((MANIFESTS / "base" / "kustomization.yaml").read_text())["images"]}
    assert listed == {image.rpartition(":")[0] for image in find_images(build(MANIFESTS))}
    for path in MANIFESTS.glob("base/*/*.yaml"):
        assert not re.search(r"image: \S+:\S+", path.read_text()), f"{path} states a version"


def test_images_of_ours_are_those_that_make_images_builds(manifests):
    built = {f"{REGISTRY}/{name}" for name in IMAGES.values()}
    assert {image.rpartition(":")[0] for image in find_images(manifests) if "/slipway/" in image} <= built
    assert {image.rpartition(":")[0] for image in (choose_images().pipeline, choose_images().trainer)} <= built


def test_images_of_tasks_and_of_the_platform_come_from_one_registry():
    bucket_maker = named(build(MANIFESTS), "Job", "buckets")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert bucket_maker == choose_images().pipeline
