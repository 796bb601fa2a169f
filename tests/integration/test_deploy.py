"""Deploying to KServe: what serves, what is taken back, and what a client that asks all the while sees of it."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from slipway.deploy.inference_service import Replicas
from slipway.deploy.kserve import KServeTarget
from slipway.deploy.promotion import Challenger, Deployment, deploy_challenger
from slipway.errors import DeployError
from slipway.export.bundle import read_bundle, read_info
from slipway.serving.record import ServingRecord
from tests.integration.cluster import wait_until
from tests.integration.deployment import (
    EARLY_SECONDS,
    ONE,
    POLICY,
    AwaitedTarget,
    SabotagedTarget,
    TimedTarget,
    UnknownStoreTarget,
    Yard,
)
from tests.integration.tenants import Tenant
from tests.slipway_home import SLIPWAY


@pytest.fixture(scope="module")
def yard(shared_namespace: Tenant, images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Yard:
    """Version 1 serves."""
    yard = Yard(shared_namespace, images, tmp_path_factory.mktemp("deploy") / "home")
    yard.deploy(yard.bundle())
    return yard


@pytest.fixture
def empty_yard(shared_namespace: Tenant, images: Mapping[str, str], tmp_path: Path) -> Yard:
    """Nothing serves under the model's name."""
    return Yard(shared_namespace, images, tmp_path / "home")


def test_a_first_version_serves_with_its_lineage_and_deploying_it_again_patches_nothing(empty_yard: Yard) -> None:
    bundle = empty_yard.bundle()
    deployment = empty_yard.deploy(bundle)
    record = deployment.record
    assert (record.version, record.confirmed, record.previous, empty_yard.champion) == ("1", True, None, "1")
    before = empty_yard.inference_service()
    annotations = before["metadata"]["annotations"]
    assert annotations["slipway.dev/bundle-id"] == read_info(bundle).bundle_id
    assert (annotations["slipway.dev/version"], annotations["slipway.dev/run-id"]) == ("1", f"run-{empty_yard.model}")
    assert before["spec"]["predictor"]["model"]["storageUri"] == record.bundle_uri
    assert record.bundle_uri.endswith(f"/{record.bundle_id}/")
    assert (empty_yard.objects("inferenceservices"), empty_yard.objects("deployments")) == (
        [empty_yard.model],
        [f"{empty_yard.model}-predictor"],
    )
    stored = empty_yard.storage.list_files(record.bundle_uri)
    assert empty_yard.deploy(bundle).already_serving
    after = empty_yard.inference_service()
    assert [after["metadata"][key] for key in ("generation", "resourceVersion")] == [
        before["metadata"][key] for key in ("generation", "resourceVersion")
    ]
    assert empty_yard.storage.list_files(record.bundle_uri) == stored


def test_a_promotion_drops_no_request_of_a_client_that_asks_continuously(yard: Yard) -> None:
    serving = yard.serving
    assert serving is not None
    timed = TimedTarget(yard.settings, yard.cluster.api, replicas=ONE)
    with yard.asking() as asked:
        deployment = yard.deploy(yard.bundle(), timed)
        time.sleep(6)  # the old pod drains and ends
    assert asked.failures == []
    assert set(asked.versions) == {serving.version, deployment.record.version}
    assert deployment.record.previous is not None
    assert (deployment.record.previous.version, yard.champion) == (serving.version, deployment.record.version)
    slo_seconds = POLICY.slo.seconds if POLICY.slo else 0.0
    took = timed.confirmed_at - timed.promoted_at - slo_seconds
    pods = yard.cluster.api.core.list_namespaced_pod(
        yard.tenant.name, label_selector=f"serving.kserve.io/inferenceservice={yard.model}"
    ).items
    newest = max(pods, key=lambda pod: pod.metadata.creation_timestamp)
    ready = next(one for one in newest.status.conditions if one.type == "Ready")
    started = (ready.last_transition_time - newest.metadata.creation_timestamp).total_seconds()
    print(
        f"\npatch to answered {timed.answered_at - timed.promoted_at:.1f} s, to confirmed {took:.1f} s beside the SLO's window; "
        f"{sum(asked.versions.values())} requests"
    )
    assert took < 10 + started


def lose(yard: Yard, uri: str) -> None:
    yard.storage.delete_folder(uri)


def corrupt(yard: Yard, uri: str) -> None:
    yard.storage.write_bytes(f"{uri}model.onnx", b"no model at all")


