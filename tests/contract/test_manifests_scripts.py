"""manifests/secrets and manifests/apply: what they refuse, before anything in a cluster changes."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from slipway.settings import child_environment
from tests.contract import kubectl_stand_in
from tests.contract.kubectl_stand_in import UNEXPECTED
from tests.contract.tools import MANIFESTS, ROOT, find_tool

ENDPOINT = "https://s3.eu.test"
S3 = {"SLIPWAY_S3_ACCESS_KEY_ID": "our-key", "SLIPWAY_S3_SECRET_ACCESS_KEY": 'se"cret\\with all'}
POSTGRES = {"SLIPWAY_POSTGRES_URI": "postgresql+psycopg2://mlflow:word@db.eu.test:5432/mlflow"}
MLFLOW = "ghcr.io/slipway/slipway-mlflow@sha256:" + "a" * 64
PREDICTOR = "ghcr.io/slipway/slipway-predictor@sha256:" + "b" * 64
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A copy of the manifests, the stand-in for kubectl, and its cluster."""

    folder: Path
    cluster: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def production(self) -> Path:
        return self.folder / "manifests" / "overlays" / "production"

    def run(self, script: str, *words: str, **environment: str) -> Done:
        command = [str(self.folder / "manifests" / script), *words]
        given = {**child_environment(), **self.environment, **environment}
        return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)

    def secrets(self, namespace: str = "slipway") -> dict[str, dict[str, str]]:
        return {path.name: self.read(namespace, path.name)["stringData"] for path in (self.cluster / namespace).glob("*")}

    def read(self, namespace: str, name: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = json.loads((self.cluster / namespace / name).read_text())
        return found

    def fill_in_addresses(self) -> None:
        stores = self.production / "stores" / "stores.yaml"
        stores.write_text(stores.read_text().replace("https://s3.example.com", ENDPOINT))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for name in ("manifests", "kserve"):
        shutil.copytree(ROOT / name, tmp_path / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    kubectl = programs / "kubectl"
    kubectl.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{kubectl_stand_in.__file__}" "$@"\n')
    kubectl.chmod(0o755)
    cluster = tmp_path / "cluster"
    (cluster / "slipway").mkdir(parents=True)
    path = f"{programs}:{child_environment()['PATH']}"
    environment = {"PATH": path, "CLUSTER_FOLDER": str(cluster), "KUSTOMIZE": str(find_tool("kustomize"))}
    return Checkout(folder=tmp_path, cluster=cluster, environment=environment)


def test_without_external_stores_credentials_are_made_up_and_never_shown(checkout):
    done = checkout.run("secrets")
    assert done.returncode == 0, done.stderr
    made = checkout.secrets()
    assert set(made) == {"slipway-s3", "slipway-postgres"}
    values = [value for data in made.values() for value in data.values() if value != "mlflow"]
    assert all(len(value) >= 20 for value in values)
    assert not [value for value in values if value in done.stdout + done.stderr]
    again = checkout.run("secrets")
    assert (again.returncode, again.stdout, checkout.secrets()) == (0, "", made), "what exists is never changed"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"SLIPWAY_S3_ENDPOINT": ENDPOINT}, ["SLIPWAY_S3_ACCESS_KEY_ID", "SLIPWAY_S3_SECRET_ACCESS_KEY"]),
        ({"SLIPWAY_S3_ENDPOINT": ENDPOINT, "SLIPWAY_S3_ACCESS_KEY_ID": "k"}, ["SLIPWAY_S3_SECRET_ACCESS_KEY"]),
        ({"SLIPWAY_S3_SECRET_ACCESS_KEY": "s"}, ["SLIPWAY_S3_ACCESS_KEY_ID"]),
    ],
    ids=["none", "half", "half without an endpoint"],
)
def test_credentials_of_an_external_s3_are_not_made_up(checkout, given, missing):
    done = checkout.run("secrets", **given)
    assert done.returncode == 1
    assert f"Not set: {' '.join(missing)}. No Secret was made." in done.stderr
    assert checkout.secrets() == {}


def test_external_stores_ask_for_a_postgres_too(checkout):
    done = checkout.run("secrets", "--external", SLIPWAY_S3_ENDPOINT=ENDPOINT, **S3)
    assert done.returncode == 1
    assert "Not set: SLIPWAY_POSTGRES_URI." in done.stderr
    assert checkout.secrets() == {}, "all questions come before the first Secret"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"SLIPWAY_S3_ENDPOINT": "s3.eu.test"}, "which is no address"),
        ({"SLIPWAY_POSTGRES_URI": "mysql://db"}, "does not begin with postgresql+psycopg2://"),
        ({"external": "yes"}, "SLIPWAY_S3_ENDPOINT is not"),
    ],
    ids=["no scheme", "another database", "no endpoint"],
)
def test_what_cannot_be_is_refused_with_the_remedy(checkout, given, message):
    words = ["--external"] if given.pop("external", "") else []
    done = checkout.run("secrets", *words, **given)
    assert (done.returncode, checkout.secrets()) == (1, {})
    assert message in done.stderr


