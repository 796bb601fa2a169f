"""Versions that change all the time, and connections that come, misbehave and go: what the predictor holds stays as it was."""

import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from slipway.serving.record import write_pointer
from tests.bundles import served_record, write_image_bundle
from tests.serving.predictor import MODEL_NAME, Predictor, start_predictor
from tests.soak.growth import Growth, Holding

BODY = b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3]}]}'
INFER = b"POST /v2/models/model/infer HTTP/1.1\r\nHost: a\r\n"
WHOLE = INFER + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
STARTS = (
    b"",
    b"\r\n",
    b"GET /v2 HT",
    b"\x16\x03\x01",
    INFER,
    INFER + b"Content-Length: 999\r\n\r\n{",
    WHOLE,
    WHOLE * 3,
    WHOLE + b"nonsense",
)
NUM_STRANGERS = 4
LIMITS = ("--head-seconds", "0.5", "--body-seconds", "0.5", "--keep-alive-seconds", "1", "--max-connections", "64")
WARM_UP = 0.2
MAX_GROWTH = Growth(memory_mib=24.0, files=4, threads=1)


def test_reloads_and_strangers_leave_nothing_behind(tmp_path: Path, soak_seconds: float) -> None:
    records = []
    for version in ("1", "2"):
        write_image_bundle(tmp_path / version, seed=int(version))
        records.append(served_record(tmp_path / version, version, model_name=MODEL_NAME))
    pointer = tmp_path / "current.json"
    write_pointer(pointer, records[0])
    predictor = start_predictor(None, "--pointer", str(pointer), *LIMITS, folder=tmp_path)
    ended = threading.Event()
    holdings: list[Holding] = []
    try:
        with ThreadPoolExecutor(NUM_STRANGERS + 1) as pool:
            strangers = [pool.submit(be_strange, predictor, seed, ended) for seed in range(NUM_STRANGERS)]
            asking = pool.submit(ask_on, predictor, ended)
            begun, num_reloads = time.monotonic(), 0
            try:
                while (elapsed := time.monotonic() - begun) < soak_seconds and not asking.done():
                    num_reloads += 1
                    write_pointer(pointer, records[num_reloads % 2])
                    time.sleep(0.6)
                    if elapsed > WARM_UP * soak_seconds:
                        holdings.append(Holding.of(predictor.pid))
            finally:
                ended.set()
            num_strange = sum(one.result() for one in strangers)
            versions = asking.result()
        growth = Growth.over(holdings)
        print(f"\n{num_reloads} reloads, {num_strange} strange connections, {versions}; {holdings[-1]}; {growth}")
        assert set(versions) == {"1", "2"}
        assert "Traceback" not in predictor.log
        assert growth.beyond(MAX_GROWTH) == []
    finally:
        status = predictor.stop()
    assert status == 0


def ask_on(predictor: Predictor, ended: threading.Event) -> dict[str, int]:
    """Answers by version; a request that fails ends it. A connection that the server took back is opened again, as clients do."""
    versions: dict[str, int] = {}
    with httpx.Client(transport=httpx.HTTPTransport(retries=3), timeout=30) as client:
        while not ended.is_set():
            answer = client.post(predictor.infer_url, content=BODY, headers={"connection": "close"})
            assert answer.status_code == 200, answer.text
            version = answer.json()["model_version"]
            versions[version] = versions.get(version, 0) + 1
            assert client.get(f"{predictor.url}/v2/health/ready", headers={"connection": "close"}).status_code == 200
            time.sleep(0.02)
    return versions


def be_strange(predictor: Predictor, seed: int, ended: threading.Event) -> int:
    """Open connections, begin something on each, and leave it in one way or another; how many there were."""
    choose = random.Random(seed)
    held: list[socket.socket] = []
    number = 0
    while not ended.is_set():
        number += 1
        connection = socket.create_connection(("127.0.0.1", predictor.port), timeout=10)
        try:
            connection.sendall(choose.choice(STARTS))
            if choose.random() < 0.3:
                connection.shutdown(socket.SHUT_WR)
            if choose.random() < 0.3:
                connection.recv(100)
        except OSError:
            pass
        held.append(connection)
        while len(held) > choose.randrange(10):
            leaving = held.pop(choose.randrange(len(held)))
            if choose.random() < 0.5:  # a reset instead of a goodbye
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            leaving.close()
        time.sleep(0.005)
    for connection in held:
        connection.close()
    return number
