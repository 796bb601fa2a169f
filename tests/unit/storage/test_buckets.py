"""Buckets are made once and left alone after that."""

import subprocess
import sys
import threading
import time
from xml.etree import ElementTree

import pytest
from minio.lifecycleconfig import LifecycleConfig, Rule
from minio.xml import marshal

from slipway.errors import ConfigError, StorageError
from slipway.storage.buckets import BucketSpec, _make_rules, ensure_buckets
from slipway.storage.objects import ObjectStorage
from slipway.storage.sdk import open_client
from tests.servers.s3 import start_minio

SPEC = BucketSpec.parse("slipway:versioned:expire=state/cache/=30:expire=state/work/=14:noncurrent=30")


def run_command(server, *arguments):
    command = [sys.executable, "-m", "slipway.storage.buckets", *arguments]
    return subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_spec_says_versioning_and_lifecycle():
    assert BucketSpec.parse("mlpipeline") == BucketSpec(name="mlpipeline")
    assert SPEC.versioned
    assert SPEC.expiry == (("state/cache/", 30), ("state/work/", 14))
    assert SPEC.noncurrent_days == 30


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("UPPER", "'UPPER' is no bucket name"),
        ("ab", "'ab' is no bucket name"),
        ("", "'' is no bucket name"),
        ("name:versions", "'versions' is not understood"),
        ("name:expire=30", "'expire=30' is not understood"),
        ("name:expire=a/=soon", "'soon' is no number of days"),
        ("name:expire=a/=0", "'0' is no number of days"),
        ("name:versioned:noncurrent=", "'' is no number of days"),
        ("name:noncurrent=3", "`noncurrent` is for buckets that are `versioned`"),
    ],
)
def test_a_spec_that_is_not_understood_is_refused_with_the_form(text, part):
    with pytest.raises(ConfigError) as caught:
        BucketSpec.parse(text)
    assert part in str(caught.value)
    assert "Accepted: " in str(caught.value)


def test_the_command_makes_buckets_and_changes_nothing_the_second_time(minio):
    arguments = ["--bucket", "plain", "--bucket", "mlflow:versioned", "--bucket"]
    arguments.append("slipway:versioned:expire=state/cache/=30:expire=state/work/=14:noncurrent=30")
    first, second = run_command(minio, *arguments), run_command(minio, *arguments)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stderr.count("changed") == 6
    assert second.stderr.count("already so") == 6
    assert "changed" not in second.stderr
    client = open_client(minio.settings(), timeout_seconds=5)
    versioning = {name: client.get_bucket_versioning(name).status for name in ("plain", "mlflow", "slipway")}
    assert versioning == {"plain": None, "mlflow": "Enabled", "slipway": "Enabled"}
    rules = client.get_bucket_lifecycle("slipway").rules
    assert [(rule.rule_filter.prefix, rule.expiration and rule.expiration.days) for rule in rules] == [
        ("state/cache/", 30),
        ("state/work/", 14),
        ("", None),
    ]
    assert rules[2].noncurrent_version_expiration.noncurrent_days == 30
    assert rules[2].expiration.expired_object_delete_marker, "the markers of what is gone would stay for ever"
    assert client.get_bucket_lifecycle("mlflow") is None


def test_a_lifecycle_that_differs_is_replaced(minio):
    name = minio.make_bucket()
    for text in (f"{name}:expire=a/=3", f"{name}:expire=a/=4"):
        ensure_buckets(minio.settings(), [BucketSpec.parse(text)])
    rules = open_client(minio.settings(), timeout_seconds=5).get_bucket_lifecycle(name).rules
    assert [(rule.rule_filter.prefix, rule.expiration.days) for rule in rules] == [("a/", 4)]


def test_a_lifecycle_that_leaves_markers_of_deletions_behind_is_replaced(minio):
    """As an earlier version made it."""
    name = minio.make_bucket()
    client = open_client(minio.settings(), timeout_seconds=5)
    spec = BucketSpec.parse(f"{name}:versioned:noncurrent=30")
    ensure_buckets(minio.settings(), [spec])
    rule = client.get_bucket_lifecycle(name).rules[0]
    old = Rule(
        rule.status,
        rule_filter=rule.rule_filter,
        rule_id=rule.rule_id,
        noncurrent_version_expiration=rule.noncurrent_version_expiration,
    )
    client.set_bucket_lifecycle(name, LifecycleConfig([old]))
    assert client.get_bucket_lifecycle(name).rules[0].expiration is None
    ensure_buckets(minio.settings(), [spec])
    assert client.get_bucket_lifecycle(name).rules[0].expiration.expired_object_delete_marker


