"""The layers of others: pinned remote bases, and patches that do what their comments say.

The remote trees cannot be fetched in every place where tests run. tests/contract/upstream holds stand-ins for them, written by
hand: the names and values that the patches touch. That upstream still has these names shows when the layer is built against it
(`make kind-up`): each patch names its object, and the build fails where there is none.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.contract.pod_rules import Pods, violations
from tests.contract.tools import MANIFESTS, ROOT, Manifest, build, validate

THIRD_PARTY = MANIFESTS / "third-party"
UPSTREAM = Path(__file__).parent / "upstream"
_PIN = re.compile(r"(?:\?ref=|/releases/download/)(v?\d+\.\d+\.\d+)")


def remote_bases() -> Iterator[tuple[Path, str]]:
    """Whatever a kustomization takes that does not lie here."""
    for path in sorted([*MANIFESTS.rglob("kustomization.yaml"), ROOT / "kserve" / "kustomization.yaml"]):
        kustomization = yaml.safe_load(path.read_text())
        for resource in [one for kind in ("resources", "components") for one in kustomization.get(kind, [])]:
            if not (path.parent / resource).exists():
                yield path, resource


def copy_with_stand_in(name: str, scratch: Path) -> Path:
    """The folder of all manifests, copied, with the stand-in where a layer names its remote base."""
    manifests = scratch / "manifests"
    shutil.copytree(MANIFESTS, manifests)
    layer = manifests / "third-party" / name
    shutil.copy(UPSTREAM / f"{name}.yaml", layer / "upstream.yaml")
    path = layer / "kustomization.yaml"
    text, num_replaced = re.subn(
        r"^(\s+- )(?:https://)?github\.com/\S+$", r"\1upstream.yaml", path.read_text(), flags=re.MULTILINE
    )
    assert num_replaced == 1
    path.write_text(text)
    return manifests


def build_layer(name: str, scratch: Path) -> tuple[Manifest, ...]:
    """A layer on the stand-in for its remote base."""
    return build(copy_with_stand_in(name, scratch) / "third-party" / name)


@pytest.fixture(scope="module")
def kubeflow(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Manifest]:
    objects = build_layer("kubeflow-pipelines", tmp_path_factory.mktemp("kfp"))
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Manifest]:
    objects = build_layer("kserve", tmp_path_factory.mktemp("kserve"))
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Manifest]:
    """The layer of the production overlay, whose stores are not the platform's; with addresses that stand nowhere else."""
    manifests = copy_with_stand_in("kubeflow-pipelines", tmp_path_factory.mktemp("external"))
    stores = manifests / "overlays" / "production" / "stores" / "stores.yaml"
    text = (
        stores.read_text().replace("s3.example.com", "s3.eu.test").replace("us-east-1", "eu-test-7").replace("example-", "our-")
    )
    stores.write_text(text)
    objects = build(manifests / "overlays" / "production" / "kubeflow-pipelines")
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def environment(deployment: Manifest) -> dict[str, Manifest]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one for one in container["env"]}


def test_every_remote_base_is_pinned_and_named_once():
    bases = [resource for _, resource in remote_bases()]
    assert len(bases) == len(set(bases)) >= 4
    assert [resource for resource in bases if not _PIN.search(resource)] == []
    assert [resource for resource in bases if "?ref=" in resource and "timeout=" not in resource] == []


def test_remote_bases_are_named_by_the_third_party_layers_alone():
    for path, _ in remote_bases():
        assert path.is_relative_to(THIRD_PARTY), path
    assert {path.relative_to(THIRD_PARTY).parts[0] for path, _ in remote_bases()} == {
        "cert-manager",
        "kserve",
        "kubeflow-pipelines",
    }


def test_both_trees_of_one_upstream_have_one_version():
    versions: dict[str, set[str]] = {}
    for path, resource in remote_bases():
        (version,) = _PIN.findall(resource)
        versions.setdefault(path.relative_to(THIRD_PARTY).parts[0], set()).add(version)
    assert {name: len(found) for name, found in versions.items()} == dict.fromkeys(versions, 1)


def test_the_client_and_the_server_of_kfp_have_one_version():
    (pin,) = {_PIN.findall(resource)[0] for path, resource in remote_bases() if "kubeflow/pipelines" in resource}
    assert f"kfp[kubernetes]=={pin}" in (ROOT / "pyproject.toml").read_text()


