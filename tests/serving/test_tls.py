"""TLS: whom client and server take each other for, and certificates that are renewed."""

import asyncio
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from slipway.serving.process.options import AccessOptions
from slipway.serving.process.tls import ServerTls
from tests.servers.certificates import Authority
from tests.serving.conftest import StartPredictor
from tests.serving.predictor import PROBES, Predictor


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
