"""From a model's name to the names of its objects in a cluster."""

import hashlib
import re

MAX_CHARACTERS = 30
"""Of an InferenceService. KServe derives from it, with `-challenger` and the namespace, a DNS label of at most 63 characters."""
_HASH_CHARACTERS = 8
_CHALLENGER = "-challenger"
_SECOND = "-b"
_PLAIN = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_RESERVED = re.compile(rf".*({_CHALLENGER}|{_SECOND}|-[0-9a-f]{{{_HASH_CHARACTERS}}})")


def inference_service_name(model_name: str) -> str:
    """The name of the InferenceService that serves a model, which is also the model's name in its URLs.

    It is the model's own where that is short, a DNS-1035 label, and like no name derived here; else what is left of it and a
    hash, so that two models never share one.
    """
    if len(model_name) <= MAX_CHARACTERS and _PLAIN.fullmatch(model_name) and not _RESERVED.fullmatch(model_name):
        return model_name
    digest = hashlib.sha256(model_name.encode()).hexdigest()[:_HASH_CHARACTERS]
    words = re.sub(r"[^a-z0-9]+", "-", model_name.lower()).lstrip("-0123456789")
    kept = words[: MAX_CHARACTERS - _HASH_CHARACTERS - 1].strip("-") or "model"
    return f"{kept}-{digest}"


def challenger_name(name: str) -> str:
    """The InferenceService of a dark launch beside `name`."""
    return name + _CHALLENGER


def second_name(name: str) -> str:
    """The InferenceService of the other version in a split of `name`'s traffic."""
    return name + _SECOND


def lease_name(name: str) -> str:
    """The Lease that whoever changes `name` holds; its annotation also says which promotion the registry has followed."""
    return f"slipway-deploy-{name}"
