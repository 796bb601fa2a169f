"""Each error names bucket, key, endpoint, the likely cause and what to do; provoked on real servers where that can be done."""

import random
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import urllib3
from minio import MinioAdmin
from minio.credentials import Credentials, StaticProvider
from minio.signer import sign_v4_s3

from slipway.errors import ObjectMissingError, StorageError
from slipway.settings import load_settings
from slipway.storage.buckets import BucketSpec, ensure_buckets
from slipway.storage.causes import find_cause
from slipway.storage.connection import Limits
from slipway.storage.objects import ObjectStorage
from slipway.storage.refusals import explain
from slipway.storage.uri import S3Location
from tests.servers.certificates import issue_certificate
from tests.servers.s3 import start_minio

SHORT = Limits(connect_seconds=1, request_seconds=2, retry_seconds=1)
LOCATION = S3Location(bucket="models", key="digits/model.onnx")


def calls(storage, uri, tmp_path):
    """Every way to use one URI."""
    (tmp_path / "source").mkdir(exist_ok=True)
    (tmp_path / "source" / "file").write_text("content")
    return {
        "read": lambda: storage.read_bytes(uri),
        "write": lambda: storage.write_bytes(uri, b"x"),
        "exists": lambda: storage.exists(uri),
        "delete": lambda: storage.delete(uri),
        "delete_folder": lambda: storage.delete_folder(uri),
        "list": lambda: storage.list_files(uri),
        "upload": lambda: storage.upload_file(tmp_path / "source" / "file", uri),
        "download": lambda: storage.download_file(uri, tmp_path / "target"),
        "upload_folder": lambda: storage.upload_folder(tmp_path / "source", uri),
        "download_folder": lambda: storage.download_folder(uri, tmp_path / "target"),
        "publish": lambda: storage.publish_folder(tmp_path / "source", uri),
        "fetch": lambda: storage.fetch_folder(uri, tmp_path / "target"),
    }


def require_explained(server, uri, tmp_path, cause, remedy, **changes):
    storage = ObjectStorage(server.settings(**changes), limits=SHORT)
    bucket = uri.split("/")[2]
    for name, call in calls(storage, uri, tmp_path).items():
        with pytest.raises(StorageError) as caught:
            call()
        message = str(caught.value)
        assert not isinstance(caught.value, ObjectMissingError), name
        assert cause in message, (name, message)
        assert re.search(remedy, message), (name, message)
        assert f"bucket '{bucket}', key 'some/key" in message, name
        assert f"endpoint {server.endpoint}" in message, name
        assert "only-for-tests" not in message, name


def test_a_missing_bucket_is_said_with_the_command_that_makes_it(server, tmp_path):
    remedy = "python -m slipway.storage.buckets --bucket nowhere"
    require_explained(server, "s3://nowhere/some/key", tmp_path, "there is no such bucket", remedy)


def test_an_unknown_access_key_is_told_from_a_wrong_secret(server, bucket, tmp_path):
    uri = f"s3://{bucket}/some/key"
    unknown = "wrong credentials: the server does not know the access key"
    require_explained(server, uri, tmp_path, unknown, "Correct AWS_ACCESS_KEY_ID", AWS_ACCESS_KEY_ID="nobody")
    wrong = "wrong credentials: the secret key does not belong to the access key"
    require_explained(server, uri, tmp_path, wrong, "Correct AWS_SECRET_ACCESS_KEY", AWS_SECRET_ACCESS_KEY="wrong-secret")


def test_credentials_that_may_not_use_the_bucket_are_denied(minio, tmp_path):
    provider = StaticProvider(minio.access_key, minio.secret_key)
    admin = MinioAdmin(endpoint=urlsplit(minio.endpoint).netloc, credentials=provider, secure=False)
    admin.user_add("guest", "guest-secret")
    uri = f"s3://{minio.make_bucket()}/some/key"
    changes = {"AWS_ACCESS_KEY_ID": "guest", "AWS_SECRET_ACCESS_KEY": "guest-secret"}
    require_explained(minio, uri, tmp_path, "access is denied", "allow these credentials to use bucket 'bucket-", **changes)


