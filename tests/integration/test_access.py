"""Who may read what: the secrets through the API server, the buckets through S3."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.kfp_run import built_images
from tests.integration.pods import build_pod, run_pod
from tests.integration.tenants import Tenant

BUCKETS = ("slipway", "mlflow", "mlpipeline")
_LOOK = """
import json, ssl, sys
from pathlib import Path
from urllib import error, request

def ask(url, **options):
    try:
        with request.urlopen(request.Request(url, headers=options.pop("headers", {})), timeout=20, **options) as answer:
            return [answer.status, answer.read().decode()[:200]]
    except error.HTTPError as refusal:
        return [refusal.code, refusal.read().decode()[:2000]]

namespaces, endpoint, objects = json.loads(sys.argv[1])
account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
trust = ssl.create_default_context(cafile=account / "ca.crt")
token = {"Authorization": "Bearer " + (account / "token").read_text()}
api = "https://kubernetes.default.svc"
found = {"secrets": {}, "s3": {}, "who": ask(f"{api}/version", headers=token, context=trust)}
for namespace in namespaces:
    for path in ("secrets", "secrets/slipway-s3", "configmaps", "pods"):
        found["secrets"][f"{namespace}/{path}"] = ask(f"{api}/api/v1/namespaces/{namespace}/{path}", headers=token, context=trust)
for name in objects:
    found["s3"][name] = ask(f"{endpoint}/{name}")
print(json.dumps(found))
"""
_LIST = """
import json, sys
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage

storage = ObjectStorage(load_settings())
print(json.dumps({name: len(storage.list_files(f"s3://{name}")) for name in sys.argv[1:]}))
"""


@pytest.fixture
def image(images: Mapping[str, str]) -> str:
    return built_images(images).pipeline


def look_around(tenant: Tenant, image: str, service_account: str) -> dict[str, Any]:
    """What a pod of a service account is answered that brings no credentials but its own token."""
    platform = tenant.platform
    platform.storage.write_bytes("s3://slipway/tests/secret.txt", b"for the tasks alone")
    asked = [
        [tenant.name, platform.namespace],
        f"http://minio.{platform.namespace}.svc:9000",
        [*BUCKETS, "slipway/tests/secret.txt", "slipway?list-type=2"],
    ]
    pod = build_pod(f"look-{service_account}", image, ["python", "-c", _LOOK, json.dumps(asked)], service_account=service_account)
    end = run_pod(tenant.cluster, tenant.name, pod)
    assert end.exit_code == 0, end.log
    found: dict[str, Any] = json.loads(end.log)
    return found


def test_a_pod_without_the_right_service_account_reads_neither_secrets_nor_buckets(namespace: Tenant, image: str) -> None:
    found = look_around(namespace, image, "default")
    assert found["who"][0] == 200, "it has a token, which the API server takes"
    assert {what: answer[0] for what, answer in found["secrets"].items()} == dict.fromkeys(found["secrets"], 403)
    assert {what: answer[0] for what, answer in found["s3"].items()} == dict.fromkeys(found["s3"], 403)
    assert all("AccessDenied" in answer[1] for answer in found["s3"].values())


def test_the_pipeline_runner_reads_no_secret_through_the_api_either(namespace: Tenant, image: str) -> None:
    answers = look_around(namespace, image, "pipeline-runner")["secrets"]
    refused = {what: answer[0] for what, answer in answers.items() if "/pods" not in what}
    assert refused == dict.fromkeys(refused, 403)
    assert answers[f"{namespace.name}/pods"][0] == 200, "what it needs to say why a pod does not run"
    assert answers[f"{namespace.platform.namespace}/pods"][0] == 403


def test_what_a_pipeline_task_is_given_opens_the_buckets(namespace: Tenant, image: str) -> None:
    pod = build_pod("list", image, ["python", "-c", _LIST, *BUCKETS], env_from=namespace.env_from)
    end = run_pod(namespace.cluster, namespace.name, pod)
    assert end.exit_code == 0, end.log
    assert set(json.loads(end.log)) == set(BUCKETS)


def test_wrong_credentials_are_refused_in_words_that_name_bucket_endpoint_and_cause(namespace: Tenant, image: str) -> None:
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}  # set in the pod itself, it goes before the Secret's
    pod = build_pod("wrong", image, ["python", "-c", _LIST, "slipway"], env_from=namespace.env_from, env=wrong)
    end = run_pod(namespace.cluster, namespace.name, pod)
    assert end.exit_code == 1
    told = end.log.splitlines()[-1]
    assert "'slipway'" in told
    assert f"http://minio.{namespace.platform.namespace}.svc:9000" in told
    assert "AWS_SECRET_ACCESS_KEY" in told
