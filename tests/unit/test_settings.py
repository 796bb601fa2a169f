"""What the environment may say, and what it is told where it says something else."""

import pytest

from slipway.errors import ConfigError
from slipway.settings import load_settings


def test_numbers_that_are_unset_or_empty_are_none():
    assert (load_settings({}).task_seconds, load_settings({}).runner_pid) == (0, 0)
    assert load_settings({"SLIPWAY_TASK_SECONDS": "", "SLIPWAY_RUNNER_PID": ""}).task_seconds == 0
    assert load_settings({"SLIPWAY_TASK_SECONDS": "3600", "SLIPWAY_RUNNER_PID": "7"}).task_seconds == 3600


@pytest.mark.parametrize("name", ["SLIPWAY_TASK_SECONDS", "SLIPWAY_RUNNER_PID"])
@pytest.mark.parametrize("value", ["1h", "-1", "1.5", "²"])
def test_a_number_that_is_none_is_refused_with_its_name_and_what_is_accepted(name, value):
    with pytest.raises(ConfigError, match=rf"{name} is '{value}'; accepted: a whole number, 0 or more. Unset it or correct it."):
        load_settings({name: value})
