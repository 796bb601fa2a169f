"""What the deployment stories work with: small bundles, deployed to a namespace, and a client that asks all the while."""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.deploy.inference_service import Replicas
from slipway.deploy.kserve import KServeTarget
from slipway.deploy.policy import SmokePolicy
from slipway.deploy.promotion import Challenger, Deployment, deploy_challenger
from slipway.deploy.slo import SloPolicy
from slipway.deploy.target import Candidate, Endpoint
from slipway.export.bundle import read_bundle, read_info
from slipway.serving.record import ServingRecord
from slipway.serving.wire.v2 import write_request
from slipway.settings import Settings
from slipway.storage.objects import ObjectStorage
from slipway.tracking.registry import Lineage, ModelRegistry
from slipway.tracking.runs import Tracker
from tests.bundles import write_image_bundle
from tests.integration.cluster import LiveCluster, Manifest, wait_until
from tests.integration.kfp_run import built_images
from tests.integration.pods import build_pod
from tests.integration.tenants import Tenant
from tests.slipway_home import SLIPWAY

POLICY = SmokePolicy(tolerance=1e-4, timeout_seconds=60, slo=SloPolicy(seconds=3, max_error_rate=0.0, max_latency_ms=2000))
ONE = Replicas(min=1, max=1)
EARLY_SECONDS = 20.0
_ASK_ON = """
import http.client, json, pathlib, sys, threading, time
host, path, body = sys.argv[1:]
failures, versions, stop = [], {}, pathlib.Path("/tmp/stop")

def ask_on(keep):
    connection = http.client.HTTPConnection(host, timeout=10)
    while not stop.exists():
        try:
            connection.request("POST", path, body, {} if keep else {"Connection": "close"})
            answer = connection.getresponse()
            content = json.loads(answer.read())
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {content}")
            versions[content["model_version"]] = versions.get(content["model_version"], 0) + 1
        except Exception as error:
            failures.append(f"{time.time():.3f} {'kept' if keep else 'new'} connection: {error!r}")
            connection.close()
        time.sleep(0.02)
    connection.close()

threads = [threading.Thread(target=ask_on, args=(keep,)) for keep in (True, False)]
for thread in threads:
    thread.start()
while not versions and not failures:
    time.sleep(0.05)
print("asking", flush=True)
for thread in threads:
    thread.join()
print(json.dumps({"failures": failures, "versions": versions}))
"""


@dataclass
class Asked:
    """What a client that asked continuously has seen."""

    failures: list[str]
    versions: dict[str, int]
    """Answers by the version that gave them."""


