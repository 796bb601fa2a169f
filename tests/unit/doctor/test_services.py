"""The services are small servers that answer as S3, MLflow and Kubeflow Pipelines do in the cases that matter."""

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from slipway.doctor.checkup import run_checks
from slipway.doctor.services import check_kfp, check_mlflow, check_s3
from slipway.settings import Settings, load_settings

Answers = dict[str, tuple[int, str]]

BUCKETS = """<?xml version="1.0" encoding="UTF-8"?>
<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>1</ID></Owner>
<Buckets><Bucket><Name>mlflow</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>"""
REFUSED = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>no</Message><Resource>/</Resource><RequestId>1</RequestId><HostId>1</HostId></Error>"""


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], str]]:
    """Starts a server that gives each path its answer, whatever the method."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: Answers) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, text = answers.get(self.path.partition("?")[0], (404, "no such page"))
                self.send_response(status)
                kind = "application/xml" if text.startswith("<?xml") else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def s3_settings(url: str) -> Settings:
    return load_settings({"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "a-secret"})


def test_an_s3_endpoint_that_lists_its_buckets_is_ok(serve):
    check = check_s3(s3_settings(serve({"/": (200, BUCKETS)})))
    assert (check.status, "1 bucket mlflow" in check.detail) == ("ok", True)


@pytest.mark.parametrize(
    ("code", "status", "said", "remedy"),
    [
        ("InvalidAccessKeyId", "fail", "does not know the access key", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "fail", "secret key does not belong", "AWS_SECRET_ACCESS_KEY"),
        ("RequestTimeTooSkewed", "fail", "clock skew", "timedatectl"),
        ("AccessDenied", "warn", "does not list its buckets", "ListAllMyBuckets"),
        ("SlowDown", "fail", "not ready", "log"),
        ("Strange", "fail", "Strange: no", "server's log"),
    ],
)
def test_what_s3_refuses_is_said_with_its_remedy(serve, code, status, said, remedy):
    check = check_s3(s3_settings(serve({"/": (403, REFUSED.format(code=code))})))
    assert check.status == status
    assert said in check.detail
    assert remedy in check.remedy
    assert "a-secret" not in check.detail + check.remedy


def test_an_s3_endpoint_without_credentials_unreachable_or_with_tls_on_a_plain_port_is_said(serve):
    plain = serve({"/": (200, BUCKETS)})
    assert "without credentials" in check_s3(load_settings({"AWS_ENDPOINT_URL": plain})).detail
    assert "the server speaks http" in check_s3(s3_settings(plain.replace("http", "https"))).detail
    assert "connection was refused" in check_s3(s3_settings("http://127.0.0.1:9")).detail
    page = check_s3(s3_settings(serve({"/": (200, "a console")})))
    assert (page.status, "not as an S3 server" in page.detail) == ("fail", True)


def test_a_tls_port_that_is_called_without_tls_is_answered_with_the_right_setting(serve):
    url = serve({"/": (400, "Client sent an HTTP request to an HTTPS server.")})
    assert check_s3(s3_settings(url)).remedy == f"Set AWS_ENDPOINT_URL={url.replace('http', 'https')}."


def test_an_mlflow_server_that_is_healthy_and_refuses_its_own_name_is_caught(serve):
    answers = {
        "/health": (200, "OK"),
        "/api/2.0/mlflow/experiments/search": (403, "Invalid Host header - possible DNS rebinding attack"),
    }
    check = check_mlflow(load_settings({"MLFLOW_TRACKING_URI": serve(answers)}))
    assert check.status == "fail"
    assert "--allowed-hosts" in check.remedy


def test_an_mlflow_server_is_ok_only_when_its_api_answers(serve):
    fine = serve({"/health": (200, "OK"), "/api/2.0/mlflow/experiments/search": (200, '{"experiments": []}')})
    assert check_mlflow(load_settings({"MLFLOW_TRACKING_URI": fine})).status == "ok"
    other = serve({"/health": (200, "OK")})
    assert "status 404" in check_mlflow(load_settings({"MLFLOW_TRACKING_URI": other})).detail
    guarded = serve({"/health": (200, "OK"), "/api/2.0/mlflow/experiments/search": (401, "You are not authenticated.")})
    secret = guarded.replace("http://", "http://me:secret@")
    check = check_mlflow(load_settings({"MLFLOW_TRACKING_URI": secret}))
    assert (check.status, "secret" in check.detail) == ("warn", False)


def test_an_sqlite_store_is_opened_for_writing_and_a_damaged_one_is_named(tmp_path):
    settings = load_settings({"SLIPWAY_HOME": str(tmp_path)})
    database = tmp_path / "mlflow.db"
    assert "made by the first run" in check_mlflow(settings).detail
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE model_versions (name TEXT)")
    connection.close()
    assert check_mlflow(settings).status == "ok"
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert "database is locked" in check_mlflow(settings).detail
    holder.close()
    database.write_bytes(b"not a database" * 100)
    damaged = check_mlflow(settings)
    assert (damaged.status, "not a database" in damaged.detail, str(database) in damaged.remedy) == ("fail", True, True)


def test_a_kfp_endpoint_is_ok_when_it_is_of_the_sdks_version(serve):
    def check(tag: str) -> str:
        url = serve({"/apis/v2beta1/healthz": (200, f'{{"multi_user": false, "tag_name": "{tag}"}}')})
        return check_kfp(load_settings({"KF_PIPELINES_ENDPOINT": f"{url}/#/runs"})).status

    assert (check("2.17.0"), check("unknown"), check("2.5.0")) == ("ok", "ok", "warn")
    page = check_kfp(load_settings({"KF_PIPELINES_ENDPOINT": serve({"/apis/v2beta1/healthz": (200, "<html>sign in</html>")})}))
    assert (page.status, "port-forward" in page.remedy) == ("fail", True)


def test_services_that_never_answer_do_not_hold_the_doctor_up(silent, tmp_path):
    settings = load_settings(
        {
            "SLIPWAY_HOME": str(tmp_path),
            "AWS_ENDPOINT_URL": silent,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "MLFLOW_TRACKING_URI": silent,
            "KF_PIPELINES_ENDPOINT": silent,
        }
    )
    start = time.monotonic()
    found = {check.name: check for check in run_checks(settings)}
    assert time.monotonic() - start < 10
    assert {found[name].status for name in ("s3", "mlflow", "kfp")} == {"fail"}
    assert found["home"].status == "ok"


def test_a_check_that_hangs_is_reported_when_the_bound_is_reached(silent, tmp_path):
    settings = load_settings({"SLIPWAY_HOME": str(tmp_path), "KF_PIPELINES_ENDPOINT": silent})
    (kfp,) = (check for check in run_checks(settings, deadline_seconds=0.3) if check.name == "kfp")
    assert (kfp.status, kfp.detail) == ("fail", "no answer within 0.3 s")
