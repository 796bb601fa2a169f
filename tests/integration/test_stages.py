"""The compiled pipeline on real pods: each task from its image, as KFP would run it, on digits."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from slipway.tracking.client import open_client
from tests.integration.kfp_run import PipelineEnd, built_images, run_training
from tests.integration.pods import build_pod, run_pod
from tests.integration.tenants import Tenant
from tests.slipway_home import SLIPWAY

QUICK = ("train.epochs=8", "deploy.slo_seconds=3")
CRIPPLED = ("train.epochs=1", "train.learning_rate=1e-7", "deploy.slo_seconds=3")
TASKS = ("ingest", "preprocess", "train", "evaluate", "deploy", "finish")
_ASK = """
import json, sys
from pathlib import Path
from slipway.deploy.bundles import fetch_bundle
from slipway.serving.client import request_json
from slipway.serving.wire.v2 import write_request
from slipway.settings import load_settings

url, bundle_uri = sys.argv[1:]
bundle = fetch_bundle(load_settings(), bundle_uri, Path("/tmp/bundle"))
requests = [write_request(example.inputs, bundle.info.signature) for example in bundle.golden]
answers = [request_json(f"{url}/infer", request, timeout_seconds=20) for request in requests]
expected = [{name: value.ravel().tolist() for name, value in example.outputs.items()} for example in bundle.golden]
print(json.dumps({"answers": answers, "expected": expected}))
"""


class Story:
    """One model's life in the module's namespace."""

    def __init__(self, tenant: Tenant, images: Mapping[str, str], folder: Any) -> None:
        self.tenant = tenant
        self.model = f"digits-{tenant.name.rpartition('-')[2]}"
        self._images = images
        self._folder = folder
        self._num_questions = 0

    def train(self, *overrides: str) -> PipelineEnd:
        """Run the pipeline under a model name of its own: the registry is the platform's."""
        end = run_training(self.tenant, self._images, self._folder, f"deploy.model_name={self.model}", *overrides)
        assert end.state == "SUCCEEDED", end.explain()
        return end

    def slipway(self, *arguments: str) -> Any:
        """The command line on a laptop that is told of the cluster's services; what it prints, parsed."""
        environment = self.tenant.environment(self._folder / "laptop")
        done = subprocess.run(
            [SLIPWAY, *arguments, "--json"], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def inference_service(self) -> dict[str, Any]:
        return self.tenant.cluster.get("inferenceservice", self.model, self.tenant.name)

    def served_uri(self) -> str:
        return str(self.inference_service()["spec"]["predictor"]["model"]["storageUri"])

    def ask(self, bundle_uri: str) -> dict[str, Any]:
        """What the served model answers to the golden examples of a bundle, asked from a pod, beside what the bundle expects."""
        self._num_questions += 1
        url = f"{self.inference_service()['status']['address']['url']}/v2/models/{self.model}"
        command = ["python", "-c", _ASK, url, bundle_uri]
        pod = build_pod(f"ask-{self._num_questions}", built_images(self._images).pipeline, command, env_from=self.tenant.env_from)
        end = run_pod(self.tenant.cluster, self.tenant.name, pod)
        assert end.exit_code == 0, end.log
        answer: dict[str, Any] = json.loads(end.log)
        return answer

    def count_mlflow_runs(self) -> int:
        client = open_client(self.tenant.settings(self._folder / "laptop"))
        experiment = client.get_experiment_by_name(self.model)
        return len(client.search_runs([experiment.experiment_id]))


@pytest.fixture(scope="module")
def story(shared_namespace: Tenant, images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(shared_namespace, images, tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="module")
def good(story: Story) -> PipelineEnd:
    """A model that was trained, let through and deployed."""
    return story.train(*QUICK)


def test_every_task_runs_from_its_own_image_under_pod_security_restricted(good: PipelineEnd, story: Story) -> None:
    assert {name: task.state for name, task in good.tasks.items()} == dict.fromkeys(TASKS, "SUCCEEDED")
    labels = story.tenant.cluster.get("namespace", story.tenant.name)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, task in good.tasks.items():
        pod = story.tenant.cluster.get("pod", task.pod, story.tenant.name)
        (container,) = pod["spec"]["containers"]
        image = "trainer" if name == "train" else "pipeline"
        assert f"slipway-{image}-python:" in container["image"]
        assert pod["spec"]["serviceAccountName"] == "pipeline-runner"


def test_the_artifacts_of_a_run_lie_in_the_object_store(good: PipelineEnd, story: Story) -> None:
    storage = story.tenant.platform.storage
    written = {
        ("ingest", "raw"): "provenance.json",
        ("preprocess", "dataset"): "manifest.json",
        ("train", "bundle"): "model.onnx",
        ("train", "training"): "history.json",
        ("evaluate", "evaluation"): "verdict.json",
    }
    for (task, output), name in written.items():
        artifact = good.tasks[task].artifacts[output]
        assert artifact.uri.startswith("s3://mlpipeline/v2/artifacts/slipway-training/")
        assert name in {file.name for file in storage.list_files(artifact.uri)}
    report = storage.read_bytes(good.tasks["evaluate"].artifacts["report"].uri).decode()
    assert "<html" in report


def test_the_dashboard_is_shown_the_figures_and_the_confusion_of_classes(good: PipelineEnd) -> None:
    artifacts = good.tasks["evaluate"].artifacts
    assert artifacts["metrics"].metadata["accuracy"] > 0.9
    assert len(artifacts["confusion"].metadata["confusionMatrix"]["annotationSpecs"]) == 10
    assert good.tasks["train"].artifacts["bundle"].metadata["bundle_id"]


def test_a_laptop_sees_the_run_and_the_version_that_serves(good: PipelineEnd, story: Story) -> None:
    report = story.slipway("report", good.run_id)
    assert (report["status"], report["decision"]["passed"]) == ("SUCCEEDED", True)
    assert [stage["name"] for stage in report["stages"]] == [*TASKS[:-1]]
    assert report["serving_version"] == report["model_version"]
    (version,) = story.slipway("models", story.model)
    assert (version["version"], version["aliases"], version["gate"]) == (report["model_version"], ["champion"], "passed")
    assert version["source"] == story.served_uri() == f"{story.tenant.state_uri}/models/{story.model}/{report['bundle_id']}/"


def test_lineage_leads_from_the_data_to_what_serves(good: PipelineEnd, story: Story) -> None:
    dataset_id = good.tasks["preprocess"].artifacts["dataset"].metadata["dataset_id"]
    bundle_id = good.tasks["train"].artifacts["bundle"].metadata["bundle_id"]
    (version,) = story.slipway("models", story.model)
    assert (version["dataset_id"], version["bundle_id"], version["run_id"]) == (dataset_id, bundle_id, good.run_id)
    annotations = story.inference_service()["metadata"]["annotations"]
    assert annotations["slipway.dev/version"] == version["version"]
    assert annotations["slipway.dev/run-id"] == good.run_id
    assert annotations["slipway.dev/dataset-id"] == dataset_id
    assert annotations["slipway.dev/bundle-id"] == bundle_id
    assert annotations["slipway.dev/ir-hash"] == version["ir_hash"] == good.ir_hash


def test_the_served_model_answers_as_it_was_evaluated(good: PipelineEnd, story: Story) -> None:
    asked = story.ask(story.served_uri())
    assert asked["answers"]
    for answer, expected in zip(asked["answers"], asked["expected"], strict=True):
        for output in answer["outputs"]:
            assert output["data"] == pytest.approx(expected[output["name"]], abs=1e-3)


def test_a_run_with_nothing_changed_does_no_work(good: PipelineEnd, story: Story) -> None:
    before, tracked = story.inference_service(), story.count_mlflow_runs()
    again = story.train(*QUICK)
    stages = {stage["name"]: stage["cached"] for stage in story.slipway("report", again.run_id)["stages"]}
    assert stages == dict.fromkeys(TASKS[:-1], True)
    after = story.inference_service()
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert story.count_mlflow_runs() == tracked
    bundles = [run.tasks["train"].artifacts["bundle"].metadata["bundle_id"] for run in (good, again)]
    assert bundles[0] == bundles[1]


def test_a_worse_model_is_refused_and_the_champion_goes_on_answering(good: PipelineEnd, story: Story) -> None:
    champion, before = story.served_uri(), story.inference_service()
    answers = story.ask(champion)["answers"]
    refused = story.train(*CRIPPLED)
    assert refused.tasks["evaluate"].parameters["Output"] == "refused"
    assert "deploy" not in refused.tasks
    report = story.slipway("report", refused.run_id)
    assert report["status"] == "SUCCEEDED"
    assert any("misses the floor" in reason for reason in report["decision"]["refusals"])
    assert report["champion_metrics"]["accuracy"] > 0.9, "it was compared with what the InferenceService serves"
    assert story.inference_service()["metadata"]["generation"] == before["metadata"]["generation"]
    assert story.ask(champion)["answers"] == answers
    versions = {one["version"]: (one["gate"], one["aliases"]) for one in story.slipway("models", story.model)}
    assert versions == {"1": ("passed", ["champion"]), "2": ("refused", ["challenger"])}
