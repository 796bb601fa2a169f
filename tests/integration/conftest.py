"""Fixtures for tests on a real cluster: the one that KUBECONFIG names. `make test-integration` runs them."""

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from slipway.cluster.client import open_cluster
from slipway.settings import load_settings
from tests.integration.cluster import KubectlError, LiveCluster
from tests.integration.diagnosis import describe_namespace
from tests.integration.kfp_run import built_images
from tests.integration.namespaces import make_namespace, own_label, own_selector, remove_leftovers
from tests.integration.platform import Platform, installed_platform
from tests.integration.tenants import Tenant, tenant_namespace

_TEST_SECONDS = 900
_NAMESPACES = pytest.StashKey[list[str]]()
_CLUSTER = pytest.StashKey[LiveCluster]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--platform", metavar="NAMESPACE", help="use the platform layer in NAMESPACE, made if need be, and leave it")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_NAMESPACES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's own time is bounded; what fixtures wait for has deadlines of its own."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TEST_SECONDS, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where a test has failed, show what its namespaces hold, before they are taken down."""
    report = yield
    cluster = item.config.stash.get(_CLUSTER, None)
    if report.when in ("setup", "call") and report.failed and cluster is not None:
        for namespace in reversed(item.config.stash[_NAMESPACES]):
            report.sections.append((f"namespace {namespace}", describe_namespace(cluster, namespace)))
    return report


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> LiveCluster:
    """The cluster of KUBECONFIG, known to answer; what killed sessions have left in it is removed first."""
    kubeconfig = os.environ.get("KUBECONFIG", "")  # noqa: TID251 - as kubectl does
    if not kubeconfig:
        pytest.exit("KUBECONFIG is not set: these tests need a cluster. Start one (`make kind-up`) and export KUBECONFIG.", 2)
    if shutil.which("kubectl") is None:
        pytest.exit("kubectl is not installed.", 2)
    found = LiveCluster(kubeconfig=kubeconfig, api=open_cluster(load_settings()))
    try:
        found.kubectl("get", "--raw=/readyz", timeout_seconds=20)
    except KubectlError as error:
        pytest.exit(f"the cluster of KUBECONFIG={kubeconfig} does not answer: {error}", 2)
    remove_leftovers(found)
    pytestconfig.stash[_CLUSTER] = found
    return found


@pytest.fixture(scope="session")
def images(cluster: LiveCluster) -> Mapping[str, str]:
    """The images that were built from this checkout and handed to the cluster, name to tag."""
    from tests.integration.images import ensure_images

    return ensure_images(cluster)


@pytest.fixture(scope="session")
def predictor_image(cluster: LiveCluster) -> str:
    """The predictor's alone, for tests that need no other."""
    from tests.integration.images import ensure_image

    return ensure_image(cluster, "predictor")


@pytest.fixture(scope="session")
def kserve(cluster: LiveCluster, images: Mapping[str, str]) -> Iterator[None]:
    """Something that turns InferenceServices into Deployments: the real controller where there is one, else the stand-in."""
    from tests.kserve_standin import serve_kserve

    with serve_kserve(cluster, built_images(images).pipeline, namespace_selector=own_selector()):
        yield


@pytest.fixture(scope="session")
def platform(
    cluster: LiveCluster,
    images: Mapping[str, str],
    kserve: None,
    pytestconfig: pytest.Config,
) -> Iterator[Platform]:
    """The platform layer, in a namespace of this session's own."""
    kept = pytestconfig.getoption("--platform")
    namespace = kept or f"slipway-it-{uuid.uuid4().hex[:6]}"
    with installed_platform(cluster, namespace, images, keep=bool(kept)) as opened:
        pytestconfig.stash[_NAMESPACES].append(namespace)
        yield opened
        pytestconfig.stash[_NAMESPACES].remove(namespace)


def _new_name(request: pytest.FixtureRequest) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))
    return f"t-{words[:30].strip('-')}-{uuid.uuid4().hex[:5]}"


@pytest.fixture
def bare_namespace(cluster: LiveCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace that has nothing in it, and needs no platform."""
    name = _new_name(request)
    make_namespace(cluster, name, own_label())
    request.config.stash[_NAMESPACES].append(name)
    yield name
    request.config.stash[_NAMESPACES].remove(name)
    cluster.begin_deleting(name)


@pytest.fixture
def namespace(platform: Platform, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """A fresh namespace for one test, with rights, environment and serving runtime like the platform's own."""
    yield from _tenant(platform, _new_name(request), request.config)


@pytest.fixture(scope="module")
def shared_namespace(platform: Platform, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """A fresh namespace for the tests of one module, which build on each other."""
    yield from _tenant(platform, f"t-{Path(request.node.name).stem.removeprefix('test_')}-{uuid.uuid4().hex[:5]}", request.config)


def _tenant(platform: Platform, name: str, config: pytest.Config) -> Iterator[Tenant]:
    with tenant_namespace(platform, name) as tenant:
        config.stash[_NAMESPACES].append(name)
        yield tenant
        config.stash[_NAMESPACES].remove(name)
