"""The long forms of tests: `make test-soak SOAK_MINUTES=60`."""

import pytest

_SLACK_SECONDS = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", type=float, default=5.0, help="how long each test of the long forms goes on")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "soak" in item.path.parts:
            item.add_marker(pytest.mark.timeout(60 * config.getoption("--minutes") + _SLACK_SECONDS))


@pytest.fixture
def soak_seconds(request: pytest.FixtureRequest) -> float:
    """How long to go on."""
    return 60 * float(request.config.getoption("--minutes"))
