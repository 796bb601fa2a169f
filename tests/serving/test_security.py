"""Who is let in, over which wire, and what an answer gives away."""

import ast
import asyncio
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from slipway.errors import ConfigError, RequestError
from slipway.serving.client import predict_image
from slipway.serving.process.access import Access, Rate, Tokens
from slipway.serving.process.options import AccessOptions
from slipway.serving.process.tls import ServerTls
from slipway.settings import child_environment
from tests.servers.certificates import Authority
from tests.serving.conftest import StartPredictor
from tests.serving.predictor import Predictor

ROOT = Path(__file__).parents[2]
FIRST, SECOND, THIRD = ("first-token-of-all", "second-token-of-all", "third-token-of-all")
PROBES = ("/v2/health/live", "/v2/health/ready", "/v2/models/model/ready", "/v2/models/model/versions/1/ready")
GUARDED = ("/v2", "/v2/models", "/v2/models/model", "/v1/models", "/docs", "/openapi.json", "/nowhere", "/")
PATIENCE_SECONDS = 20


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(start_for_module: StartPredictor, image_bundle, tmp_path_factory) -> Predictor:
    """A predictor that takes FIRST from its environment, and SECOND from a file."""
    token_file = tmp_path_factory.mktemp("tokens") / "tokens"
    token_file.write_text(f"# for the shop\n{SECOND}\n\n")
    environment = child_environment(SLIPWAY_SERVING_TOKEN=FIRST)
    return start_for_module(image_bundle.root, "--token-file", str(token_file), environment=environment)


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize(
    "headers",
    [{}, bearer("wrong-token-of-all"), bearer(FIRST[:-1]), {"authorization": "Bearer"}, {"authorization": "Basic Zmlyc3Q6"}],
)
def test_without_a_right_token_there_is_no_answer(guarded, path, headers):
    answer = httpx.get(guarded.url + path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "token" in answer.json()["error"].lower()
    assert FIRST not in answer.text
    assert httpx.post(guarded.infer_url, headers=headers, json={}).status_code == 401


@pytest.mark.parametrize(
    "path", ["/v2/models/ready", "/v2/models/model/versions/ready", "/v2/models/model/infer/ready", "/v2/models/../v2/ready"]
)
def test_a_path_that_only_looks_like_a_probe_needs_a_token_too(guarded, path):
    with httpx.Client() as client:
        asked = client.build_request("GET", guarded.url)
        asked.url = asked.url.copy_with(raw_path=path.encode())
        assert client.send(asked).status_code == 401


def test_each_of_the_tokens_is_accepted(guarded):
    for token in (FIRST, SECOND):
        assert httpx.get(f"{guarded.url}/v2/models", headers=bearer(token)).status_code == 200
        assert httpx.get(f"{guarded.url}/v2/models", headers={"authorization": f"bearer  {token}"}).status_code == 200


def test_a_probe_for_another_model_is_not_told_which_one_is_served(guarded):
    accepted = "is not served here; accepted: the name and the version that this server was started with."
    for path, asked in (
        ("/v2/models/other/ready", "Model 'other'"),
        ("/v2/models/other/versions/8/ready", "Version '8' of 'other'"),
        ("/v2/models/model/versions/8/ready", "Version '8' of 'model'"),
    ):
        answer = httpx.get(guarded.url + path)
        assert (answer.status_code, answer.json()["error"]) == (404, f"{asked} {accepted}")
    told = httpx.get(f"{guarded.url}/v2/models/other", headers=bearer(FIRST)).json()["error"]
    assert told == "Model 'other' is not served here; accepted: model."


def test_the_methods_of_a_path_are_told_to_those_who_may_ask(guarded):
    assert httpx.options(guarded.infer_url).status_code == 401
    answer = httpx.options(guarded.infer_url, headers=bearer(FIRST))
    assert (answer.status_code, answer.headers["allow"]) == (204, "POST, OPTIONS")


def test_our_own_client_shows_its_token(guarded, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    (answer,) = predict_image(guarded.url, guarded.name, tmp_path / "photo.png", token=SECOND)
    assert answer.label
    with pytest.raises(RequestError, match="needs a token"):
        predict_image(guarded.url, guarded.name, tmp_path / "photo.png")


def test_probes_and_metrics_need_no_token(guarded, start: StartPredictor, image_bundle):
    for path in (*PROBES, "/metrics", "/metrics/"):
        assert httpx.get(guarded.url + path).status_code == 200
    closed = start(image_bundle.root, "--no-open-metrics", environment=child_environment(SLIPWAY_SERVING_TOKEN=FIRST))
    assert httpx.get(f"{closed.url}/metrics").status_code == 401
    assert httpx.get(f"{closed.url}/metrics", headers=bearer(FIRST)).status_code == 200


def test_a_large_body_without_a_token_is_not_read(guarded):
    with httpx.Client() as client:
        answer = client.post(guarded.infer_url, content=b" " * (20 * 2**20))
    assert answer.status_code == 401


def test_a_token_never_stands_in_the_log_or_on_the_command_line(guarded):
    assert FIRST not in guarded.log
    assert SECOND not in guarded.log
    assert FIRST not in Path(f"/proc/{guarded.pid}/cmdline").read_text()


def test_tokens_are_exchanged_while_the_server_runs(start: StartPredictor, image_bundle, tmp_path):
    token_file = tmp_path / "tokens"
    token_file.write_text(f"{FIRST}\n")
    predictor = start(image_bundle.root, "--token-file", str(token_file))

    def status(token: str) -> int:
        return httpx.get(f"{predictor.url}/v2", headers=bearer(token)).status_code

    def wait_for(token: str, wanted: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while status(token) != wanted:
            assert time.monotonic() < deadline, f"{token} still does not get {wanted}"
            time.sleep(0.05)

    assert (status(FIRST), status(SECOND)) == (200, 401)
    (tmp_path / "new").write_text(f"{FIRST}\n{SECOND}\n")
    os.replace(tmp_path / "new", token_file)
    wait_for(SECOND, 200)
    assert status(FIRST) == 200
    token_file.write_text("short\n")  # not accepted: those from before still count
    time.sleep(1.2)
    assert (status(FIRST), status(SECOND)) == (200, 200)
    token_file.write_text(f"{THIRD}\n")
    wait_for(THIRD, 200)
    assert (status(FIRST), status(SECOND)) == (401, 401)
    token_file.write_text("")  # nobody any more
    wait_for(THIRD, 401)


def test_a_token_file_that_could_not_be_read_is_read_again_though_it_looks_the_same(tmp_path):
    token_file = tmp_path / "tokens"
    token_file.write_text(f"{FIRST}\n")
    now = 0.0
    tokens = Tokens(AccessOptions(token_file=token_file), clock=lambda: now)

    def is_accepted(token: str) -> bool:
        nonlocal now
        now += 10
        return tokens.find_refusal(bearer(token)["authorization"]) is None

    assert is_accepted(FIRST)
    token_file.write_bytes(THIRD.encode()[:-1] + b"\xff")  # the server comes while it is being written
    written = token_file.stat()
    assert is_accepted(FIRST)
    token_file.write_text(THIRD)
    os.utime(token_file, ns=(written.st_atime_ns, written.st_mtime_ns))  # a file system may count in whole seconds
    assert is_accepted(THIRD)
    assert not is_accepted(FIRST)


@pytest.mark.parametrize(
    ("content", "told"), [("", "holds no token"), ("short", "16 or more"), ("with a space in it", "no spaces")]
)
def test_a_token_file_that_would_let_anybody_in_is_refused(tmp_path, content, told):
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(ConfigError, match=told):
        Tokens(AccessOptions(token_file=tmp_path / "tokens"))
    with pytest.raises(ConfigError, match="cannot be read"):
        Tokens(AccessOptions(token_file=tmp_path / "none"))


def test_an_address_may_ask_so_often_and_no_more():
    now = [100.0]
    rate = Rate(AccessOptions(requests_per_second=2, burst=3), clock=lambda: now[0])
    assert [rate.find_refusal("10.0.0.1") is None for _ in range(4)] == [True, True, True, False]
    refused = rate.find_refusal("10.0.0.1")
    assert refused is not None
    assert (refused.status, refused.headers) == (429, ((b"retry-after", b"1"),))
    assert rate.find_refusal("10.0.0.2") is None  # each for itself
    now[0] += 0.5
    assert rate.find_refusal("10.0.0.1") is None
    assert rate.find_refusal("10.0.0.1") is not None
    now[0] += 3600
    assert [rate.find_refusal("10.0.0.1") is None for _ in range(4)] == [True, True, True, False]


def test_a_client_with_a_network_of_its_own_is_one_client_and_many_clients_take_no_more_room():
    rate = Rate(AccessOptions(requests_per_second=1), clock=lambda: 0.0)
    assert rate.find_refusal("2001:db8::1") is None
    assert rate.find_refusal("2001:db8::ffff:2") is not None
    assert rate.find_refusal("2001:db8:0:1::1") is None
    assert rate.find_refusal("10.1.2.3") is None
    assert rate.find_refusal("::ffff:10.1.2.3") is not None
    for number in range(30_000):
        rate.find_refusal(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(rate._buckets) == 10_000


def test_the_rate_holds_over_http_and_probes_do_not_count(start: StartPredictor, image_bundle):
    predictor = start(image_bundle.root, "--requests-per-second", "0.01", "--burst", "2")
    for path in PROBES * 5:
        assert httpx.get(predictor.url + path).status_code == 200
    statuses = [httpx.get(f"{predictor.url}/v2").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = httpx.get(f"{predictor.url}/v2")
    assert int(refused.headers["retry-after"]) > 10
    assert "0.01 requests a second" in refused.json()["error"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """Certificates of a server, a client, and one that a stranger has signed."""
    folder, authority, stranger = tmp_path_factory.mktemp("certificates"), Authority(), Authority()
    authority.issue("127.0.0.1").write(folder / "server.pem", folder / "server.key")
    authority.issue("shop.example").write(folder / "client.pem", folder / "client.key")
    stranger.issue("shop.example").write(folder / "stranger.pem", folder / "stranger.key")
    (folder / "ca.pem").write_bytes(authority.certificate)
    return folder


@pytest.fixture(scope="module")
def mutual(start_for_module: StartPredictor, image_bundle, certificates) -> Predictor:
    """A predictor that wants to see certificates."""
    return start_for_module(image_bundle.root, *tls_arguments(certificates), "--tls-client-ca", str(certificates / "ca.pem"))


def tls_arguments(folder: Path) -> tuple[str, ...]:
    return ("--tls-certificate", str(folder / "server.pem"), "--tls-key", str(folder / "server.key"))


@pytest.fixture
def trusting(certificates) -> Iterator[httpx.Client]:
    with httpx.Client(verify=ssl.create_default_context(cafile=certificates / "ca.pem")) as client:
        yield client


def client_showing(certificates: Path, name: str) -> httpx.Client:
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return httpx.Client(verify=context)


def test_over_tls_the_server_proves_who_it_is(start: StartPredictor, image_bundle, certificates, trusting):
    predictor = start(image_bundle.root, *tls_arguments(certificates))
    assert predictor.url.startswith("https://")
    assert trusting.get(f"{predictor.url}/v2").status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{predictor.url}/v2")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{predictor.port}/v2")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(certificates / "ca.pem")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with httpx.Client(verify=old) as client, pytest.raises(httpx.ConnectError):
        client.get(f"{predictor.url}/v2")
    assert predictor.stop() == 0
    assert "Traceback" not in predictor.log


def test_with_client_certificates_nobody_asks_without_one_that_is_trusted(mutual, certificates, trusting):
    for path in PROBES:  # the kubelet has none
        assert trusting.get(mutual.url + path).status_code == 200
    refused = trusting.get(f"{mutual.url}/v2")
    assert refused.status_code == 403
    assert "needs a client certificate" in refused.json()["error"]
    with client_showing(certificates, "client") as client:
        assert client.get(f"{mutual.url}/v2").status_code == 200
    with client_showing(certificates, "stranger") as client, pytest.raises(httpx.TransportError):
        client.get(f"{mutual.url}/v2/health/live")
    assert "Traceback" not in mutual.log


async def read_certificate(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


def test_a_renewed_certificate_is_taken_up_without_a_restart(certificates, tmp_path):
    for name in ("server.pem", "server.key"):
        shutil.copy2(certificates / name, tmp_path)
    tls = ServerTls(AccessOptions(tls_certificate=tmp_path / "server.pem", tls_key=tmp_path / "server.key"), look_seconds=0.05)

    async def scenario() -> tuple[bytes, bytes, bytes]:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=tls.context)
        port = server.sockets[0].getsockname()[1]
        following = asyncio.create_task(tls.follow_files())
        await asyncio.sleep(0.1)
        first = await read_certificate(port)
        renewed = Authority().issue("127.0.0.1")
        (tmp_path / "server.pem").write_bytes(renewed.certificate)  # its key is not there yet
        await asyncio.sleep(0.2)
        between = await read_certificate(port)
        (tmp_path / "server.key").write_bytes(renewed.private_key)
        await asyncio.sleep(0.3)
        last = await read_certificate(port)
        following.cancel()
        server.close()
        return first, between, last

    first, between, last = asyncio.run(scenario())
    assert first == between
    assert last != first


def test_a_certificate_that_is_renewed_before_it_is_followed_is_taken_up_too(certificates, tmp_path):
    """Between the two lies the loading of the model."""
    for name in ("server.pem", "server.key"):
        shutil.copy2(certificates / name, tmp_path)
    tls = ServerTls(AccessOptions(tls_certificate=tmp_path / "server.pem", tls_key=tmp_path / "server.key"), look_seconds=0.05)
    renewed = Authority().issue("127.0.0.1")
    (tmp_path / "server.pem").write_bytes(renewed.certificate)
    (tmp_path / "server.key").write_bytes(renewed.private_key)

    async def follow() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=tls.context)
        following = asyncio.create_task(tls.follow_files())
        async with asyncio.timeout(20):
            while await read_certificate(server.sockets[0].getsockname()[1]) != ssl.PEM_cert_to_DER_cert(
                renewed.certificate.decode()
            ):
                await asyncio.sleep(0.05)
        following.cancel()
        server.close()

    asyncio.run(follow())


@pytest.mark.parametrize("wrong", ["missing", "other-key", "nonsense"])
def test_tls_files_that_cannot_be_used_are_said_in_one_line(certificates, tmp_path, image_bundle, wrong):
    for name in ("server.pem", "server.key"):
        shutil.copy2(certificates / name, tmp_path)
    if wrong == "missing":
        (tmp_path / "server.key").unlink()
    elif wrong == "other-key":
        shutil.copy2(certificates / "client.key", tmp_path / "server.key")
    else:
        (tmp_path / "server.pem").write_text("nonsense")
    bundle = ("--bundle", str(image_bundle.root), "--name", "m", "--port", "0")
    command = [sys.executable, "-m", "slipway.serving", *bundle, *tls_arguments(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "TLS cannot be set up" in ended.stderr


def test_answers_say_nothing_of_the_server_and_forbid_guessing(predictor):
    for answer in (
        httpx.get(f"{predictor.url}/v2"),
        httpx.post(predictor.infer_url, content=b"{"),
        httpx.get(predictor.url + "/nope"),
    ):
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "Traceback" not in answer.text
        assert ".py" not in answer.text


@pytest.mark.parametrize("path", ["/docs", "/v2", "/openapi.json", "/nope"])
def test_each_header_of_an_answer_stands_once(predictor, path):
    names = [name for name, _ in httpx.get(predictor.url + path, headers={"accept": "text/html"}).headers.multi_items()]
    assert len(names) == len(set(names))


def test_everybody_may_ask_where_nothing_is_set():
    assert Access(AccessOptions()).is_open


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}
UNSAFE_CALLS = {"eval", "exec", "__import__", "compile"}


def _nodes_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield node
            yield from _nodes_at_run_time(node)


def _modules_of_serving() -> list[Path]:
    """Our own modules that a predictor can reach, inside functions too."""
    waiting, seen = sorted((ROOT / "slipway" / "serving").rglob("*.py")), set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for node in _nodes_at_run_time(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.startswith("slipway"):
                    base = ROOT / Path(*name.split("."))
                    waiting += [base.with_suffix(".py"), base / "__init__.py"]
    return sorted(seen)


@pytest.mark.parametrize("path", _modules_of_serving(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_serves_can_run_code_from_a_file(path):
    tree = ast.parse(path.read_text())
    for node in _nodes_at_run_time(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & UNSAFE_MODULES
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNSAFE_MODULES
        elif isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS)
            assert "allow_pickle" not in {word.arg for word in node.keywords}
            if isinstance(node.func, ast.Attribute) and ast.unparse(node.func) in ("np.load", "numpy.load", "yaml.load"):
                pytest.fail(f"{ast.unparse(node)} reads objects")


def test_the_running_predictor_has_loaded_no_torch_and_no_pickle_of_its_own(image_bundle):
    code = (
        "import sys; from pathlib import Path\n"
        "from slipway.serving.inference.model import load_model\n"
        "import slipway.serving.process.server\n"
        "load_model(Path(sys.argv[1]), name='m', version='1')\n"
        "print([name for name in ('torch', 'joblib', 'dill', 'cloudpickle', 'kfp', 'mlflow', 'pyarrow') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(image_bundle.root)], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.strip() == "[]"
