import json
import subprocess
import sys
from pathlib import Path

from slipway.doctor.cluster import CHECKS
from slipway.doctor.machine import ask_torch, check_disk, check_home
from slipway.doctor.served import check_champions
from slipway.export.bundle import MODEL_NAME
from slipway.serving.record import ServingRecord, pointer_path, write_pointer
from slipway.settings import child_environment, load_settings


def test_a_home_that_does_not_exist_yet_is_judged_by_the_folder_above_and_not_made(tmp_path):
    settings = load_settings({"SLIPWAY_HOME": str(tmp_path / "a" / "b")})
    assert check_home(settings).status == "ok"
    assert check_disk(settings, min_bytes=1, ample_bytes=1).status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_written_is_said_with_the_setting_that_mends_it():
    check = check_home(load_settings({"SLIPWAY_HOME": "/proc/self"}))
    assert (check.status, "SLIPWAY_HOME" in check.remedy) == ("fail", True)


def test_a_disk_that_is_full_fails_and_one_that_fills_up_warns(tmp_path):
    settings = load_settings({"SLIPWAY_HOME": str(tmp_path)})
    assert check_disk(settings, min_bytes=1 << 60).status == "fail"
    assert check_disk(settings, min_bytes=1, ample_bytes=1 << 60).status == "warn"


def test_gpus_are_reported_as_pytorch_sees_them():
    def ask(devices: list[str]) -> tuple[str, str]:
        answer = json.dumps({"torch": "2.15.0", "cuda": "13.0", "devices": devices})
        check = ask_torch([sys.executable, "-c", f"print('a banner'); print({answer!r})"], timeout_seconds=30)
        return check.status, check.detail

    assert ask(["H100 80 GiB", "H100 80 GiB"]) == ("ok", "H100 80 GiB, H100 80 GiB; use them with train.num_gpus=2")
    assert ask([])[0] == "warn"
    assert "No module named" in ask_torch([sys.executable, "-c", "import nothing_like_it"], timeout_seconds=30).detail
    assert "did not answer" in ask_torch([sys.executable, "-c", "import time; time.sleep(60)"], timeout_seconds=0.2).detail


def test_what_serves_is_reported_and_an_altered_bundle_is_caught(settings, write_image_bundle):
    assert check_champions(settings)[0].status == "skip"
    bundle = settings.serving_dir / "ships" / "bundles" / "1"
    info = write_image_bundle(bundle)
    record = ServingRecord(
        model_name="ships", version="3", bundle_id=info.bundle_id, bundle_uri=str(bundle), run_id="r", dataset_id="d",
        code_version="c", ir_hash="", evaluated_against=None, promoted_at="2026-01-01T00:00:00+00:00", confirmed=True,
        previous=None,
    )  # fmt: skip
    write_pointer(pointer_path(settings, "ships"), record)
    (served,) = check_champions(settings)
    assert (served.status, "ships version 3" in served.detail) == ("ok", True)
    (bundle / MODEL_NAME).write_bytes(b"tampered")
    (altered,) = check_champions(settings)
    assert (altered.status, "slipway rollback --model ships" in altered.remedy) == ("fail", True)


def run_doctor(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "slipway"), "doctor", *arguments]
    clean = child_environment(SLIPWAY_HOME=str(home), AWS_ENDPOINT_URL="", KF_PIPELINES_ENDPOINT="", MLFLOW_TRACKING_URI="")
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_exits_1_when_a_check_fails_and_0_when_none_does(tmp_path):
    fine = run_doctor(tmp_path)
    assert fine.returncode == 0, fine.stdout + fine.stderr
    broken = run_doctor(tmp_path, "--json", KF_PIPELINES_ENDPOINT="http://127.0.0.1:9")
    assert broken.returncode == 1
    assert {check["name"]: check["status"] for check in json.loads(broken.stdout)}["kfp"] == "fail"


def test_the_cluster_is_looked_at_where_it_is_asked_for_and_one_that_does_not_answer_is_one_finding(tmp_path):
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    content = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}], "current-context": "x"}
    kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **content}))
    asked = run_doctor(tmp_path, "--target", "kserve", "--json", KUBECONFIG=str(kubeconfig))
    checks = {check["name"]: check for check in json.loads(asked.stdout)}
    assert (asked.returncode, checks["cluster"]["status"]) == (1, "fail")
    assert "Connection refused" in checks["cluster"]["detail"]
    assert {checks[name]["status"] for name in CHECKS[1:]} == {"skip"}
    quiet = json.loads(run_doctor(tmp_path, "--json", KUBECONFIG=str(kubeconfig)).stdout)
    assert {check["name"]: check["status"] for check in quiet}["cluster"] == "skip"
