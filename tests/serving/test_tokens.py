"""Bearer tokens over HTTP: who is let in, what needs none, and how they are exchanged."""

import os
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from slipway.errors import ConfigError, RequestError
from slipway.serving.client import predict_image
from slipway.serving.process.access import Tokens
from slipway.serving.process.options import AccessOptions
from slipway.settings import child_environment
from tests.serving.conftest import StartPredictor
from tests.serving.predictor import PROBES, Predictor

FIRST, SECOND, THIRD = ("first-token-of-all", "second-token-of-all", "third-token-of-all")
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
