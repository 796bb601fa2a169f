import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.config import check_model_name
from slipway.deploy.naming import challenger_name, inference_service_name, lease_name, second_name

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize("name", ["digits", "churn-2", "a"])
def test_a_name_that_can_be_an_inference_services_is_kept(name):
    assert inference_service_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["Digits", "digits_v2", "digits.v2", "2digits", "digits-", "digits-challenger", "digits-b", "x" * 63, "digits-0123abcd"],
)
def test_another_name_is_told_apart_by_a_hash(name):
    assert re.fullmatch(r"[a-z][a-z0-9-]*-[0-9a-f]{8}", inference_service_name(name))


@given(NAMES)
def test_every_model_name_gives_names_that_kubernetes_and_kserve_accept(name):
    check_model_name(name)
    service = inference_service_name(name)
    for label in (service, f"{challenger_name(service)}-predictor", f"{second_name(service)}-predictor", lease_name(service)):
        assert DNS_LABEL.fullmatch(label)
    assert len(f"isvc.{challenger_name(service)}-predictor") <= 63
    assert len(f"{challenger_name(service)}-{'n' * 20}") <= 63


@given(NAMES, NAMES)
def test_two_models_never_share_an_object(one, other):
    names = [inference_service_name(name) for name in (one, other)]
    if one != other:
        first, second = ({name, challenger_name(name), second_name(name)} for name in names)
        assert not first & second


def test_names_that_differ_in_their_signs_alone_are_told_apart():
    names = ["digits.v2", "digits_v2", "Digits-v2", "digits-v2", "DIGITS-V2"]
    assert len({inference_service_name(name) for name in names}) == len(names)
