"""Running a compiled pipeline task by task, each as its own pod: the order, the inputs and the conditions are the file's."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from pipelines.compile import compile_training
from pipelines.images import Images
from pipelines.ir import read_ir_hash
from slipway.config import Config
from slipway.overrides import apply_overrides, to_parameters
from tests.integration.kfp_task import PIPELINE_ROOT, Artifact, TaskCall, build_task_pod, launcher_config_map
from tests.integration.pods import run_pod
from tests.integration.tenants import Tenant

State = Literal["SUCCEEDED", "FAILED", "SKIPPED"]
TASK_SECONDS = 600.0
_CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\] == '([^']*)'")


@dataclass(frozen=True, kw_only=True)
class TaskEnd:
    """How a task ended, and what it gave."""

    state: State
    pod: str = ""
    log: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PipelineEnd:
    """How a run ended."""

    run_id: str
    tasks: Mapping[str, TaskEnd]
    ir_hash: str
    """Of the file that was run."""

    @property
    def state(self) -> State:
        """FAILED where any task has."""
        return "FAILED" if any(task.state == "FAILED" for task in self.tasks.values()) else "SUCCEEDED"

    def explain(self) -> str:
        """The ends of the logs of the tasks that failed."""
        return "\n".join(f"{name}:\n{task.log[-4000:]}" for name, task in self.tasks.items() if task.state == "FAILED")


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """What the tasks of one DAG see of what surrounds it."""

    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Artifact]


def run_training(tenant: Tenant, images: Mapping[str, str], folder: Path, *overrides: str) -> PipelineEnd:
    """Compile the training pipeline for the images that were built here and run it in a namespace of the tests."""
    config = apply_overrides(Config(), overrides)
    compiled = folder / f"training-{uuid.uuid4().hex[:6]}.yaml"
    compile_training(config, compiled, built_images(images))
    return run_pipeline(tenant, compiled, to_parameters(config))


def built_images(images: Mapping[str, str]) -> Images:
    """The tasks' images among those that `images` names."""
    names = {name.rpartition("/")[2]: f"{name}:{tag}" for name, tag in images.items()}
    return Images(pipeline=names["slipway-pipeline-python"], trainer=names["slipway-trainer-python"])


def run_pipeline(tenant: Tenant, compiled: Path, parameters: Mapping[str, Any]) -> PipelineEnd:
    """Run a compiled pipeline to its end, exit handler included; a task that fails ends it, and raises nothing."""
    spec, platform = yaml.safe_load_all(compiled.read_text())
    tenant.cluster.apply(launcher_config_map(), namespace=tenant.name)
    run = _Run(tenant, spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])
    defaults = {name: one["defaultValue"] for name, one in spec["root"]["inputDefinitions"]["parameters"].items()}
    run.run_dag(spec["root"]["dag"], _Scope(parameters={**defaults, **parameters}, artifacts={}))
    return PipelineEnd(run_id=run.run_id, tasks=run.ends, ir_hash=read_ir_hash(compiled))


