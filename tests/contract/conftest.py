"""The platform layer in all its forms, and the schemas of its objects: built and gathered once."""

from pathlib import Path

import pytest

from tests.contract.tools import MANIFESTS, Manifest, build, build_with, gather_schemas

OVERLAYS = sorted(path.parent for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))
VARIANTS = ["base", *(path.name for path in OVERLAYS), "seaweedfs"]


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Manifest, ...]]:
    """The layer in all its forms."""
    scratch = tmp_path_factory.mktemp("seaweedfs")
    built = {path.name: build(path) for path in OVERLAYS}
    return {"base": build(MANIFESTS), **built, "seaweedfs": build_with(MANIFESTS, scratch, "seaweedfs")}


@pytest.fixture(params=VARIANTS)
def manifests(request: pytest.FixtureRequest, variants: dict[str, tuple[Manifest, ...]]) -> tuple[Manifest, ...]:
    """The layer, in each of its forms in turn."""
    return variants[request.param]


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `validate` finds the schemas."""
    return gather_schemas(tmp_path_factory.mktemp("schemas"))
