"""What is left when a transfer breaks off, and how long that takes to be told."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from slipway.errors import StorageError
from slipway.settings import load_settings
from slipway.storage import remote
from slipway.storage.connection import Limits
from slipway.storage.listing import check_names
from slipway.storage.objects import ObjectStorage
from slipway.storage.parallel import run_parallel
from slipway.storage.sdk import open_client
from tests.servers.s3 import S3Server, start_minio
from tests.servers.stalling import stall_first

SHORT = Limits(connect_seconds=1, request_seconds=2, retry_seconds=2, transfer_seconds=60)
HUGE_BYTES = 400 << 20


@pytest.fixture
def huge(tmp_path):
    """A file that takes a second or more to upload; all zeros, so that it takes no room here."""
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.truncate(HUGE_BYTES)
    return path


def wait_for_upload(server: S3Server, bucket: str, key: str) -> None:
    """Until the server has begun to take parts of `key`."""
    client = open_client(server.settings(), timeout_seconds=5)
    deadline = time.monotonic() + 20
    while not client._list_multipart_uploads(bucket, prefix=key).uploads:
        assert time.monotonic() < deadline, "the upload did not begin"
        time.sleep(0.01)


def test_an_upload_whose_process_is_killed_leaves_nothing_visible(server, bucket, huge):
    script = (
        "import sys; from pathlib import Path; from slipway.settings import load_settings;"
        "from slipway.storage.objects import ObjectStorage;"
        "ObjectStorage(load_settings()).upload_file(Path(sys.argv[1]), sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(huge), f"s3://{bucket}/huge"], env=server.environment)
    wait_for_upload(server, bucket, "huge")
    process.kill()
    process.wait(10)
    storage = ObjectStorage(server.settings())
    assert storage.list_files(f"s3://{bucket}") == []
    assert not storage.exists(f"s3://{bucket}/huge")


def test_an_upload_past_its_deadline_ends_and_leaves_nothing_to_be_seen(server, bucket, huge):
    storage = ObjectStorage(server.settings(), limits=Limits(transfer_seconds=0.2))
    with pytest.raises(StorageError, match=r"Uploading .*huge to s3://.* did not end within 0\.2 s"):
        storage.upload_file(huge, f"s3://{bucket}/huge")
    assert storage.list_files(f"s3://{bucket}") == []
    assert not storage.exists(f"s3://{bucket}/huge")


def test_a_folder_past_its_deadline_ends(server, bucket, tmp_path):
    (tmp_path / "source").mkdir()
    for number in range(500):
        (tmp_path / "source" / str(number)).write_bytes(b"x" * 3000)
    storage = ObjectStorage(server.settings(), limits=Limits(transfer_seconds=0.05))
    with pytest.raises(StorageError, match=r"did not end within 0\.05 s"):
        storage.upload_folder(tmp_path / "source", f"s3://{bucket}/folder")


def test_a_server_that_dies_during_an_upload_is_told_before_the_deadline(start_server, huge):
    server = start_server()
    bucket = server.make_bucket()
    storage = ObjectStorage(server.settings(), limits=SHORT)
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(storage.upload_file, huge, f"s3://{bucket}/huge")
        wait_for_upload(server, bucket, "huge")
        server.kill()
        begin = time.monotonic()
        with pytest.raises(StorageError, match=r"connection (was refused|broke off).*endpoint http://127"):
            upload.result(30)
    assert time.monotonic() - begin < 10


def test_a_server_that_dies_during_a_download_leaves_no_part_of_it(start_server, tmp_path):
    server = start_server()
    bucket = server.make_bucket()
    storage = ObjectStorage(server.settings(), limits=SHORT)
    (tmp_path / "source").mkdir()
    for number in range(300):
        (tmp_path / "source" / str(number)).write_bytes(b"x" * 3000)
    storage.upload_folder(tmp_path / "source", f"s3://{bucket}/folder")
    with ThreadPoolExecutor(1) as pool:
        download = pool.submit(storage.download_folder, f"s3://{bucket}/folder", tmp_path / "target")
        while not list(tmp_path.glob(".target.*/*")):
            assert not download.done(), "it ended before it was seen under way"
            time.sleep(0.001)
        server.kill()
        with pytest.raises(StorageError, match=r"Downloading s3://.* failed: the connection"):
            download.result(30)
    assert [path.name for path in tmp_path.iterdir() if "target" in path.name] == []


def test_a_server_that_answers_nothing_is_told_before_the_deadline(start_server):
    server = start_server()
    bucket = server.make_bucket()
    storage = ObjectStorage(server.settings(), limits=SHORT)
    storage.write_bytes(f"s3://{bucket}/a", b"x")
    server.freeze()
    begin = time.monotonic()
    with pytest.raises(StorageError, match="the server did not answer in time"):
        storage.read_bytes(f"s3://{bucket}/a")
    assert time.monotonic() - begin < 6


def test_a_server_that_restarts_is_waited_for(minio, tmp_path):
    server = start_minio(tmp_path / "server")
    port = int(server.endpoint.rpartition(":")[2])
    bucket = server.make_bucket()
    storage = ObjectStorage(server.settings())
    storage.write_bytes(f"s3://{bucket}/a", b"x")
    server.kill()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(storage.read_bytes, f"s3://{bucket}/a")
        time.sleep(0.5)
        again = start_minio(tmp_path / "server", port=port)
        try:
            assert reading.result(30) == b"x"
        finally:
            again.stop()


def test_a_publication_that_broke_off_is_not_found_and_can_be_repeated(minio, tmp_path, huge):
    server = start_minio(tmp_path / "server")
    port = int(server.endpoint.rpartition(":")[2])
    folder = f"s3://{server.make_bucket()}/published"
    storage = ObjectStorage(server.settings(), limits=SHORT)
    source = tmp_path / "source"
    source.mkdir()
    (source / "first").write_text("first")
    storage.publish_folder(source, folder)
    huge.rename(source / "huge")
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(storage.publish_folder, source, folder)
        wait_for_upload(server, folder.split("/")[2], "published/huge")
        server.kill()
        with pytest.raises(StorageError, match="connection"):
            publishing.result(30)
    server = start_minio(tmp_path / "server", port=port)
    try:
        assert not storage.is_published(folder)
        (source / "huge").write_text("smaller")
        storage.publish_folder(source, folder)
        storage.fetch_folder(folder, tmp_path / "target")
        assert {path.name for path in (tmp_path / "target").iterdir()} == {"first", "huge"}
    finally:
        server.stop()


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(minio, tmp_path, monkeypatch):
    storage, uri = ObjectStorage(minio.settings()), f"s3://{minio.make_bucket()}/large"
    size = 40 << 20
    storage.write_bytes(uri, b"a" * size)

    def replace_before_the_other_parts(*arguments, **options):
        storage.write_bytes(uri, b"b" * size)
        run_parallel(*arguments, **options)

    monkeypatch.setattr(remote, "run_parallel", replace_before_the_other_parts)
    with pytest.raises(StorageError, match="it was replaced while it was read"):
        storage.download_file(uri, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_transfers_need_no_more_memory_than_a_few_parts(minio, tmp_path, huge):
    uri = f"s3://{minio.make_bucket()}/huge"
    ObjectStorage(minio.settings()).upload_file(huge, uri)
    script = (
        "import sys; from pathlib import Path; from slipway.settings import load_settings;"
        "from slipway.storage.objects import ObjectStorage; storage = ObjectStorage(load_settings());"
        "storage.download_file(sys.argv[1], Path(sys.argv[2]));"
        "storage.upload_file(Path(sys.argv[2]), sys.argv[1]);"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    command = [sys.executable, "-c", script, uri, str(tmp_path / "target")]
    done = subprocess.run(command, env=minio.environment, capture_output=True, text=True, timeout=120, check=True)
    assert (tmp_path / "target").stat().st_size == HUGE_BYTES
    assert int(done.stdout) < 250_000, "kilobytes"


def test_settings_without_credentials_do_not_wait_for_a_cloud_that_is_not_there(minio):
    settings = load_settings({"AWS_ENDPOINT_URL": minio.endpoint})
    begin = time.monotonic()
    with pytest.raises(StorageError, match="there are no credentials"):
        ObjectStorage(settings, limits=SHORT).read_bytes("s3://bucket/key")
    assert time.monotonic() - begin < 10


def test_files_of_a_folder_are_never_written_outside_of_it():
    for name in ("../a", "/a", "a/../../b", "..", "a\\b", "a\0"):
        with pytest.raises(StorageError, match="could lie outside of the folder"):
            check_names("s3://bucket/folder", ["fine", name])
    check_names("s3://bucket/folder", ["a..b", "..a/b..", "a/...", "~"])


def test_by_default_a_request_without_an_answer_is_tried_again_and_again_within_its_time():
    assert Limits().retry_seconds >= 2 * Limits().request_seconds


@pytest.mark.parametrize("num_stalled", [1, 2])
def test_a_request_that_gets_no_answer_is_tried_again(minio, num_stalled):
    limits = Limits(connect_seconds=1, request_seconds=1, retry_seconds=20)
    bucket = minio.make_bucket()
    with stall_first(int(minio.endpoint.rpartition(":")[2]), num_stalled=num_stalled) as port:
        storage = ObjectStorage(minio.settings(AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}"), limits=limits)
        storage.write_bytes(f"s3://{bucket}/a", b"content")
    with stall_first(int(minio.endpoint.rpartition(":")[2]), num_stalled=num_stalled) as port:
        storage = ObjectStorage(minio.settings(AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}"), limits=limits)
        assert storage.read_bytes(f"s3://{bucket}/a") == b"content"


def test_a_server_that_never_answers_is_given_up_when_a_requests_time_for_trying_again_is_over(minio):
    limits = Limits(connect_seconds=1, request_seconds=1, retry_seconds=2.5)
    with stall_first(int(minio.endpoint.rpartition(":")[2]), num_stalled=100) as port:
        storage = ObjectStorage(minio.settings(AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}"), limits=limits)
        with pytest.raises(StorageError, match="did not answer in time"):
            storage.read_bytes("s3://bucket/a")


def test_temporary_credentials_reach_the_server_with_their_token(minio):
    from minio.credentials import AssumeRoleProvider

    lent = AssumeRoleProvider(
        sts_endpoint=minio.endpoint, access_key=minio.access_key, secret_key=minio.secret_key, duration_seconds=900
    ).retrieve()
    keys = {"AWS_ACCESS_KEY_ID": lent.access_key, "AWS_SECRET_ACCESS_KEY": lent.secret_key}
    settings = minio.settings(**keys, AWS_SESSION_TOKEN=lent.session_token)
    bucket = minio.make_bucket()
    ObjectStorage(settings).write_bytes(f"s3://{bucket}/a", b"content")
    assert open_client(settings, timeout_seconds=5).bucket_exists(bucket)
    with pytest.raises(StorageError, match="wrong credentials"):
        ObjectStorage(minio.settings(**keys), limits=SHORT).read_bytes(f"s3://{bucket}/a")