class Yard:
    """Deploys bundles of one model to a namespace, from a laptop: registered under a run, compared with what serves."""

    def __init__(self, tenant: Tenant, images: Mapping[str, str], home: Path) -> None:
        self.tenant = tenant
        self.images = images
        self.environment = tenant.environment(home)
        self.settings: Settings = tenant.settings(home)
        self.model = f"colors-{uuid.uuid4().hex[:6]}"
        self.registry = ModelRegistry(self.settings)
        self.storage = ObjectStorage(self.settings)
        self._tracker = Tracker(self.settings)
        self._run = self._tracker.join_pipeline_run(experiment=self.model, run_id=f"run-{self.model}")
        self.folder = home.parent
        self._seed = 0

    @property
    def cluster(self) -> LiveCluster:
        return self.tenant.cluster

    @property
    def target(self) -> KServeTarget:
        return KServeTarget(self.settings, self.cluster.api, replicas=ONE)

    @property
    def serving(self) -> ServingRecord | None:
        return self.target.read_serving(self.model)

    @property
    def champion(self) -> str | None:
        version = self.registry.get_champion(self.model)
        return version.version if version else None

    def bundle(self, **options: Any) -> Path:
        """A new bundle, unlike the others."""
        self._seed += 1
        root = self.folder / f"bundle-{self._seed}"
        write_image_bundle(root, seed=self._seed, **options)
        return root

    def challenger(self, bundle_dir: Path) -> Challenger:
        info, serving = read_info(bundle_dir), self.serving
        lineage = Lineage(
            bundle_id=info.bundle_id,
            dataset_id=info.dataset_id,
            code_version=info.code_version,
            run_id=f"run-{self.model}",
            ir_hash="",
            gate="passed",
            gate_reasons=("It is better.",),
        )
        return Challenger(
            model_name=self.model,
            bundle_dir=bundle_dir,
            lineage=lineage,
            evaluated_against=serving.bundle_id if serving else None,
            tracking_run_id=self._run.run_id,
        )

    def deploy(self, bundle_dir: Path, target: KServeTarget | None = None) -> Deployment:
        return deploy_challenger(self.settings, self.challenger(bundle_dir), POLICY, target or self.target)

    def slipway(self, *arguments: str) -> str:
        """What the command line on a laptop prints."""
        done = subprocess.run(
            [SLIPWAY, *arguments], env=self.environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def objects(self, kind: str) -> list[str]:
        """The names of this model's objects of a kind, without those on their way out."""
        found = [one["metadata"] for one in self.cluster.list(kind, self.tenant.name)]
        return sorted(one["name"] for one in found if one["name"].startswith(self.model) and "deletionTimestamp" not in one)

    def inference_service(self) -> dict[str, Any]:
        return self.cluster.get("inferenceservice", self.model, self.tenant.name)

    @contextmanager
    def asking(self) -> Iterator[Asked]:
        """A client in a pod asks the model's own address all the while, on connections that it keeps and on new ones."""
        serving = self.serving
        assert serving is not None
        bundle = read_bundle(self._fetched(serving))
        body = write_request(bundle.golden[0].inputs, bundle.info.signature).decode()
        host = f"{self.model}-predictor.{self.tenant.name}.svc.cluster.local"
        name = f"ask-{uuid.uuid4().hex[:6]}"
        command = ["python", "-c", _ASK_ON, host, f"/v2/models/{self.model}/infer", body]
        pod = build_pod(name, built_images(self.images).pipeline, command)
        api, namespace = self.cluster.api.core, self.tenant.name
        api.create_namespaced_pod(namespace, pod)

        def read_log() -> str:
            return str(self.cluster.run_kubectl("logs", name, f"--namespace={namespace}", check=False).stdout)

        wait_until("the client asks", lambda: "asking" in read_log(), timeout_seconds=60)
        asked = Asked(failures=[], versions={})
        try:
            yield asked
        finally:
            time.sleep(1.0)
            self.cluster.kubectl("exec", name, f"--namespace={namespace}", "--", "touch", "/tmp/stop")
            wait_until("the client has ended", lambda: "failures" in read_log(), timeout_seconds=30)
            seen = json.loads(read_log().splitlines()[-1])
            asked.failures, asked.versions = seen["failures"], seen["versions"]
            api.delete_namespaced_pod(name, namespace, grace_period_seconds=0)

    def _fetched(self, serving: ServingRecord) -> Path:
        folder = self.folder / "fetched" / serving.bundle_id
        if not folder.exists():
            self.target.read_bundle(serving, folder)
        return folder


class SabotagedTarget(KServeTarget):
    """Something happens to a version between its dark launch and its promotion."""

    def __init__(self, yard: Yard, sabotage: Callable[[str], None]) -> None:
        super().__init__(yard.settings, yard.cluster.api, replicas=ONE)
        self._sabotage = sabotage
        self.promoted_at = self.noticed_at = self.restored_at = 0.0

    def promote(self, candidate: Candidate) -> ServingRecord:
        self._sabotage(candidate.served.bundle_uri)
        self.promoted_at = time.monotonic()
        return super().promote(candidate)

    def restore(self, model_name: str, record: ServingRecord | None) -> None:
        self.noticed_at = time.monotonic()
        super().restore(model_name, record)
        self.restored_at = time.monotonic()


class AwaitedTarget(KServeTarget):
    """Says how long it waited for a version that does not come."""

    waited_seconds = 0.0

    def open_endpoint(self, manifest: Manifest, record: ServingRecord, *, timeout_seconds: float) -> Endpoint:
        begun = time.monotonic()
        try:
            return super().open_endpoint(manifest, record, timeout_seconds=timeout_seconds)
        finally:
            self.waited_seconds = time.monotonic() - begun


class UnknownStoreTarget(AwaitedTarget):
    """Bundles lie where KServe has no initializer for."""

    def store_bundle(self, model_name: str, version: str, bundle_dir: Path) -> str:
        return super().store_bundle(model_name, version, bundle_dir).replace("s3://", "minio://")


class TimedTarget(KServeTarget):
    """Says how long the steps of a promotion took."""

    promoted_at = answered_at = confirmed_at = 0.0

    def promote(self, candidate: Candidate) -> ServingRecord:
        self.promoted_at = time.monotonic()
        return super().promote(candidate)

    @contextmanager
    def serving_endpoint(self, record: ServingRecord, *, timeout_seconds: float) -> Iterator[Endpoint | None]:
        with super().serving_endpoint(record, timeout_seconds=timeout_seconds) as endpoint:
            self.answered_at = time.monotonic()
            yield endpoint

    def confirm(self, model_name: str) -> ServingRecord:
        record = super().confirm(model_name)
        self.confirmed_at = time.monotonic()
        return record
