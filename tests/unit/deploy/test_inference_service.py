import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slipway.deploy.inference_service import (
    InferenceServiceValues,
    Replicas,
    build_inference_service,
    read_record,
    write_annotations,
)
from slipway.deploy.split import build_graph
from slipway.errors import DeployError
from slipway.serving.record import ServedVersion, ServingRecord
from slipway.settings import load_settings

TEXT = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=40)
SERVED = st.builds(
    ServedVersion,
    version=TEXT,
    bundle_id=TEXT,
    bundle_uri=TEXT,
    run_id=TEXT,
    dataset_id=TEXT,
    code_version=TEXT,
    ir_hash=st.one_of(st.just(""), TEXT),
    evaluated_against=st.one_of(st.none(), TEXT),
)
RECORDS = st.builds(
    lambda served, **more: ServingRecord(**asdict(served), **more),
    SERVED,
    model_name=TEXT,
    promoted_at=TEXT,
    confirmed=st.just(True),
    previous=st.one_of(st.none(), SERVED),
)
RECORD = ServingRecord(
    version="3", bundle_id="b" * 32, bundle_uri=f"s3://slipway/state/models/digits/{'b' * 32}/", run_id="run-1", dataset_id="d",
    code_version="c", ir_hash="i", evaluated_against=None, model_name="digits", promoted_at="2026-01-01T00:00:00+00:00",
    confirmed=True, previous=None,
)  # fmt: skip


def build(record=RECORD, replicas=None, role="champion"):
    values = InferenceServiceValues(name="digits", namespace="ml", role=role, record=record, replicas=replicas)
    return build_inference_service(values)


@given(RECORDS)
def test_what_the_annotations_say_is_what_was_written(record):
    assert read_record(build(record), confirmed_at=record.promoted_at) == record
    assert all(isinstance(value, str) for value in write_annotations(record).values())


def test_a_record_that_was_written_again_gives_the_same_annotations():
    before = build(replace(RECORD, previous=ServedVersion(**{**asdict(RECORD_VALUES), "version": "2"})))
    assert build(read_record(before, confirmed_at="")) == before


RECORD_VALUES = ServedVersion(
    version="3",
    bundle_id="b",
    bundle_uri="s3://b/",
    run_id="r",
    dataset_id="d",
    code_version="c",
    ir_hash="",
    evaluated_against="a",
)


def unknown_fields(content, type_name, path=""):
    """The fields of a manifest that the kserve SDK's models, and Kubernetes' own inside them, do not have."""
    import kubernetes.client

    import kserve

    if found := re.fullmatch(r"list\[(.*)\]|dict\(str, (.*)\)", type_name):
        inner = enumerate(content) if found[1] else content.items()
        return [name for key, value in inner for name in unknown_fields(value, found[1] or found[2], f"{path}.{key}")]
    model = getattr(kserve, type_name, None) or getattr(kubernetes.client, type_name, None)
    if model is None or not hasattr(model, "attribute_map"):
        return []
    types = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    return [
        name
        for key, value in content.items()
        for name in (unknown_fields(value, types[key], f"{path}.{key}") if key in types else [f"{path}.{key}"])
    ]


def test_kserves_own_models_have_every_field_of_the_manifest():
    manifest = build(replicas=Replicas(min=1, max=4))
    assert unknown_fields(manifest, "V1beta1InferenceService") == []
    manifest["spec"]["predictor"]["model"]["storageURI"] = ""
    assert unknown_fields(manifest, "V1beta1InferenceService") == [".spec.predictor.model.storageURI"]


def test_an_inference_graph_splits_between_the_two_services_and_is_one_by_kserves_own_models():
    manifest = build_graph(load_settings({}), "slipway-ab", "digits", 25)
    assert unknown_fields(manifest, "V1alpha1InferenceGraph") == []
    assert [(step["serviceUrl"], step["weight"]) for step in manifest["spec"]["nodes"]["root"]["steps"]] == [
        ("http://digits-predictor.slipway.svc.cluster.local/v2/models/digits/infer", 75),
        ("http://digits-b-predictor.slipway.svc.cluster.local/v2/models/digits-b/infer", 25),
    ]


def test_the_number_of_pods_is_left_alone_where_none_is_named():
    assert "minReplicas" not in build()["spec"]["predictor"]
    assert build(replicas=Replicas(min=2, max=2))["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    assert build(replicas=Replicas(min=2, max=3))["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "hpa"


def test_an_inference_service_that_slipway_has_not_made_or_that_was_altered_is_said():
    by_hand = yaml.safe_load(Path("slipway/deploy/inference-service.yaml").read_text())
    by_hand["metadata"]["namespace"] = "ml"
    with pytest.raises(DeployError, match=r"InferenceService ml/model was not made by Slipway's deployment. Delete it, or set"):
        read_record(by_hand, confirmed_at="")
    altered = build()
    del altered["metadata"]["annotations"]["slipway.dev/bundle-id"]
    with pytest.raises(DeployError, match=r"annotations slipway.dev/\* of InferenceService ml/digits were altered .*bundle-id"):
        read_record(altered, confirmed_at="")
