"""What a cluster is given: the compiled file, read as the cluster reads it."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compile import compile_training
from pipelines.images import Images, choose_images
from pipelines.ir import HASH_VARIABLE, read_ir_hash
from pipelines.resources import CONFIG_KEYS, GPU, SECRET_KEYS, TRAIN
from slipway.config import Config
from slipway.errors import ConfigError
from slipway.launch.worker_pod import WorkerNeeds
from slipway.overrides import apply_overrides, list_settings
from slipway.settings import load_settings

ROOT = Path(__file__).parents[2]
TASKS = ("ingest", "preprocess", "train", "evaluate", "deploy", "finish")
_SECRETIVE = re.compile(r"SECRET|PASSWORD|TOKEN|CREDENTIAL|ACCESS_KEY", re.IGNORECASE)


@dataclass(frozen=True)
class Compiled:
    spec: dict[str, Any]
    platform: dict[str, Any]

    def task(self, name: str) -> dict[str, Any]:
        components = (self.spec["root"], *self.spec["components"].values())
        (found,) = [
            component["dag"]["tasks"][name] for component in components if name in component.get("dag", {}).get("tasks", {})
        ]
        return found

    def container(self, name: str) -> dict[str, Any]:
        return self.spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]

    def kubernetes(self, name: str) -> dict[str, Any]:
        return self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]


def compile_with(path: Path, *overrides: str, images: Images | None = None) -> Compiled:
    compile_training(apply_overrides(Config(), overrides), path, images)
    return Compiled(*yaml.load_all(path.read_text(), yaml.CSafeLoader))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compile_with(tmp_path_factory.mktemp("compiled") / "training.yaml")


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text.removesuffix("s"))


def test_the_same_configuration_gives_the_same_bytes_in_any_process_and_from_any_folder(tmp_path):
    compile_training(Config(), tmp_path / "here.yaml")
    script = [sys.executable, str(ROOT / "pipelines" / "compile.py"), "--output", "there"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there" / "training.yaml").read_bytes() == (tmp_path / "here.yaml").read_bytes()
    assert "there/training.yaml  sha256:" in done.stdout


def test_each_task_knows_the_hash_of_the_file_it_was_compiled_into(tmp_path):
    digests = [compile_training(apply_overrides(Config(), given), tmp_path / "a.yaml") for given in ((), ("train.epochs=3",))]
    assert digests[0] != digests[1]
    known = {
        one["value"]
        for name in TASKS
        for one in Compiled(*yaml.safe_load_all((tmp_path / "a.yaml").read_text())).container(name)["env"]
        if one["name"] == HASH_VARIABLE
    }
    assert known == {digests[1]} == {read_ir_hash(tmp_path / "a.yaml")}


def test_a_misspelt_setting_ends_the_script_with_status_2_and_the_nearest_name(tmp_path):
    script = [sys.executable, str(ROOT / "pipelines" / "compile.py"), "train.epocs=3"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Did you mean train.epochs" in done.stderr


def test_the_file_holds_these_tasks_and_no_other(compiled):
    assert set(compiled.spec["deploymentSpec"]["executors"]) == {f"exec-{name}" for name in TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_each_task_has_a_pinned_image_of_ours(compiled, name):
    image = compiled.container(name)["image"]
    assert image == choose_images().name("trainer" if name == "train" else "pipeline")
    assert re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?", image)


def test_the_images_of_a_commit_from_another_registry_can_be_had_and_give_the_same_bytes_again(tmp_path):
    images = choose_images("registry.example/team", "0123abc")
    compiled = compile_with(tmp_path / "a.yaml", images=images)
    found = {name: compiled.container(name)["image"] for name in TASKS}
    assert found == {
        name: f"registry.example/team/slipway-{'trainer' if name == 'train' else 'pipeline'}-python:0123abc" for name in TASKS
    }
    compile_with(tmp_path / "b.yaml", images=images)
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()


@pytest.mark.parametrize("name", TASKS)
def test_each_task_has_requests_and_limits_and_asks_for_no_more_than_it_may_use(compiled, name):
    resources = compiled.container(name)["resources"]
    assert 0 < resources["cpuRequest"] <= resources["cpuLimit"]
    assert 0 < resources["memoryRequest"] <= resources["memoryLimit"]


@pytest.mark.parametrize("name", TASKS)
def test_each_task_ends_in_time_and_its_retries_cover_every_attempt(compiled, name):
    timeout = int(compiled.kubernetes(name)["activeDeadlineSeconds"])
    retry = compiled.task(name)["retryPolicy"]
    assert timeout > 0
    assert retry["maxRetryCount"] >= 1
    waits = sum(
        seconds(retry["backoffDuration"]) * retry["backoffFactor"] ** attempt for attempt in range(retry["maxRetryCount"])
    )
    assert seconds(retry["backoffMaxDuration"]) >= (retry["maxRetryCount"] + 1) * timeout + waits


@pytest.mark.parametrize("name", TASKS)
def test_each_task_runs_as_a_numeric_user_that_is_not_root(compiled, name):
    context = compiled.kubernetes(name)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert int(context["runAsUser"]) > 0


@pytest.mark.parametrize("name", TASKS)
def test_no_task_carries_a_secret_in_clear_text(compiled, name):
    assert [one["name"] for one in compiled.container(name).get("env", []) if _SECRETIVE.search(one["name"])] == []


@pytest.mark.parametrize("name", TASKS)
def test_each_task_is_told_of_the_platform_by_reference_and_fails_at_once_where_it_is_not_there(compiled, name):
    (told,) = compiled.kubernetes(name)["configMapAsEnv"]
    assert (told["configMapName"], "optional" in told and told["optional"]) == ("slipway", False)
    assert {one["envVar"]: one["configMapKey"] for one in told["keyToEnv"]} == {key: key for key in CONFIG_KEYS}
    (secret,) = compiled.kubernetes(name)["secretAsEnv"]
    assert (secret["secretName"], "optional" in secret and secret["optional"]) == ("slipway-s3", False)
    assert {one["envVar"]: one["secretKey"] for one in secret["keyToEnv"]} == {key: key for key in SECRET_KEYS}


def test_what_a_task_is_told_of_the_platform_is_what_the_library_reads():
    settings = load_settings({key: f"http://{key.lower()}" for key in (*CONFIG_KEYS, *SECRET_KEYS)})
    assert (settings.state_uri, settings.serving_namespace) == ("http://slipway_state_uri", "http://slipway_serving_namespace")
    assert (settings.mlflow_tracking_uri, settings.s3_endpoint) == ("http://mlflow_tracking_uri", "http://aws_endpoint_url")
    assert (settings.s3_region, settings.s3_access_key) == ("http://aws_region", "http://aws_access_key_id")
    assert settings.s3_secret_key == "http://aws_secret_access_key"


def test_tasks_that_look_at_the_world_outside_their_inputs_are_never_cached(compiled):
    cached = {name for name in TASKS if compiled.task(name).get("cachingOptions", {}).get("enableCache")}
    assert cached == {"ingest", "preprocess", "train"}


def test_deploy_hangs_on_the_gates_decision_and_finish_on_nothing(compiled):
    (condition,) = [name for name in compiled.spec["components"] if name.startswith("comp-condition")]
    assert set(compiled.spec["components"][condition]["dag"]["tasks"]) == {"deploy"}
    trigger = compiled.task(condition.removeprefix("comp-"))["triggerPolicy"]["condition"]
    assert re.search(r"'pipelinechannel--evaluate-\w+'\] == 'passed'", trigger)
    assert compiled.task("finish")["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_gpus_are_requested_with_the_toleration_of_their_nodes_only_where_they_are_asked_for(compiled, tmp_path):
    assert "accelerator" not in compiled.container("train")["resources"]
    assert "tolerations" not in compiled.kubernetes("train")
    with_gpus = compile_with(tmp_path / "training.yaml", "train.num_gpus=2")
    accelerator = with_gpus.container("train")["resources"]["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == (GPU, "2")
    (toleration,) = with_gpus.kubernetes("train")["tolerations"]
    assert toleration == {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
    assert with_gpus.spec["root"]["inputDefinitions"]["parameters"]["train_num_gpus"]["defaultValue"] == 2
    assert [name for name in TASKS if "accelerator" in with_gpus.container(name)["resources"]] == ["train"]


@pytest.mark.parametrize("overrides", [("train.num_nodes=2",), ("train.launcher=train-job",), ("train.launcher=indexed-job",)])
def test_a_task_that_trains_in_pods_of_its_own_is_small_and_says_what_each_of_them_gets(compiled, tmp_path, overrides):
    launcher = compile_with(tmp_path / "training.yaml", "train.num_gpus=2", *overrides)
    resources = launcher.container("train")["resources"]
    assert "accelerator" not in resources
    assert "tolerations" not in launcher.kubernetes("train")
    assert resources["memoryLimit"] < compiled.container("train")["resources"]["memoryLimit"]
    (said,) = [one["value"] for one in launcher.container("train")["env"] if one["name"] == "SLIPWAY_WORKER_POD"]
    needs = WorkerNeeds.parse(said)
    assert needs.resources == {
        "requests": {"cpu": "250m", "memory": "512Mi", GPU: "2"},
        "limits": {"cpu": TRAIN.cpu, "memory": TRAIN.memory, GPU: "2"},
    }
    assert needs.tolerations == ({"key": GPU, "operator": "Exists", "effect": "NoSchedule"},)
    assert needs.timeout_seconds < int(launcher.kubernetes("train")["activeDeadlineSeconds"])


PLACED = ("train.node_selector=pool=training,zone=a", "train.tolerations=dedicated=ml:NoSchedule", "train.shared_memory_gib=8")


def test_nodes_and_shared_memory_that_settings_name_reach_the_task_that_trains_in_its_own_pod(tmp_path):
    placed = compile_with(tmp_path / "training.yaml", "train.num_gpus=1", *PLACED)
    given = placed.kubernetes("train")
    assert given["nodeSelector"]["labels"] == {"pool": "training", "zone": "a"}
    assert [one["key"] for one in given["tolerations"]] == [GPU, "dedicated"]
    (memory,) = given["emptyDirMounts"]
    assert (memory["mountPath"], memory["sizeLimit"]) == ("/dev/shm", "8Gi")
    assert "nodeSelector" not in placed.kubernetes("evaluate")


def test_nodes_and_shared_memory_that_settings_name_reach_the_pods_that_a_task_launches_and_not_the_task(tmp_path):
    placed = compile_with(tmp_path / "training.yaml", "train.num_nodes=2", *PLACED)
    assert not {"nodeSelector", "tolerations"} & set(placed.kubernetes("train"))
    (said,) = [one["value"] for one in placed.container("train")["env"] if one["name"] == "SLIPWAY_WORKER_POD"]
    needs = WorkerNeeds.parse(said)
    assert needs.node_selector == {"pool": "training", "zone": "a"}
    assert needs.tolerations == ({"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"},)
    assert needs.shared_memory == "8Gi"


@pytest.mark.parametrize("overrides", [(), ("train.num_nodes=2",)], ids=["in its own pod", "in pods of its own"])
def test_shared_memory_that_leaves_the_pod_no_room_is_refused(tmp_path, overrides):
    compile_with(tmp_path / "training.yaml", "train.shared_memory_gib=12", *overrides)
    with pytest.raises(ConfigError, match=r"train.shared_memory_gib is 13; accepted: 0 to 12"):
        compile_with(tmp_path / "training.yaml", "train.shared_memory_gib=13", *overrides)


@pytest.mark.parametrize(
    ("overrides", "longer"), [((), False), (("deploy.slo_seconds=600",), True), (("deploy.timeout_seconds=5",), False)]
)
def test_the_deploy_task_has_the_time_that_its_settings_may_take_and_is_told_it(compiled, tmp_path, overrides, longer):
    changed = compile_with(tmp_path / "training.yaml", *overrides)
    usual, limit = (int(one.kubernetes("deploy")["activeDeadlineSeconds"]) for one in (compiled, changed))
    assert limit == usual + (2 * 590 if longer else 0)
    (said,) = [one["value"] for one in changed.container("deploy")["env"] if one["name"] == "SLIPWAY_TASK_SECONDS"]
    assert int(said) == limit


@pytest.mark.parametrize("overrides", [(), ("train.num_nodes=2", "train.launcher=local")], ids=["one node", "local"])
def test_a_task_that_trains_in_its_own_pod_has_the_resources_itself(tmp_path, overrides):
    compiled = compile_with(tmp_path / "training.yaml", "train.num_gpus=1", *overrides)
    assert "SLIPWAY_WORKER_POD" not in {one["name"] for one in compiled.container("train")["env"]}
    assert compiled.container("train")["resources"]["accelerator"]["resourceCount"] == "1"


def test_pods_without_gpus_ask_for_none_and_tolerate_no_more_nodes(tmp_path):
    compiled = compile_with(tmp_path / "training.yaml", "train.num_nodes=2")
    (said,) = [one["value"] for one in compiled.container("train")["env"] if one["name"] == "SLIPWAY_WORKER_POD"]
    needs = WorkerNeeds.parse(said)
    assert GPU not in said
    assert needs.tolerations == ()


def test_training_has_shared_memory_for_its_processes(compiled):
    (mount,) = compiled.kubernetes("train")["emptyDirMounts"]
    assert (mount["mountPath"], mount["medium"]) == ("/dev/shm", "Memory")


def test_every_setting_is_a_parameter_of_the_same_type_and_default_and_no_other_is(compiled):
    types = {str: "STRING", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", bool: "BOOLEAN"}
    parameters = compiled.spec["root"]["inputDefinitions"]["parameters"]
    assert {name: (one["parameterType"], one["defaultValue"]) for name, one in parameters.items()} == {
        setting.parameter: (types[setting.type], setting.default) for setting in list_settings()
    }


def test_every_setting_reaches_a_task_and_no_task_invents_one(compiled):
    settings = {setting.parameter: setting for setting in list_settings()}
    sections = {setting.section for setting in settings.values()}
    definitions = compiled.spec["root"]["inputDefinitions"]["parameters"]
    reached = set()
    for name in TASKS:
        inputs = compiled.spec["components"][f"comp-{name}"].get("inputDefinitions", {}).get("parameters", {})
        ours = {key: one for key, one in inputs.items() if key.partition("_")[0] in sections and key != "model_version"}
        assert set(ours) <= set(settings), f"{name} takes what is no setting"
        assert {key: one["parameterType"] for key, one in ours.items()} == {
            key: definitions[key]["parameterType"] for key in ours
        }, f"{name} takes a setting as another type"
        reached |= set(ours)
    assert set(settings) - reached == set(), "settings that no task looks at"
