import pytest

from tests.kube_api.server import serve_kube_api


@pytest.fixture
def served():
    """An API server's storage, and a client of it."""
    with serve_kube_api() as served:
        yield served