def test_given_credentials_arrive_as_they_are(checkout):
    (checkout.cluster / "kubeflow").mkdir()
    done = checkout.run("secrets", "--external", SLIPWAY_S3_ENDPOINT=ENDPOINT, SLIPWAY_S3_REGION="eu-7", **S3, **POSTGRES)
    assert done.returncode == 0, done.stderr
    made = checkout.secrets()
    assert made["slipway-postgres"] == {"MLFLOW_BACKEND_STORE_URI": POSTGRES["SLIPWAY_POSTGRES_URI"]}
    assert list(made["slipway-s3"].values()) == list(S3.values())
    assert checkout.read("slipway", "slipway-s3")["metadata"]["annotations"] == {
        "serving.kserve.io/s3-endpoint": "s3.eu.test",
        "serving.kserve.io/s3-usehttps": "1",
        "serving.kserve.io/s3-region": "eu-7",
        "serving.kserve.io/s3-useanoncredential": "false",
    }
    copies = checkout.secrets("kubeflow")
    assert copies["slipway-s3"] == made["slipway-s3"]
    assert list(copies["mlpipeline-minio-artifact"].values()) == list(S3.values())


def test_credentials_of_another_store_are_not_taken_for_this_ones(checkout):
    assert checkout.run("secrets").returncode == 0
    done = checkout.run("secrets", "--external", SLIPWAY_S3_ENDPOINT=ENDPOINT, **S3, **POSTGRES)
    assert done.returncode == 1
    assert "is for the store minio:9000, and the store is now s3.eu.test" in done.stderr
    (checkout.cluster / "slipway" / "slipway-s3").unlink()
    done = checkout.run("secrets", "--external", SLIPWAY_S3_ENDPOINT=ENDPOINT, **S3, **POSTGRES)
    assert done.returncode == 1
    assert "is for the platform's own Postgres" in done.stderr
    assert set(checkout.secrets()) == {"slipway-postgres"}


def test_a_kfp_that_is_there_keeps_the_credentials_of_its_own_store_and_is_told_so(checkout):
    (checkout.cluster / "kubeflow").mkdir()
    stock = {"metadata": {"annotations": {}}, "stringData": {"accesskey": "its-own", "secretkey": "its-own-secret"}}
    (checkout.cluster / "kubeflow" / "mlpipeline-minio-artifact").write_text(json.dumps(stock))
    done = checkout.run("secrets")
    assert done.returncode == 0
    assert checkout.secrets("kubeflow")["mlpipeline-minio-artifact"] == stock["stringData"]
    assert checkout.secrets("kubeflow")["slipway-s3"] == checkout.secrets()["slipway-s3"]
    assert "mlpipeline-minio-artifact in kubeflow differs from slipway-s3 and stays" in done.stderr


def test_another_namespace_gets_no_copies_in_kubeflow_unless_it_is_named(checkout):
    for name in ("elsewhere", "kubeflow"):
        (checkout.cluster / name).mkdir()
    assert checkout.run("secrets", "elsewhere").returncode == 0
    assert checkout.secrets("kubeflow") == {}
    assert checkout.run("secrets", "elsewhere", KUBEFLOW_NAMESPACE="kubeflow").returncode == 0
    assert checkout.secrets("kubeflow")["slipway-s3"] == checkout.secrets("elsewhere")["slipway-s3"]


def apply_production(checkout: Checkout, *images: str) -> Done:
    return checkout.run("apply", "production", *images, **S3, **POSTGRES)


@pytest.mark.parametrize(
    ("images", "tagged"),
    [
        ((), ["slipway-mlflow:0.1.0", "slipway-predictor:0.1.0"]),
        ((MLFLOW,), ["slipway-predictor:0.1.0"]),
        ((MLFLOW, "ghcr.io/slipway/slipway-predictor:3"), ["slipway-predictor:3"]),
        ((MLFLOW, "ghcr.io/slipway/slipway-predictor@sha256:123"), ["slipway-predictor@sha256:123"]),
    ],
    ids=["all", "one", "another tag", "half a digest"],
)
def test_in_production_a_tag_is_refused(checkout, images, tagged):
    checkout.fill_in_addresses()
    done = apply_production(checkout, *images)
    assert done.returncode == 2
    assert [line.rpartition("/")[2] for line in done.stderr.splitlines() if line.startswith("  ")] == tagged
    assert checkout.secrets() == {}


def apply_to_the_end(checkout: Checkout, done: Done) -> dict[str, str]:
    """The images of what was about to be applied: the stand-in refuses the first call that would change a cluster."""
    assert done.returncode == UNEXPECTED, done.stderr
    command = [find_tool("kustomize"), "build", checkout.folder / "build" / "platform"]
    objects = yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    text = yaml.safe_dump_all(objects)
    return {image.partition("@")[0].rpartition("/")[2].partition(":")[0]: image for image in re.findall(r"image: (\S+)", text)}


