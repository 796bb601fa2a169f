import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.config import Config
from slipway.errors import ConfigError
from slipway.overrides import (
    apply_overrides,
    config_from_parameters,
    list_settings,
    load_config,
    load_preset,
    parse_value,
    to_parameters,
)


def test_a_later_override_wins_and_others_keep_their_defaults():
    config = apply_overrides(Config(), ["train.epochs=3", "train.epochs=5", "data.source=folder://x?y=z"])
    assert config.train.epochs == 5
    assert config.data.source == "folder://x?y=z"
    assert config.gate == Config().gate


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.epocs=3", "train.epochs"),
        ("trian.epochs=3", "train.epochs"),
        ("epochs=3", "train.epochs"),
        ("train.epochs=3.5", "a whole number"),
        ("train.epochs=0", "1 or more"),
        ("train.learning_rate=nan", "a number"),
        ("train.flip=yes", "true or false"),
        ("train.schedule=cosin", "Did you mean cosine"),
        ("train.epochs", "section.key=value"),
        ("data.source=digits", "sklearn://NAME"),
        ("deploy.model_name=my model", "1 to 63 letters"),
    ],
)
def test_a_wrong_override_is_refused_with_what_is_accepted(override: str, told: str):
    with pytest.raises(ConfigError, match=told):
        apply_overrides(Config(), [override])


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("foldr://photos", "Did you mean folder://"),
        ("sklearn://digit", "Did you mean sklearn://digits"),
        ("csv://a.csv?taget=x", "Did you mean target"),
    ],
)
def test_a_source_of_no_known_kind_is_refused_before_anything_runs(source: str, told: str):
    with pytest.raises(ConfigError, match=told):
        load_config(None, [f"data.source={source}"])


def test_a_source_that_lies_elsewhere_is_a_valid_setting():
    assert load_config(None, ["data.source=folder:///not/on/this/machine"]).data.source == "folder:///not/on/this/machine"


@given(st.sampled_from(list_settings()))
@settings(max_examples=100, derandomize=True)
def test_every_default_survives_the_way_through_text(setting):
    assert parse_value(setting, str(setting.default)) == setting.default


def test_whole_numbers_that_kfp_made_floats_are_whole_again():
    parameters = {name: float(value) if type(value) is int else value for name, value in to_parameters(Config()).items()}
    config = config_from_parameters(parameters)
    assert config == Config()
    assert type(config.train.epochs) is int


def test_values_submitted_past_the_command_line_are_checked_too():
    with pytest.raises(ConfigError, match="sgd, adam, adamw"):
        config_from_parameters({"train_optimizer": "lion"})


def test_a_preset_changes_what_it_names_and_refuses_what_it_misspells(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("train:\n  epochs: 2\n  flip: true\n")
    assert load_preset(preset, Config()).train.flip is True
    preset.write_text("train:\n  epoch: 2\n")
    with pytest.raises(ConfigError, match=r"train\.epochs"):
        load_preset(preset, Config())
    with pytest.raises(ConfigError, match="cannot be read"):
        load_preset(tmp_path, Config())