class _Run:
    def __init__(self, tenant: Tenant, spec: Mapping[str, Any], platform: Mapping[str, Any]) -> None:
        self._tenant = tenant
        self._spec = spec
        self._platform = platform
        self.run_id = str(uuid.uuid4())
        self.ends: dict[str, TaskEnd] = {}

    def run_dag(self, dag: Mapping[str, Any], scope: _Scope) -> State:
        """Run the tasks of a DAG in order; those behind one that failed or was skipped are skipped."""
        states: dict[str, State] = {}
        for name, task in _sort_tasks(dag["tasks"]):
            upstream = [states[one] for one in task.get("dependentTasks", [])]
            policy = task.get("triggerPolicy", {})
            whatever_happened = policy.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
            inputs = _Scope(parameters={}, artifacts={})
            runs = whatever_happened or all(state == "SUCCEEDED" for state in upstream)
            if runs:
                inputs = self._resolve(task.get("inputs", {}), scope, states)
                runs = _holds(policy.get("condition", ""), inputs.parameters)
            states[name] = self._run_task(name, task, inputs) if runs else "SKIPPED"
        return "FAILED" if "FAILED" in states.values() else "SUCCEEDED"

    def _run_task(self, name: str, task: Mapping[str, Any], inputs: _Scope) -> State:
        component = self._spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            return self.run_dag(component["dag"], inputs)
        label = component["executorLabel"]
        pipeline = self._spec["pipelineInfo"]["name"]
        call = TaskCall(
            name=name,
            executor=self._spec["deploymentSpec"]["executors"][label]["container"],
            platform=self._platform[label],
            outputs=component.get("outputDefinitions", {}),
            parameters=inputs.parameters,
            artifacts=inputs.artifacts,
            folder=f"{PIPELINE_ROOT}/{pipeline}/{self.run_id}/{name}/{uuid.uuid4()}",
        )
        self.ends[name] = run_task(self._tenant, call, self.run_id)
        return self.ends[name].state

    def _resolve(self, inputs: Mapping[str, Any], scope: _Scope, states: Mapping[str, State]) -> _Scope:
        parameters = {
            name: self._resolve_parameter(source, scope, states) for name, source in inputs.get("parameters", {}).items()
        }
        artifacts = {name: self._resolve_artifact(source, scope) for name, source in inputs.get("artifacts", {}).items()}
        return _Scope(parameters=parameters, artifacts=artifacts)

    def _resolve_parameter(self, source: Mapping[str, Any], scope: _Scope, states: Mapping[str, State]) -> Any:
        if "componentInputParameter" in source:
            return scope.parameters[source["componentInputParameter"]]
        if "taskOutputParameter" in source:
            output = source["taskOutputParameter"]
            return self.ends[output["producerTask"]].parameters[output["outputParameterKey"]]
        if "taskFinalStatus" in source:
            producer = source["taskFinalStatus"]["producerTask"]
            return {
                "state": states[producer],
                "pipelineTaskName": producer,
                "pipelineJobResourceName": self.run_id,
                "error": {"code": 0, "message": ""},
            }
        return source["runtimeValue"]["constant"]

    def _resolve_artifact(self, source: Mapping[str, Any], scope: _Scope) -> Artifact:
        if "componentInputArtifact" in source:
            return scope.artifacts[source["componentInputArtifact"]]
        output = source["taskOutputArtifact"]
        return self.ends[output["producerTask"]].artifacts[output["outputArtifactKey"]]


def run_task(tenant: Tenant, call: TaskCall, run_id: str) -> TaskEnd:
    """Run one task's pod to its end and read what it says of its outputs."""
    pod = build_task_pod(call, pod_name=f"{call.name}-{uuid.uuid4().hex[:8]}", run_id=run_id)
    end = run_pod(tenant.cluster, tenant.name, pod, timeout_seconds=TASK_SECONDS)
    if end.exit_code:
        return TaskEnd(state="FAILED", pod=end.name, log=end.log)
    said = json.loads(tenant.platform.storage.read_bytes(call.output_uri))
    artifacts = call.declared_outputs()
    for name, listed in said.get("artifacts", {}).items():
        (told,) = listed["artifacts"]
        artifacts[name] = Artifact(
            name=told["name"], uri=told["uri"], type=artifacts[name].type, metadata=told.get("metadata", {})
        )
    return TaskEnd(state="SUCCEEDED", pod=end.name, log=end.log, parameters=said.get("parameterValues", {}), artifacts=artifacts)


def _sort_tasks(tasks: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    waiting, done = dict(tasks), set[str]()
    while waiting:
        name = next(one for one, task in waiting.items() if done.issuperset(task.get("dependentTasks", [])))
        done.add(name)
        yield name, waiting.pop(name)


def _holds(condition: str, parameters: Mapping[str, Any]) -> bool:
    if not condition:
        return True
    compared = _CONDITION.fullmatch(condition)
    assert compared is not None, f"a condition of another form: {condition}"
    return bool(parameters[compared.group(1)] == compared.group(2))