def test_a_server_is_told_when_to_remove_unfinished_uploads(minio):
    """MinIO takes the rule and forgets this part of it; other servers keep it."""
    name = minio.make_bucket()
    (rule,) = _make_rules(BucketSpec.parse(f"{name}:versioned:noncurrent=30"))
    assert rule.abort_incomplete_multipart_upload.days_after_initiation == 30
    (as_sent,) = LifecycleConfig.fromxml(ElementTree.fromstring(marshal(LifecycleConfig([rule])))).rules
    assert as_sent.abort_incomplete_multipart_upload.days_after_initiation == 30
    assert as_sent.expiration.expired_object_delete_marker


def test_what_was_overwritten_in_a_versioned_bucket_is_still_there(minio):
    name = minio.make_bucket()
    ensure_buckets(minio.settings(), [BucketSpec(name=name, versioned=True)])
    storage = ObjectStorage(minio.settings())
    for content in (b"one", b"two"):
        storage.write_bytes(f"s3://{name}/key", content)
    storage.delete(f"s3://{name}/key")
    client = open_client(minio.settings(), timeout_seconds=5)
    versions = [entry for entry in client.list_objects(name, include_version=True) if not entry.is_delete_marker]
    assert {client.get_object(name, "key", version_id=entry.version_id).data for entry in versions} == {b"one", b"two"}


def test_a_server_without_versioning_is_an_error_unless_it_is_allowed(versitygw):
    refused = run_command(versitygw, "--bucket", "plain", "--bucket", "slipway:versioned:expire=state/cache/=30")
    assert refused.returncode == 1
    assert "Setting up the versioning of s3://slipway failed" in refused.stderr
    assert "--allow-unsupported" in refused.stderr
    allowed = run_command(versitygw, "--bucket", "slipway:versioned:expire=state/cache/=30", "--allow-unsupported")
    assert allowed.returncode == 0
    assert allowed.stderr.count("left out: the server has none") == 2
    storage = ObjectStorage(versitygw.settings())
    storage.write_bytes("s3://slipway/key", b"x")
    assert storage.read_bytes("s3://slipway/key") == b"x"


def test_a_server_that_starts_late_is_waited_for(minio, tmp_path):
    probe = start_minio(tmp_path / "server")
    probe.stop()
    port = int(probe.endpoint.rpartition(":")[2])
    failures = []

    def make() -> None:
        try:
            ensure_buckets(probe.settings(), [BucketSpec(name="late")], wait_seconds=30)
        except StorageError as error:
            failures.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    time.sleep(0.3)
    server = start_minio(tmp_path / "server", port=port)
    thread.join(30)
    try:
        assert failures == []
        assert open_client(server.settings(), timeout_seconds=5).bucket_exists("late")
    finally:
        server.stop()


def test_waiting_ends_and_what_waiting_cannot_mend_ends_at_once(minio):
    begin = time.monotonic()
    with pytest.raises(StorageError, match=r"was not ready within 1 s.*connection was refused"):
        ensure_buckets(minio.settings(AWS_ENDPOINT_URL="http://127.0.0.1:1"), [SPEC], wait_seconds=1)
    assert time.monotonic() - begin < 5
    begin = time.monotonic()
    with pytest.raises(StorageError, match=r"wrong credentials: the secret key.*AWS_SECRET_ACCESS_KEY"):
        ensure_buckets(minio.settings(AWS_SECRET_ACCESS_KEY="wrong-secret"), [SPEC], wait_seconds=30)
    with pytest.raises(StorageError, match="the server speaks http"):
        ensure_buckets(minio.settings(AWS_ENDPOINT_URL=minio.endpoint.replace("http", "https")), [SPEC], wait_seconds=30)
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL is ''"):
        ensure_buckets(minio.settings(AWS_ENDPOINT_URL=""), [SPEC], wait_seconds=30)
    assert time.monotonic() - begin < 5
