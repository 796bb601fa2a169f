"""Options: where they come from, what they accept, and that the documentation lists them."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from slipway.errors import ConfigError
from slipway.serving.process.option_values import flag_name, setting_name, show_default
from slipway.serving.process.options import GROUPS, ServerOptions, load_options
from slipway.settings import load_settings

PAGE = Path(__file__).parents[3] / "docs" / "predictor.md"
SERVED = ("--bundle", "b", "--name", "n")


def test_the_documentation_lists_every_option_with_its_default_and_meaning():
    section = PAGE.read_text().split("\n## Options\n", 1)[1].split("\n## ", 1)[0]
    listed = re.findall(r"^\| `([^`]+)` \| (.*?) ?\| (.*) \|$", section, re.MULTILINE)
    expected = [
        (
            setting_name(option.name) if option.metadata["secret"] else flag_name(option.name),
            show_default(option),
            option.metadata["help"],
        )
        for group in GROUPS
        for option in fields(group)
    ]
    assert listed == expected


def test_the_groups_are_all_of_the_options():
    assert {option.name for group in GROUPS for option in fields(group)} == {option.name for option in fields(ServerOptions)}


def test_the_command_line_has_the_last_word_then_the_settings_then_the_defaults():
    settings = load_settings({"SLIPWAY_SERVING_THREADS": "3", "SLIPWAY_SERVING_WORKERS": "5", "SLIPWAY_SERVING_METRICS": "no"})
    options = load_options(
        [*SERVED, "--threads", "2", "--metrics", "--cors-origins", "https://a.example, https://b.example"], settings
    )
    assert (options.threads, options.workers, options.metrics) == (2, 5, True)
    assert options.cors_origins == ("https://a.example", "https://b.example")
    assert options.max_batch_size == ServerOptions(bundle="b", name="n").max_batch_size


def test_the_version_is_the_deployments_where_the_command_line_names_none():
    assert load_options(SERVED, load_settings({})).version == "1"
    settings = load_settings({"SLIPWAY_MODEL_VERSION": "12"})
    assert load_options(SERVED, settings).version == "12"
    assert load_options([*SERVED, "--version", "3"], settings).version == "3"


def test_a_version_of_the_settings_is_checked_too():
    with pytest.raises(ConfigError, match=r"--version \(or SLIPWAY_MODEL_VERSION\) is 'a/b'"):
        load_options(SERVED, load_settings({"SLIPWAY_MODEL_VERSION": "a/b"}))


def test_origins_are_what_browsers_send():
    given = "*,http://localhost:3000,http://[::1]:8080,https://shop.example:8443,capacitor://localhost"
    assert load_options([*SERVED, "--cors-origins", given], load_settings({})).cors_origins == tuple(given.split(","))


def test_the_namespace_of_inference_services_is_no_option_of_the_predictor():
    settings = load_settings({"SLIPWAY_SERVING_NAMESPACE": "team"})
    assert settings.serving_namespace == "team"
    assert load_options(SERVED, settings).name == "n"


def test_zero_threads_are_the_cores_of_the_process():
    assert load_options([*SERVED, "--threads", "7"], load_settings({})).num_threads == 7
    assert load_options(SERVED, load_settings({})).num_threads >= 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--bundle with --name, or --pointer"),
        ((*SERVED, "--pointer", "p"), "or two things"),
        (("--bundle", "b"), "needs --name"),
        ((*SERVED, "--port", "70000"), "--port is 70000; accepted: a whole number from 0 to 65535"),
        ((*SERVED, "--port", "eight"), "--port is 'eight'; accepted: a whole number from 0 to 65535"),
        ((*SERVED, "--drain-seconds", "inf"), "--drain-seconds is inf"),
        ((*SERVED, "--head-seconds", "-1"), "accepted: a number, 0.01 or more"),
        ((*SERVED, "--unknown-columns", "guess"), "accepted: refuse, ignore"),
        ((*SERVED, "--max-batch-sise", "4"), "'--max-batch-sise' is no option of the predictor; accepted: --max-batch-size"),
        ((*SERVED, "--port"), "argument --port: expected one argument; accepted: the options that --help lists"),
        ((*SERVED, "--access-log", "1.5"), "--access-log is 1.5; accepted: a number from 0 to 1"),
        ((*SERVED, "--payload-share", "-0.1"), "--payload-share is -0.1; accepted: a number from 0 to 1"),
        ((*SERVED, "--tracing-share", "nan"), "--tracing-share is nan; accepted: a number from 0 to 1"),
        (("--bundle", "b", "--name", "a/b"), "--name is 'a/b'; accepted: letters, digits"),
        (("--bundle", "b", "--name", ".."), "--name is '..'; accepted: letters, digits"),
        ((*SERVED, "--version", "ü1"), "--version (or SLIPWAY_MODEL_VERSION) is 'ü1'; accepted: letters, digits"),
        ((*SERVED, "--version", "1\n2"), r"is '1\n2'; accepted: letters, digits"),
        ((*SERVED, "--version", "a/b"), "is 'a/b'; accepted: letters, digits"),
        ((*SERVED, "--cors-origins", "https://a.example,shop.example"), "--cors-origins names 'shop.example'; accepted: *, or"),
        ((*SERVED, "--cors-origins", "https://shop.example/"), "names 'https://shop.example/'; accepted: *, or"),
        ((*SERVED, "--cors-origins", "https://shop.example/buy"), "accepted: *, or what browsers send: SCHEME://HOST[:PORT]"),
        ((*SERVED, "--cors-origins", "https://Shop.example"), "in small letters"),
        ((*SERVED, "--cors-origins", "https://shop.example:443"), "no default port"),
        ((*SERVED, "--tls-key", "k"), "go together"),
        ((*SERVED, "--tls-client-ca", "c"), "needs --tls-certificate"),
    ],
)
def test_what_is_not_accepted_is_said_with_what_is(arguments, told):
    with pytest.raises(ConfigError, match=f"(?i){re.escape(told)}"):
        load_options(arguments, load_settings({}))


def test_a_setting_with_a_typing_error_is_said():
    with pytest.raises(
        ConfigError, match=r"SLIPWAY_SERVING_THREDS is no setting of the predictor; accepted: .*SLIPWAY_SERVING_THREADS"
    ):
        load_options(SERVED, load_settings({"SLIPWAY_SERVING_THREDS": "2"}))


def test_secrets_stand_neither_in_a_representation_nor_on_the_command_line():
    options = load_options(SERVED, load_settings({"SLIPWAY_SERVING_TOKEN": "a-token-of-some-length"}))
    assert options.token == "a-token-of-some-length"
    assert "a-token" not in repr(options)
    for given in (["--token", "a-token-of-some-length"], ["--token=a-token-of-some-length"]):
        with pytest.raises(ConfigError, match="'--token' is no option") as refused:
            load_options([*SERVED, *given], load_settings({}))
        assert "a-token" not in str(refused.value)
