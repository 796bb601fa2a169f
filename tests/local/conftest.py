"""Homes that tests of this tier share."""

from collections.abc import Callable

import pytest

from tests.slipway_home import QUICK, Home


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Home]:
    return lambda: Home(tmp_path_factory.mktemp("slipway") / "home")


@pytest.fixture(scope="session")
def served(new_home: Callable[[], Home]) -> Home:
    """A home in which a digits model has been trained, let through and deployed."""
    home = new_home()
    result = home.slipway("run", *QUICK)
    assert result.returncode == 0, result.stdout + result.stderr
    home.first_run = home.report()["run_id"]
    return home