def garble(yard: Yard, uri: str) -> None:
    yard.storage.write_bytes(f"{uri}bundle.json", b"{")


def exchange(yard: Yard, uri: str) -> None:
    yard.storage.download_folder(uri, yard.folder / "stored")

    def answers(bundle_dir: Path) -> list[float]:
        return [float(one) for one in read_bundle(bundle_dir).golden[0].outputs["probabilities"].ravel()]

    other = next(
        one
        for one in iter(yard.bundle, None)
        if max(answers(one)) != pytest.approx(max(answers(yard.folder / "stored")), abs=0.01)
    )
    yard.storage.upload_folder(other, uri)


@pytest.mark.parametrize(
    ("sabotage", "told"),
    [
        pytest.param(lose, r"storage-initializer: .*No model found in s3://", id="its files are gone"),
        pytest.param(corrupt, r"model\.onnx was altered", id="its model is corrupt"),
        pytest.param(garble, r"bundle\.json is damaged", id="it crashes at its start"),
        pytest.param(exchange, r"Golden example 1 of 3, probabilities: the answer differs by", id="it gives wrong answers"),
    ],
)
def test_a_broken_version_is_taken_back_and_the_old_one_keeps_answering(
    yard: Yard, sabotage: Callable[[Yard, str], None], told: str
) -> None:
    serving = yard.serving
    assert serving is not None
    pod = yard.objects("pods")[0]
    target = SabotagedTarget(yard, lambda uri: sabotage(yard, uri))
    with (
        yard.asking() as asked,
        pytest.raises(
            DeployError, match=rf"(?s)Version \d+ was taken back: .*{told}.*Version {serving.version} of .* still serves"
        ),
    ):
        yard.deploy(yard.bundle(), target)
    assert asked.failures == []
    assert serving.version in asked.versions
    assert (yard.serving, yard.champion) == (serving, serving.version)
    assert yard.objects("inferenceservices") == [yard.model]
    assert target.noticed_at - target.promoted_at < EARLY_SECONDS
    if sabotage is not exchange:
        assert set(asked.versions) == {serving.version}
        assert pod in yard.objects("pods"), "the old pod is kept, not started again"
        assert target.restored_at - target.noticed_at < 5
    print(f"\nnoticed {target.noticed_at - target.promoted_at:.1f} s after the patch, {sum(asked.versions.values())} requests")


def patch_runtime(yard: Yard, **container: str) -> None:
    patch = {"spec": {"containers": [{"name": "kserve-container", **container}]}}
    current = yard.cluster.get("servingruntime", "slipway", yard.tenant.name)
    patch["spec"]["containers"] = [{**current["spec"]["containers"][0], **container}]
    yard.cluster.kubectl(
        "patch", "servingruntime", "slipway", f"--namespace={yard.tenant.name}", "--type=merge", "--patch", json.dumps(patch)
    )


def test_a_first_version_that_cannot_start_leaves_nothing_behind_and_is_given_up_early(
    namespace: Tenant, images: Mapping[str, str], tmp_path: Path
) -> None:
    yard = Yard(namespace, images, tmp_path / "home")
    runtime = yard.cluster.get("servingruntime", "slipway", namespace.name)
    image = runtime["spec"]["containers"][0]["image"]

    def fail_early(told: str, kind: type[AwaitedTarget] = AwaitedTarget) -> None:
        target = kind(yard.settings, yard.cluster.api, replicas=ONE)
        with pytest.raises(DeployError, match=rf"(?s){told}.*Nothing serves as {yard.model}"):
            yard.deploy(yard.bundle(), target)
        assert target.waited_seconds < EARLY_SECONDS
        assert yard.champion is None
        wait_until("everything is gone", lambda: not yard.objects("deployments"), timeout_seconds=90)

    patch_runtime(yard, image=f"{image.rpartition(':')[0]}:never-built")
    fail_early("ImagePull|image")
    patch_runtime(yard, image=image)
    fail_early("KServe does not carry it out: .*minio://.* is of no supported scheme", UnknownStoreTarget)
    yard.cluster.kubectl("delete", "servingruntime", "slipway", f"--namespace={namespace.name}")
    fail_early("KServe does not take its specification: .*ServingRuntime 'slipway'")