def test_in_production_digests_are_applied_from_whichever_registry(checkout):
    checkout.fill_in_addresses()
    ours = PREDICTOR.replace("ghcr.io/slipway", "registry.eu.test:5000/models")
    for with_or_without_tag in (MLFLOW, MLFLOW.replace("@", ":0.3@")):
        images = apply_to_the_end(checkout, apply_production(checkout, with_or_without_tag, ours))
        assert images == {"slipway-mlflow": MLFLOW, "slipway-predictor": ours}


def test_a_copy_of_the_production_overlay_keeps_its_rules(checkout):
    copy = checkout.production.with_name("ours")
    shutil.copytree(checkout.production, copy)
    done = checkout.run("apply", "ours")
    assert done.returncode == 2
    assert "ours takes images by digest alone" in done.stderr


def test_addresses_of_the_example_are_refused(checkout):
    done = apply_production(checkout, MLFLOW, PREDICTOR)
    assert done.returncode == 2
    assert "still has the example's addresses" in done.stderr
    assert checkout.secrets() == {}


@pytest.mark.parametrize("setting", ["AWS_ENDPOINT_URL", "AWS_REGION"])
def test_external_stores_without_an_address_are_named_and_not_passed_over(checkout, setting):
    checkout.fill_in_addresses()
    patch = json.dumps([{"op": "remove", "path": f"/data/{setting}"}])
    folder = checkout.production.with_name("ours")
    folder.mkdir()
    change = {"target": {"kind": "ConfigMap", "name": "slipway"}, "patch": patch}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["../production"], "patches": [change]}))
    done = checkout.run("apply", "ours", MLFLOW, PREDICTOR, **S3, **POSTGRES)
    assert done.returncode == 2
    assert f"ConfigMap slipway of ours has no {setting}" in done.stderr
    assert checkout.secrets() == {}


def test_applying_production_asks_for_the_credentials_of_its_own_addresses(checkout):
    checkout.fill_in_addresses()
    done = checkout.run("apply", "production", MLFLOW, PREDICTOR)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The object store is {ENDPOINT}, and ")
    assert "Not set: SLIPWAY_S3_ACCESS_KEY_ID SLIPWAY_S3_SECRET_ACCESS_KEY." in done.stderr
    done = checkout.run("apply", "production", MLFLOW, PREDICTOR, **S3)
    assert (done.returncode, checkout.secrets()) == (1, {})
    assert "Not set: SLIPWAY_POSTGRES_URI." in done.stderr


def test_elsewhere_tags_are_taken_and_credentials_made_up(checkout):
    done = checkout.run("apply", "kind", "registry.eu.test/slipway-mlflow:1")
    images = apply_to_the_end(checkout, done)
    assert images["slipway-mlflow"] == "registry.eu.test/slipway-mlflow:1"
    assert set(checkout.secrets()) == {"slipway-s3", "slipway-postgres"}


@pytest.mark.parametrize(
    "words",
    [("nowhere",), ("kind", "slipway-mlflow"), ("kind", "localhost:5000/slipway-mlflow")],
    ids=["overlay", "image", "image of a registry with a port"],
)
def test_what_is_not_there_is_named(checkout, words):
    done = checkout.run("apply", *words)
    assert done.returncode == 2
    assert words[-1] in done.stderr


def parse_scripts() -> list[Path]:
    candidates = [
        path for folder in (MANIFESTS, ROOT / ".ci") for path in folder.rglob("*") if path.is_file() and not path.suffix
    ]
    return [path for path in candidates if path.read_text().startswith("#!/usr/bin/env bash")]


def test_an_overlay_may_lie_anywhere_and_the_checkout_behind_a_link(checkout, tmp_path):
    own = tmp_path / "elsewhere" / "my-platform"
    own.mkdir(parents=True)
    (own / "kustomization.yaml").write_text("namespace: slipway\nresources: [../../manifests]\n")
    link = tmp_path / "a" / "link"
    link.parent.mkdir()
    link.symlink_to(checkout.folder)
    for place in (checkout, replace(checkout, folder=link)):
        for overlay in (str(own), "kind"):
            apply_to_the_end(place, place.run("apply", overlay))


@pytest.mark.parametrize("script", [path for path in parse_scripts() if MANIFESTS in path.parents], ids=lambda path: path.name)
def test_shell_scripts_keep_to_what_bash_3_and_bsd_tools_know(script):
    """macOS has bash 3.2, and no `realpath --relative-to`."""
    later = r"\b(mapfile|readarray|realpath|readlink|declare -A|local -n)\b|\$\{\w+(\^\^?|,,?)\}|&>>|\bgrep -\w*P"
    assert not re.findall(later, script.read_text())


@pytest.mark.parametrize("script", parse_scripts(), ids=lambda path: path.name)
def test_shell_scripts_parse_and_stop_at_the_first_failure(script):
    assert subprocess.run(["bash", "-n", script], capture_output=True, check=False).returncode == 0
    assert "\nset -euo pipefail\n" in script.read_text()
    assert script.stat().st_mode & 0o111