def test_a_clock_that_is_wrong_is_told(server):
    """The server's own words, to a request signed an hour ago."""
    url = urlsplit(f"{server.endpoint}/models/digits/model.onnx")
    date = datetime.now(UTC) - timedelta(hours=1)
    headers = {"Host": url.netloc, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": date.strftime("%Y%m%dT%H%M%SZ")}
    credentials = Credentials(server.access_key, server.secret_key)
    signed = sign_v4_s3(
        method="GET",
        url=url,
        region="us-east-1",
        headers=headers,
        credentials=credentials,
        content_sha256="UNSIGNED-PAYLOAD",
        date=date,
    )
    answer = urllib3.request("GET", url.geturl(), headers=signed, retries=False)
    message = str(explain(answer.data.decode(), server.endpoint, LOCATION, "Reading"))
    assert "clock skew: this machine's clock and the server's differ by more than S3 accepts" in message
    assert "timedatectl set-ntp true" in message
    assert f"bucket 'models', key 'digits/model.onnx', endpoint {server.endpoint}" in message


def test_the_scheme_that_does_not_fit_the_port_is_told_with_the_one_that_does(minio, tls_minio):
    server, certificate = tls_minio
    _, authority = certificate
    plain, tls = urlsplit(minio.endpoint).netloc, urlsplit(server.endpoint).netloc
    with pytest.raises(StorageError, match=rf"the endpoint says https, the server speaks http .*AWS_ENDPOINT_URL=http://{plain}"):
        read(minio, AWS_ENDPOINT_URL=f"https://{plain}")
    with pytest.raises(StorageError, match=rf"the server wants https, the endpoint says http .*AWS_ENDPOINT_URL=https://{tls}"):
        read(server, AWS_ENDPOINT_URL=f"http://{tls}", AWS_CA_BUNDLE=str(authority))


def test_a_certificate_is_trusted_by_its_authority_alone(tls_minio, tmp_path):
    server, (_, authority) = tls_minio
    with pytest.raises(StorageError, match=r"the server's certificate is not trusted .*AWS_CA_BUNDLE"):
        read(server)
    with pytest.raises(StorageError, match="there is no such bucket"):
        read(server, AWS_CA_BUNDLE=str(authority))
    with pytest.raises(StorageError, match="for another host name"):
        read(server, AWS_CA_BUNDLE=str(authority), AWS_ENDPOINT_URL=server.endpoint.replace("127.0.0.1", "localhost"))
    with pytest.raises(StorageError, match=r"AWS_CA_BUNDLE is /nowhere\.pem, which cannot be read"):
        read(server, AWS_CA_BUNDLE="/nowhere.pem")


def test_over_tls_files_come_back_as_they_were_sent(tls_minio, tmp_path):
    server, (_, authority) = tls_minio
    settings = server.settings(AWS_CA_BUNDLE=str(authority))
    ensure_buckets(settings, [BucketSpec(name="over-tls")])
    storage = ObjectStorage(settings)
    content = random.Random(0).randbytes(20 << 20)
    (tmp_path / "sent").write_bytes(content)
    storage.upload_file(tmp_path / "sent", "s3://over-tls/large")
    storage.write_bytes("s3://over-tls/small", b"small")
    storage.download_file("s3://over-tls/large", tmp_path / "came")
    assert (tmp_path / "came").read_bytes() == content
    assert storage.read_bytes("s3://over-tls/small") == b"small"


def test_a_certificate_that_is_out_of_date_is_told(minio, tmp_path):
    certificate = issue_certificate("127.0.0.1", valid_until=datetime.now(UTC) - timedelta(days=1))
    (tmp_path / "authority.pem").write_bytes(certificate.authority)
    server = start_minio(tmp_path / "server", certificate=certificate)
    try:
        with pytest.raises(StorageError, match="the server's certificate is out of date"):
            read(server, AWS_CA_BUNDLE=str(tmp_path / "authority.pem"))
    finally:
        server.stop()


def test_a_port_where_nothing_listens_and_a_host_that_is_unknown_are_told_apart(minio):
    with pytest.raises(StorageError, match=r"connection was refused.*endpoint http://127.0.0.1:1\).*Start the server"):
        read(minio, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    with pytest.raises(StorageError, match=r"host name is not known \(DNS\).*Correct the host in AWS_ENDPOINT_URL"):
        read(minio, AWS_ENDPOINT_URL="http://nowhere.invalid:9000")


def test_a_server_that_takes_connections_and_says_nothing_is_told(minio):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(StorageError, match=r"did not answer in time.*Check the network"):
            read(minio, AWS_ENDPOINT_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize(("status", "cause"), [(404, "not as an S3 server"), (403, "access is denied"), (503, "not ready")])
def test_an_endpoint_that_is_no_s3_server_is_told(answering, status, cause):
    settings = answering(status, b"<html>404 page not found</html>")
    storage = ObjectStorage(settings, limits=SHORT)
    with pytest.raises(StorageError, match=cause) as caught:
        storage.read_bytes("s3://bucket/key")
    assert not isinstance(caught.value, ObjectMissingError)
    with pytest.raises(StorageError, match=cause):
        storage.exists("s3://bucket/key")


def test_a_server_that_lists_a_name_outside_of_the_folder_gets_nothing_written(answering, tmp_path):
    entry = "<Key>folder/../../outside</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    page = f"<ListBucketResult><IsTruncated>false</IsTruncated><Contents>{entry}</Contents></ListBucketResult>"
    storage = ObjectStorage(answering(200, page.encode()), limits=SHORT)
    with pytest.raises(StorageError, match=r"a name that no file can have.*outside of the folder"):
        storage.download_folder("s3://bucket/folder", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_nobody_foresaw_is_shown_as_the_server_said_it():
    answer = "<Error><Code>WeirdThing</Code><Message>The {moon} is full.</Message></Error>"
    message = str(explain(answer, "http://minio:9000", LOCATION, "Reading"))
    assert "Reading s3://models/digits/model.onnx failed: WeirdThing: The {moon} is full. (bucket 'models'" in message
    assert "slipway doctor" in message
    assert find_cause("something else\n\nDebug source:\nlong").reason == "something else"


def read(server, **changes):
    return ObjectStorage(server.settings(**changes), limits=SHORT).read_bytes("s3://nowhere/some/key")


@pytest.fixture(scope="module")
def tls_minio(tmp_path_factory, minio):
    folder = tmp_path_factory.mktemp("tls")
    certificate = issue_certificate("127.0.0.1")
    (folder / "authority.pem").write_bytes(certificate.authority)
    server = start_minio(folder, certificate=certificate)
    yield server, (certificate, folder / "authority.pem")
    server.stop()


@pytest.fixture
def answering() -> Iterator:
    """Settings of an endpoint that answers everything alike."""
    servers = []

    def start(status: int, body: bytes):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        address = f"http://127.0.0.1:{server.server_port}"
        return load_settings({"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
