"""Settings of the platform and of tasks in manifests: the same everywhere, and no secret among them."""

import json
import re

import yaml

from pipelines.resources import CONFIG_KEYS, CONFIG_MAP, SECRET, SECRET_KEYS
from slipway.storage.buckets import BucketSpec
from tests.contract.objects import named
from tests.contract.pod_rules import find_pods
from tests.contract.tools import MANIFESTS, ROOT, build

_SECRETIVE = re.compile(r"SECRET|PASSWORD|TOKEN|CREDENTIAL|ACCESS_KEY|BACKEND_STORE_URI", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/@\s:]+:[^/@\s]+@|\b[Bb]earer [\w.-]{8,}|-----BEGIN|\b(?:minio123|minioadmin)\b")


def test_nothing_secret_stands_in_any_field(manifests):
    """In arguments, say, where no name tells it."""
    assert not _CREDENTIALS.search(json.dumps(manifests))


def test_no_secret_is_among_the_objects(manifests):
    assert not [one["metadata"]["name"] for one in manifests if one["kind"] == "Secret"]


def test_nothing_secret_stands_in_an_environment_or_a_settings_file(manifests):
    for pods in find_pods(manifests):
        for container in pods.containers:
            for variable in container.get("env", []):
                if _SECRETIVE.search(variable["name"]):
                    assert "secretKeyRef" in variable.get("valueFrom", {}), f"{pods.owner}: {variable['name']}"
    for one in manifests:
        if one["kind"] == "ConfigMap":
            assert not [key for key in one["data"] if _SECRETIVE.search(key)]
            assert not [key for key, value in one["data"].items() if re.search(r"://[^/@\s]+:[^/@\s]+@", value)]


def test_tasks_are_given_what_compiled_pipelines_refer_to():
    for folder in (MANIFESTS, MANIFESTS / "kubeflow" / "settings.yaml"):
        objects = build(folder) if folder.is_dir() else tuple(yaml.safe_load_all(folder.read_text()))
        settings = named(objects, "ConfigMap", CONFIG_MAP)
        assert set(CONFIG_KEYS) <= set(settings["data"])
    script = (MANIFESTS / "secrets").read_text()
    assert SECRET in script
    assert all(key in script for key in SECRET_KEYS)


def test_kubeflows_copy_of_the_settings_says_the_same_seen_from_there():
    ours = named(build(MANIFESTS), "ConfigMap", CONFIG_MAP)["data"]
    (copy,) = yaml.safe_load_all((MANIFESTS / "kubeflow" / "settings.yaml").read_text())
    seen = {key: re.sub(r"^http://(\w+):", r"http://\1.slipway.svc:", ours[key]) for key in CONFIG_KEYS}
    assert copy["data"] == seen


def test_buckets_are_made_as_documented():
    (job,) = [pods for pods in find_pods(build(MANIFESTS)) if pods.owner == "Job/buckets"]
    specs = [BucketSpec.parse(argument.removeprefix("--bucket=")) for argument in job.containers[0]["args"]]
    documented = re.findall(r"--bucket (\S+)", (ROOT / "docs" / "storage.md").read_text())
    assert specs == [BucketSpec.parse(spec) for spec in documented]
    assert any(spec.versioned and spec.expiry and spec.noncurrent_days for spec in specs)


def test_the_production_overlay_has_its_addresses_from_one_file():
    stores = yaml.safe_load((MANIFESTS / "overlays" / "production" / "stores" / "stores.yaml").read_text())["data"]
    platform = named(build(MANIFESTS / "overlays" / "production"), "ConfigMap", CONFIG_MAP)["data"]
    tasks = named(build(MANIFESTS / "overlays" / "production" / "kubeflow"), "ConfigMap", CONFIG_MAP)["data"]
    for settings in (platform, tasks):
        assert settings["AWS_ENDPOINT_URL"] == stores["endpoint"]
        assert settings["AWS_REGION"] == stores["region"]
        assert settings["SLIPWAY_STATE_URI"] == stores["stateUri"]
    assert platform["MLFLOW_ARTIFACTS_DESTINATION"] == stores["artifactsUri"]
    assert "minio" not in str(platform) + str(tasks)