def test_two_deployments_at_once_go_one_after_the_other(yard: Yard) -> None:
    challengers = [yard.challenger(yard.bundle()) for _ in range(2)]
    ended: list[Deployment | DeployError] = []

    def run(challenger: Challenger) -> None:
        try:
            ended.append(deploy_challenger(yard.settings, challenger, POLICY, yard.target))
        except DeployError as error:
            ended.append(error)

    threads = [threading.Thread(target=run, args=(challenger,)) for challenger in challengers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    first, second = ended
    assert isinstance(first, Deployment)
    assert "but now" in str(second), "the second was judged against a version that no longer serves"
    assert yard.serving == first.record
    assert yard.objects("inferenceservices") == [yard.model]


_DEPLOY = """
import sys
from pathlib import Path
from slipway.cluster.client import open_cluster
from slipway.deploy.kserve import KServeTarget
from slipway.deploy.promotion import Challenger, deploy_challenger
from slipway.export.bundle import read_info
from slipway.stages.runner import stage_session
from slipway.tracking.registry import Lineage
from tests.integration.deployment import ONE, POLICY

model, bundle_dir, evaluated_against, tracking_run_id = sys.argv[1:]
info = read_info(Path(bundle_dir))
lineage = Lineage(
    bundle_id=info.bundle_id, dataset_id=info.dataset_id, code_version=info.code_version, run_id="r", ir_hash="", gate="passed",
    gate_reasons=(),
)
challenger = Challenger(
    model_name=model, bundle_dir=Path(bundle_dir), lineage=lineage, evaluated_against=evaluated_against,
    tracking_run_id=tracking_run_id,
)
class Told(KServeTarget):
    def promote(self, candidate):
        record = super().promote(candidate)
        print("promoted", flush=True)
        return record
with stage_session("deploy") as session:
    deploy_challenger(session.settings, challenger, POLICY, Told(session.settings, open_cluster(session.settings), replicas=ONE))
"""


def start_deployment(yard: Yard, bundle_dir: Path) -> "subprocess.Popen[str]":
    """A deployment as a process of its own; returns when it has promoted, before the version answers."""
    challenger = yard.challenger(bundle_dir)
    command = [
        *(sys.executable, "-c", _DEPLOY, yard.model, str(bundle_dir)),
        *(challenger.evaluated_against or "", challenger.tracking_run_id),
    ]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, env=yard.environment, cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "promoted" in line:
            return process
    process.communicate(timeout=60)
    raise AssertionError(f"it ended with status {process.returncode} before it promoted")


def test_a_deployment_that_is_told_to_end_puts_back_what_served(yard: Yard) -> None:
    before = yard.serving
    process = start_deployment(yard, yard.bundle())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert before is not None
    assert (yard.serving, yard.champion) == (before, before.version)
    wait_until("no challenger", lambda: yard.objects("inferenceservices") == [yard.model], timeout_seconds=60)


def kill_deployment(yard: Yard, bundle_dir: Path) -> ServingRecord:
    """Kill a deployment that has promoted; the version that it leaves behind, which has not been watched to its end."""
    process = start_deployment(yard, bundle_dir)
    process.kill()
    process.communicate(timeout=60)
    cut_off = yard.serving
    assert cut_off is not None
    return cut_off


def test_a_deployment_that_was_killed_is_completed_by_the_next_one(yard: Yard) -> None:
    bundle, before = yard.bundle(), yard.serving
    assert before is not None
    cut_off = kill_deployment(yard, bundle)
    assert (cut_off.bundle_id, cut_off.confirmed, yard.champion) == (read_info(bundle).bundle_id, False, before.version)
    challenger = replace(yard.challenger(bundle), evaluated_against=before.bundle_id)
    deployment = deploy_challenger(yard.settings, challenger, POLICY, yard.target)
    assert deployment.already_serving
    assert (deployment.record.bundle_id, deployment.record.confirmed) == (cut_off.bundle_id, True)
    assert yard.champion == cut_off.version


def test_a_deployment_that_was_killed_with_a_broken_version_is_taken_back_by_the_next_one(yard: Yard) -> None:
    before = yard.serving
    assert before is not None
    corrupt(yard, kill_deployment(yard, yard.bundle()).bundle_uri)
    yard.cluster.kubectl(
        "delete", "pods", f"--namespace={yard.tenant.name}", "-l", f"app=isvc.{yard.model}-predictor", "--wait=false"
    )
    time.sleep(2)
    record = deploy_challenger(
        yard.settings, replace(yard.challenger(yard.bundle()), evaluated_against=before.bundle_id), POLICY, yard.target
    ).record
    assert record.previous is not None
    assert (record.previous.bundle_id, yard.champion) == (before.bundle_id, record.version)


def test_another_number_of_replicas_reaches_what_serves_already_and_replaces_no_pod(yard: Yard) -> None:
    serving = yard.serving
    assert serving is not None
    (pod,) = yard.objects("pods")
    with TemporaryDirectory() as folder:
        bundle = yard.target.read_bundle(serving, Path(folder) / "bundle")
        for number in (2, 1):
            target = KServeTarget(yard.settings, yard.cluster.api, replicas=Replicas(min=number, max=number))
            assert yard.deploy(bundle.root, target).already_serving
            wait_until(f"{number} pods", lambda number=number: len(yard.objects("pods")) == number, timeout_seconds=120)
            if number > 1:
                assert pod in yard.objects("pods")
    assert yard.serving == serving


def test_the_command_line_rolls_back_and_says_what_serves(yard: Yard) -> None:
    before = yard.serving
    assert before is not None
    assert before.previous is not None
    with yard.asking() as asked:
        out = yard.slipway("rollback", "--target", "kserve", "--model", yard.model)
        time.sleep(6)
    assert asked.failures == []
    assert f"{yard.model} is served by version {before.previous.version}" in out
    assert yard.champion == before.previous.version
    listed = json.loads(yard.slipway("models", yard.model, "--target", "kserve", "--json"))
    assert [version["version"] for version in listed if version["serves"]] == [before.previous.version]
    assert [version["version"] for version in listed if "champion" in version["aliases"]] == [before.previous.version]


def test_the_doctor_looks_at_the_cluster_and_sees_a_registry_that_does_not_agree(yard: Yard) -> None:
    def checks() -> dict[str, dict[str, str]]:
        command = [SLIPWAY, "doctor", "--target", "kserve", "--json"]
        done = subprocess.run(command, env=yard.environment, capture_output=True, text=True, timeout=60, check=False)
        found: list[dict[str, str]] = json.loads(done.stdout)
        return {check["name"]: check for check in found if check["name"] != "serving" or f"{yard.model} " in check["detail"]}

    serving = yard.serving
    assert serving is not None
    fine = checks()
    assert {name: fine[name]["status"] for name in ("cluster", "kserve", "rights", "nodes", "serving")} == dict.fromkeys(
        ("cluster", "kserve", "rights", "nodes", "serving"), "ok"
    ), fine
    other = next(one.version for one in yard.registry.list_versions(yard.model) if one.version != serving.version)
    yard.registry.set_alias(yard.model, "champion", other)
    found = checks()["serving"]
    yard.registry.set_alias(yard.model, "champion", serving.version)
    assert (found["status"], f"the alias champion names version {other}" in found["detail"]) == ("warn", True)


def test_a_split_gives_a_share_to_another_version_and_ends_without_a_trace(yard: Yard) -> None:
    serving = yard.serving
    assert serving is not None
    assert serving.previous is not None
    graphs = f"{yard.tenant.name}-ab"
    command = ("split", yard.model, "--to", serving.previous.version)
    with pytest.raises(AssertionError, match=rf"no namespace {graphs}.*kubectl create namespace {graphs}"):
        yard.slipway(*command)
    namespace = yard.tenant.name
    split = (*command, "--graph-namespace", namespace)
    yard.slipway(*split, "--weight", "20")
    second = yard.cluster.get("inferenceservice", f"{yard.model}-b", namespace)
    yard.slipway(*command, "--weight", "30")
    steps = yard.cluster.get("inferencegraph", yard.model, namespace)["spec"]["nodes"]["root"]["steps"]
    assert [step["weight"] for step in steps] == [70, 30]
    again = yard.cluster.get("inferenceservice", f"{yard.model}-b", namespace)
    assert again["metadata"]["generation"] == second["metadata"]["generation"]
    assert yard.serving == serving
    assert f"{yard.model} is not split any more" in yard.slipway("split", yard.model, "--end")
    wait_until("the split is gone", lambda: yard.objects("inferenceservices") == [yard.model], timeout_seconds=90)
    assert yard.objects("inferencegraphs") == []
    assert f"{yard.model} was not split" in yard.slipway("split", yard.model, "--end")
