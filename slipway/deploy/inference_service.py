"""InferenceServices as Slipway writes them: the manifest of a version, and what its annotations say.

The annotations are the truth about what serves. They stand in the pods too, so they are written together with the storageUri,
and nothing is written afterwards: any change of one would replace the pods.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from slipway.errors import DeployError
from slipway.serving.record import ServedVersion, ServingRecord

Manifest = dict[str, Any]
Role = Literal["champion", "challenger", "second"]

ANNOTATION_PREFIX = "slipway.dev/"
PROMOTED_AT = f"{ANNOTATION_PREFIX}promoted-at"
"""Differs from promotion to promotion, so that it also tells one rollout from another."""
MODEL_NAME = f"{ANNOTATION_PREFIX}model-name"
ROLE_LABEL = f"{ANNOTATION_PREFIX}serving"
CHAMPION_SELECTOR = f"{ROLE_LABEL}=champion"
_PREVIOUS = f"{ANNOTATION_PREFIX}previous"
_AUTOSCALER = "serving.kserve.io/autoscalerClass"
_TEMPLATE = Path(__file__).parent / "inference-service.yaml"


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """How many pods serve."""

    min: int
    max: int
    """More than `min` adds an autoscaler."""


@dataclass(frozen=True, kw_only=True)
class InferenceServiceValues:
    """What differs from one InferenceService to another."""

    name: str
    namespace: str
    role: Role
    record: ServingRecord
    replicas: Replicas | None
    """None leaves what is there, or what the template says."""


def build_inference_service(values: InferenceServiceValues) -> Manifest:
    """The manifest of a version that is to serve, from `inference-service.yaml`."""
    manifest: Manifest = yaml.safe_load(_TEMPLATE.read_text())
    metadata, predictor = manifest["metadata"], manifest["spec"]["predictor"]
    metadata["name"], metadata["namespace"] = values.name, values.namespace
    metadata["labels"] |= {"app.kubernetes.io/part-of": "slipway", ROLE_LABEL: values.role}
    metadata["annotations"] |= write_annotations(values.record)
    predictor["model"]["storageUri"] = values.record.bundle_uri
    if values.replicas is None:
        for key in ("minReplicas", "maxReplicas"):
            del predictor[key]
        del metadata["annotations"][_AUTOSCALER]
    else:
        predictor |= _write_replicas(values.replicas)
        metadata["annotations"][_AUTOSCALER] = "hpa" if values.replicas.max > values.replicas.min else "none"
    return manifest


def plan_replicas(manifest: Manifest, replicas: Replicas) -> dict[str, int] | None:
    """What `.spec.predictor` must say for this number of pods to serve; None where a new pod template would be needed for it."""
    scaled = manifest["metadata"].get("annotations", {}).get(_AUTOSCALER) == "hpa"
    return None if replicas.max > replicas.min and not scaled else _write_replicas(replicas)


def _write_replicas(replicas: Replicas) -> dict[str, int]:
    return {"minReplicas": replicas.min, "maxReplicas": replicas.max}


def write_annotations(record: ServingRecord) -> dict[str, str]:
    """A record as annotations; where its bundle lies is the storageUri."""
    own = {field.name: getattr(record, field.name) for field in fields(ServedVersion) if field.name != "bundle_uri"}
    own |= {"model_name": record.model_name, "promoted_at": record.promoted_at}
    annotations = {_annotation(name): value or "" for name, value in own.items()}
    return annotations | {_PREVIOUS: json.dumps(asdict(record.previous), sort_keys=True) if record.previous else ""}


def read_record(manifest: Manifest, *, confirmed_at: str) -> ServingRecord:
    """What an InferenceService serves; `confirmed_at` is the promotion that the registry has followed last.

    Raises:
        DeployError: Slipway has not made it, or its annotations were altered.
    """
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations", {})
    where = f"InferenceService {metadata['namespace']}/{metadata['name']}"
    if MODEL_NAME not in annotations:
        raise DeployError(f"{where} was not made by Slipway's deployment. Delete it, or set deploy.model_name to another name.")
    try:
        values = {
            field.name: annotations[_annotation(field.name)] for field in fields(ServedVersion) if field.name != "bundle_uri"
        }
        values["evaluated_against"] = values["evaluated_against"] or None
        previous = json.loads(annotations[_PREVIOUS]) if annotations[_PREVIOUS] else None
        return ServingRecord(
            **values,
            bundle_uri=manifest["spec"]["predictor"]["model"]["storageUri"],
            model_name=annotations[MODEL_NAME],
            promoted_at=annotations[PROMOTED_AT],
            confirmed=annotations[PROMOTED_AT] == confirmed_at,
            previous=ServedVersion(**previous) if previous else None,
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise DeployError(
            f"The annotations {ANNOTATION_PREFIX}* of {where} were altered ({error!r}), so it does not say what serves. "
            "Put them back, or delete it and deploy again."
        ) from None


def _annotation(name: str) -> str:
    return ANNOTATION_PREFIX + name.replace("_", "-")
