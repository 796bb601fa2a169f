"""What a cluster is given for a batch prediction: the compiled file, read as the cluster reads it."""

import re

import pytest
import yaml

from pipelines.batch_prediction import MAX_PARALLEL
from pipelines.compile import compile_batch_prediction
from pipelines.images import choose_images
from pipelines.ir import HASH_VARIABLE, read_ir_hash
from pipelines.resources import CONFIG_KEYS, SECRET_KEYS
from slipway.batch.plan import PlanOptions
from tests.contract.test_compiled_pipeline import Compiled, seconds

TASKS = ("plan-predictions", "predict", "publish-predictions")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Compiled:
    path = tmp_path_factory.mktemp("compiled") / "batch-prediction.yaml"
    compile_batch_prediction(path)
    return Compiled(*yaml.safe_load_all(path.read_text()))


def test_the_same_bytes_come_of_it_each_time_and_each_task_knows_their_hash(tmp_path):
    digests = {compile_batch_prediction(tmp_path / name) for name in ("a.yaml", "b.yaml")}
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
    assert digests == {read_ir_hash(tmp_path / "a.yaml")}


def test_the_file_holds_these_tasks_and_no_other(compiled):
    assert set(compiled.spec["deploymentSpec"]["executors"]) == {f"exec-{name}" for name in TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_each_task_keeps_the_rules_of_the_cluster(compiled, name):
    container, kubernetes, task = compiled.container(name), compiled.kubernetes(name), compiled.task(name)
    assert container["image"] == choose_images().name("pipeline")
    resources = container["resources"]
    assert 0 < resources["cpuRequest"] <= resources["cpuLimit"]
    assert 0 < resources["memoryRequest"] <= resources["memoryLimit"]
    timeout, retry = int(kubernetes["activeDeadlineSeconds"]), task["retryPolicy"]
    waits = sum(seconds(retry["backoffDuration"]) * retry["backoffFactor"] ** one for one in range(retry["maxRetryCount"]))
    assert retry["maxRetryCount"] >= 1
    assert seconds(retry["backoffMaxDuration"]) >= (retry["maxRetryCount"] + 1) * timeout + waits
    assert kubernetes["securityContext"]["runAsNonRoot"] is True
    assert int(kubernetes["securityContext"]["runAsUser"]) > 0
    (told,) = kubernetes["configMapAsEnv"]
    assert {one["envVar"] for one in told["keyToEnv"]} == set(CONFIG_KEYS)
    (secret,) = kubernetes["secretAsEnv"]
    assert {one["envVar"] for one in secret["keyToEnv"]} == set(SECRET_KEYS)
    assert HASH_VARIABLE in {one["name"] for one in container["env"]}
    assert not [one["name"] for one in container["env"] if re.search("SECRET|PASSWORD|ACCESS_KEY", one["name"])]
    assert not task.get("cachingOptions", {}).get("enableCache")


def test_workers_are_iterations_of_a_loop_of_bounded_width_and_the_manifest_waits_for_all(compiled):
    (loop,) = [name for name in compiled.spec["components"] if name.startswith("comp-for-loop")]
    assert set(compiled.spec["components"][loop]["dag"]["tasks"]) == {"predict"}
    task = compiled.task(loop.removeprefix("comp-"))
    assert task["iteratorPolicy"]["parallelismLimit"] == MAX_PARALLEL
    assert compiled.task("publish-predictions")["dependentTasks"] == [loop.removeprefix("comp-")]


def test_the_parameters_have_the_defaults_of_the_library(compiled):
    parameters = compiled.spec["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {"input_uri", "output_uri", "model", "shard_rows", "max_unreadable", "num_workers"}
    assert parameters["shard_rows"]["defaultValue"] == PlanOptions().shard_rows
    assert parameters["max_unreadable"]["defaultValue"] == PlanOptions().max_unreadable