def test_kserves_images_have_the_version_of_its_tree(kserve):
    (pin,) = {_PIN.findall(resource)[0] for _, resource in remote_bases() if "kserve/kserve" in resource}
    found = re.findall(r"kserve/[\w-]+:([\w.-]+)", json.dumps(list(kserve.values())))
    assert len(found) >= 7
    assert set(found) == {pin}


def test_kfps_own_object_store_is_gone_with_its_well_known_credentials(kubeflow):
    assert "seaweedfs" not in json.dumps(list(kubeflow.values()))
    assert not [pair for pair in kubeflow if pair[0] in ("Secret", "PersistentVolumeClaim")]


def test_kfp_uses_the_platforms_object_store_everywhere(kubeflow):
    store = "minio.slipway.svc"
    launcher = kubeflow["ConfigMap", "kfp-launcher"]["data"]
    assert launcher["defaultPipelineRoot"] == "s3://mlpipeline/v2/artifacts"
    provider = yaml.safe_load(launcher["providers"])["s3"]["default"]
    assert provider["endpoint"] == f"http://{store}:9000"
    assert provider["credentials"]["secretRef"]["secretName"] == "mlpipeline-minio-artifact"
    archive = yaml.safe_load(kubeflow["ConfigMap", "workflow-controller-configmap"]["data"]["artifactRepository"])
    assert (archive["archiveLogs"], archive["s3"]["endpoint"]) == (True, f"{store}:9000")
    assert environment(kubeflow["Deployment", "ml-pipeline"])["OBJECTSTORECONFIG_HOST"]["value"] == store
    ui = environment(kubeflow["Deployment", "ml-pipeline-ui"])
    assert ui["MINIO_HOST"] == {"name": "MINIO_HOST", "value": "minio"}
    assert ui["MINIO_NAMESPACE"] == {"name": "MINIO_NAMESPACE", "value": "slipway"}
    assert "MINIO_ACCESS_KEY" in ui


def test_with_external_stores_all_of_kfp_takes_their_addresses_from_one_place(external):
    launcher = external["ConfigMap", "kfp-launcher"]["data"]
    assert launcher["defaultPipelineRoot"] == "s3://our-mlpipeline/v2/artifacts"
    provider = yaml.safe_load(launcher["providers"])["s3"]["default"]
    assert (provider["endpoint"], provider["region"]) == ("https://s3.eu.test", "eu-test-7")
    assert provider["disableSSL"] is False
    assert provider["credentials"]["secretRef"]["secretName"] == "mlpipeline-minio-artifact"
    archive = yaml.safe_load(external["ConfigMap", "workflow-controller-configmap"]["data"]["artifactRepository"])
    s3 = archive["s3"]
    assert (s3["endpoint"], s3["region"], s3["bucket"]) == ("s3.eu.test", "eu-test-7", "our-mlpipeline")
    assert (archive["archiveLogs"], s3["insecure"]) == (True, False)
    server = environment(external["Deployment", "ml-pipeline"])
    assert {name.removeprefix("OBJECTSTORECONFIG_"): one.get("value") for name, one in server.items()} == {
        "HOST": "s3.eu.test",
        "PORT": "443",
        "SECURE": "true",
        "REGION": "eu-test-7",
        "BUCKETNAME": "our-mlpipeline",
        "ACCESSKEY": None,
    }
    assert [name for name, one in server.items() if "value" in one and "valueFrom" in one] == []
    ui = {name: one.get("value") for name, one in environment(external["Deployment", "ml-pipeline-ui"]).items()}
    assert ui.pop("MINIO_ACCESS_KEY") is None
    assert ui == {
        "MINIO_HOST": "s3.eu.test",
        "MINIO_NAMESPACE": "",
        "MINIO_PORT": "443",
        "MINIO_SSL": "true",
        "AWS_S3_ENDPOINT": "s3.eu.test",
        "AWS_REGION": "eu-test-7",
        "ARGO_ARCHIVE_BUCKETNAME": "our-mlpipeline",
    }
    tasks = external["ConfigMap", "slipway"]["data"]
    assert (tasks["AWS_ENDPOINT_URL"], tasks["AWS_REGION"]) == ("https://s3.eu.test", "eu-test-7")
    assert tasks["SLIPWAY_STATE_URI"] == "s3://our-slipway/state"


