"""The server of gRPC: its port, its end, and whom it lets in."""

import socket
import ssl
import time

import grpc
import pytest

from slipway.serving.grpc.messages import HealthCheckResponse, ModelInferResponse, ModelReadyRequest, ServerReadyResponse
from tests.servers.certificates import issue_certificate
from tests.serving.grpc_calls import WAIT_SECONDS, call, image_request, refusal

TOKEN = "a-token-of-more-than-16-characters"


def test_only_who_has_the_token_may_ask_but_everybody_may_probe(start, image_bundle, monkeypatch, example):
    monkeypatch.setenv("SLIPWAY_SERVING_TOKEN", TOKEN)
    guarded = start(image_bundle.root, "--grpc-port", "0")
    with grpc.insecure_channel(f"127.0.0.1:{guarded.grpc_port}") as channel:
        request = image_request(example[0])
        assert refusal(channel, "ModelInfer", request)[0] == grpc.StatusCode.UNAUTHENTICATED
        wrong = (("authorization", f"Bearer {TOKEN}s"),)
        assert refusal(channel, "ModelMetadata", metadata=wrong)[0] == grpc.StatusCode.UNAUTHENTICATED
        right = (("authorization", f"Bearer {TOKEN}"),)
        assert call(channel, "ModelInfer", request, ModelInferResponse, metadata=right).model_name == "model"
        assert call(channel, "ServerReady", answer_type=ServerReadyResponse).ready
        code, sentence = refusal(channel, "ModelReady", ModelReadyRequest(name="other"))
        assert code == grpc.StatusCode.NOT_FOUND
        assert sentence.startswith("Model 'other' is not served here; ")
        assert "model" not in sentence
        assert call(channel, "/grpc.health.v1.Health/Check", b"", HealthCheckResponse).status == 1


def test_a_draining_server_is_not_ready_answers_on_and_ends_in_time(start, image_bundle, example):
    draining = start(image_bundle.root, "--grpc-port", "0", "--drain-seconds", "1.5")
    with grpc.insecure_channel(f"127.0.0.1:{draining.grpc_port}") as channel:
        assert call(channel, "ServerReady", answer_type=ServerReadyResponse).ready
        draining.terminate()
        deadline = time.monotonic() + WAIT_SECONDS
        while call(channel, "ServerReady", answer_type=ServerReadyResponse).ready:
            assert time.monotonic() < deadline
        assert call(channel, "/grpc.health.v1.Health/Check", b"", HealthCheckResponse).status == 2
        assert call(channel, "ModelInfer", image_request(example[0]), ModelInferResponse).model_name == "model"
        assert draining.wait() == 0
        assert refusal(channel, "ServerReady")[0] == grpc.StatusCode.UNAVAILABLE
    assert "error" not in draining.log


def test_a_taken_port_is_said_at_the_start(start, image_bundle, grpc_predictor):
    with pytest.raises(AssertionError, match=r"for gRPC. Choose another --grpc-port"):
        start(image_bundle.root, "--grpc-port", str(grpc_predictor.grpc_port))


def test_over_tls_the_client_must_show_a_certificate_where_an_authority_is_named(start, image_bundle, example, tmp_path):
    server = issue_certificate("127.0.0.1")
    server.write(tmp_path / "tls.crt", tmp_path / "tls.key")
    (tmp_path / "ca.crt").write_bytes(server.authority)
    files = ("--tls-certificate", str(tmp_path / "tls.crt"), "--tls-key", str(tmp_path / "tls.key"))
    request = image_request(example[0])
    for arguments, needs_certificate in ((files, False), ((*files, "--tls-client-ca", str(tmp_path / "ca.crt")), True)):
        address = f"127.0.0.1:{start(image_bundle.root, '--grpc-port', '0', *arguments).grpc_port}"
        shown = grpc.ssl_channel_credentials(server.authority, server.private_key, server.certificate)
        with grpc.secure_channel(address, shown) as channel:
            assert call(channel, "ModelInfer", request, ModelInferResponse).model_name == "model"
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(server.authority)) as channel:
            if needs_certificate:
                assert refusal(channel, "ModelInfer", request)[0] == grpc.StatusCode.UNAVAILABLE
            else:
                assert call(channel, "ModelInfer", request, ModelInferResponse).model_name == "model"
        with grpc.insecure_channel(address) as channel:
            assert refusal(channel, "ModelInfer", request)[0] == grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_shown_to_the_next_client(start, image_bundle, tmp_path):
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    issue_certificate("127.0.0.1").write(certificate, key)
    predictor = start(image_bundle.root, "--grpc-port", "0", "--tls-certificate", str(certificate), "--tls-key", str(key))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])

    def read_certificate() -> str:
        with (
            socket.create_connection(("127.0.0.1", predictor.grpc_port), timeout=WAIT_SECONDS) as connection,
            context.wrap_socket(connection) as secure,
        ):
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True)).strip()

    assert read_certificate() == certificate.read_text().strip()
    issue_certificate("127.0.0.1").write(certificate, key)
    deadline = time.monotonic() + WAIT_SECONDS
    while read_certificate() != certificate.read_text().strip():
        assert time.monotonic() < deadline, "the old one is still shown"
        time.sleep(0.05)