def test_with_external_stores_nothing_of_the_layer_names_the_platforms(external, kubeflow):
    text = json.dumps(list(external.values()))
    assert not re.search(r"minio\.slipway|http://minio|us-east-1|example|\b(?:HOST|ENDPOINT|REGION|BUCKET)\b(?!_)", text)
    assert set(external) == set(kubeflow), "the addresses themselves are not installed"


def test_what_external_stores_change_of_argo_is_the_store_alone(external, kubeflow):
    ours, theirs = (
        yaml.safe_load(layer["ConfigMap", "workflow-controller-configmap"]["data"]["artifactRepository"])
        for layer in (kubeflow, external)
    )
    for archive in (ours, theirs):
        for key in ("endpoint", "region", "bucket", "insecure"):
            archive["s3"].pop(key, None)
    assert ours == theirs


def test_what_kfp_reads_is_what_make_secrets_makes(kubeflow):
    script = (MANIFESTS / "secrets").read_text()
    (key,) = [
        one["valueFrom"]["secretKeyRef"]
        for one in environment(kubeflow["Deployment", "ml-pipeline"]).values()
        if one["name"] == "OBJECTSTORECONFIG_ACCESSKEY"
    ]
    assert f"{key['name']} " in script
    assert f'{key["key"]} "$key"' in script


def test_argo_retries_as_tasks_say_and_starts_the_next_step_at_once(kubeflow):
    data = kubeflow["ConfigMap", "workflow-controller-configmap"]["data"]
    assert yaml.safe_load(data["workflowDefaults"]) == {"spec": {"ttlStrategy": {"secondsAfterCompletion": 3600}}}
    assert "executor" in data, "upstream's other settings stay"
    controller = environment(kubeflow["Deployment", "workflow-controller"])
    assert controller["DEFAULT_REQUEUE_TIME"]["value"] == "1s"
    assert "LEADER_ELECTION_IDENTITY" in controller


def test_the_api_server_reads_a_configuration_whose_mlflow_is_ours(kubeflow):
    pod = kubeflow["Deployment", "ml-pipeline"]["spec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert (mount["mountPath"], mount["subPath"]) == ("/config/config.json", "config.json")
    config = json.loads(kubeflow["ConfigMap", volume["configMap"]["name"]]["data"]["config.json"])
    plugin = config["plugins"]["mlflow"]
    assert plugin["endpoint"] == kubeflow["ConfigMap", "slipway"]["data"]["MLFLOW_TRACKING_URI"]
    assert plugin["settings"]["authType"] == "none"
    assert not re.search("(?i)(access|secret|pass)", json.dumps(config))


def test_the_service_that_the_api_server_needs_stays_where_its_server_goes(kubeflow):
    assert ("Deployment", "ml-pipeline-visualizationserver") not in kubeflow
    assert ("Service", "ml-pipeline-visualizationserver") in kubeflow


def test_kserve_runs_deployments_and_makes_no_ingress(kserve):
    data = {key: json.loads(value) for key, value in kserve["ConfigMap", "inferenceservice-config"]["data"].items()}
    assert data["deploy"] == {"defaultDeploymentMode": "Standard"}
    assert data["ingress"]["disableIngressCreation"] is True
    assert data["ingress"]["disableIstioVirtualHost"] is True
    assert data["ingress"]["ingressGateway"]
    assert data["credentials"], "upstream's other settings stay"


def test_pod_security_restricted_admits_the_storage_initializer(kserve):
    """Its file system alone may be written: KServe's program unpacks below its home."""
    container = kserve["ClusterStorageContainer", "default"]["spec"]["container"]
    pods = Pods(owner="init", spec={"containers": [container], "serviceAccountName": "predictor"}, labels={}, ends=True)
    assert [one for one in violations(pods) if "root file system" not in one] == []


def test_the_layers_objects_are_valid_for_their_schemas(kubeflow, kserve, schemas):
    assert validate((*kubeflow.values(), *kserve.values()), schemas) == []


def test_a_patch_whose_object_is_not_there_fails_the_build(tmp_path):
    layer = copy_with_stand_in("kubeflow-pipelines", tmp_path) / "third-party" / "kubeflow-pipelines"
    upstream = layer / "upstream.yaml"
    upstream.write_text(upstream.read_text().replace("name: ml-pipeline-ui,", "name: renamed-ui,"))
    with pytest.raises(AssertionError, match="ml-pipeline-ui"):
        build(layer)
