"""What is wrong with a request is said in a sentence, with the status that is meant for it; the process is none the worse."""

import base64
import gzip
import io
import json
import socket
import struct
import time
import zlib
from dataclasses import replace
from itertools import product

import httpx
import pytest
from PIL import Image

from slipway.export.bundle import ColumnInfo, read_bundle, write_bundle
from slipway.serving.wire.v2 import write_request
from tests.bundles import write_table_bundle

INFER, PREDICT = "/v2/models/model/infer", "/v1/models/model:predict"
MIB = 2**20


@pytest.fixture(scope="module")
def client(predictor):
    with httpx.Client(base_url=predictor.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def table(start_for_module, tmp_path_factory):
    root = tmp_path_factory.mktemp("table") / "bundle"
    write_table_bundle(root)
    running = start_for_module(read_bundle(root).root, "--unknown-columns", "ignore")
    with httpx.Client(base_url=running.url) as client:
        yield client


def make_png_bomb(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel whose rows are all black: a thousandth of what it decodes to, and less."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png(width: int = 4, height: int = 3) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 0, 0)).save(stream, format="PNG")
    return stream.getvalue()


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()["error"]


def test_an_image_of_gigapixels_is_refused_before_it_is_decoded(client, predictor):
    gigapixels, bomb = make_png_bomb(20_000, 20_000), make_png_bomb(10_000, 8_000)
    assert len(gigapixels) < 60_000
    before = predictor.memory_bytes
    for path in (INFER, PREDICT):
        told = refused(client.post(path, content=bomb, headers={"content-type": "image/png"}), 400)
        assert "10000 x 8000 pixels; accepted: at most 40000000" in told
        told = refused(client.post(path, content=gigapixels, headers={"content-type": "image/png"}), 400)
        assert "20000 x 20000 pixels; accepted: at most 40000000" in told
    told = refused(client.post(PREDICT, json={"instances": [{"b64": base64.b64encode(bomb).decode()}]}), 400)
    assert "instances[0] cannot be read: it has 10000 x 8000 pixels" in told
    assert "image 2 of the form (b.png) cannot be read" in refused(
        client.post(INFER, files=[("f", ("a.png", png())), ("f", ("b.png", bomb))]), 400
    )
    assert predictor.memory_bytes - before < 64 * MIB


def test_a_body_that_unpacks_to_too_much_is_refused_without_unpacking_it(client, predictor):
    bomb = gzip.compress(b" " * (512 * MIB))
    before = predictor.memory_bytes
    told = refused(client.post(INFER, content=bomb, headers={"content-encoding": "gzip"}), 413)
    assert "at most 33554432 bytes, also when unpacked" in told
    assert predictor.memory_bytes - before < 128 * MIB


@pytest.mark.parametrize("piece", [b"[]", b"[" * 900 + b"]" * 900], ids=["short", "deep"])
def test_a_body_of_millions_of_lists_is_refused_before_they_take_memory(start, image_bundle, piece):
    running = start(image_bundle.root)
    body = b'{"instances":[' + b",".join([piece] * (32 * MIB // (len(piece) + 1) - 20)) + b"]}"
    before = running.memory_bytes
    for path, headers, content in ((PREDICT, {}, body), (INFER, {"content-encoding": "gzip"}, gzip.compress(body, 1))):
        told = refused(httpx.post(f"{running.url}{path}", content=content, headers=headers, timeout=60), 400)
        assert "JSON lists; accepted: at most 4194304. Send fewer samples in a request" in told
    assert running.peak_memory_bytes - before < 320 * MIB  # it was 1.5 GiB


@pytest.mark.parametrize(
    ("headers", "body", "status", "told"),
    [
        ({"content-encoding": "gzip"}, b"{}", 400, "not gzip, as Content-Encoding says"),
        ({"content-encoding": "gzip"}, gzip.compress(b"{}" * 50)[:-12], 400, "gzip that breaks off"),
        ({"content-encoding": "gzip"}, gzip.compress(b"{}") * 2, 400, "goes on after its end"),
        ({"content-encoding": "br"}, b"{}", 415, "Content-Encoding is 'br'; accepted: gzip, or none"),
        ({"content-type": "application/xml"}, b"<a/>", 415, "Content-Type is 'application/xml'; accepted: application/json"),
        ({"content-type": "image/gif"}, b"GIF89a", 415, "accepted: application/json, image/jpeg"),
        ({"content-type": "image/jpg"}, b"", 415, "multipart/form-data, application/octet-stream (is 'image/jpeg' meant?)"),
        ({"content-type": "application/octet-stream"}, b"abc", 415, "Inference-Header-Content-Length"),
        ({"inference-header-content-length": "-1"}, b"{}", 400, "is '-1'; accepted: a number of bytes"),
        ({"inference-header-content-length": "9" * 30}, b"{}", 400, "accepted: a number of bytes"),
        ({"inference-header-content-length": "2e1"}, b"{}", 400, "accepted: a number of bytes"),
        ({"inference-header-content-length": "900"}, b"{}", 400, "is 900 and the body has 2 bytes"),
        ({"inference-header-content-length": "0"}, b"{}", 400, "is 0 and the body has 2 bytes"),
        ({"x-timeout-seconds": "soon"}, b"{}", 400, "x-timeout-seconds is 'soon'; accepted: a number of seconds"),
        ({"x-timeout-seconds": "1_0"}, b"{}", 400, "x-timeout-seconds is '1_0'; accepted: a number of seconds"),
        ({"content-type": "application/x+json", "inference-header-content-length": "9"}, b"{}", 400, "is 9 and the body has 2"),
        ({"content-type": "application/x-www-form-urlencoded"}, png(), 400, "image file, and Content-Type is 'application/x-www"),
        ({}, png(), 400, "The body is an image file, and Content-Type is missing; accepted for one: image/jpeg, image/png"),
        ({"content-type": "multipart/form-data"}, b"--x", 400, "names no boundary"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\n", 400, "form breaks off"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x--\r\n", 400, "form holds no file|not multipart"),
        ({}, b'{"inputs": ' + b"[" * 5000, 400, "not JSON"),
        ({}, b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}", 400, "inputs is null"),
        ({}, b'{"inputs": [], "inputs": []}', 400, "holds the key 'inputs' twice"),
        ({}, b'{"inputs": "\xff"}', 400, "not JSON"),
        ({}, b'{"inputs": [NaN]}', 400, "JSON has neither NaN nor Infinity"),
        ({}, b"", 400, "not JSON"),
    ],
)
def test_what_is_wrong_is_said(client, headers, body, status, told):
    error = refused(client.post(INFER, content=body, headers=headers), status)
    assert any(part in error for part in told.split("|")), error


@pytest.mark.parametrize("depth", [960, 990, 1010, 1020])
def test_nesting_as_deep_as_the_parser_lets_through_is_refused(client, table, depth):
    for leaf in (b"1", b'"a"', b'{"a": "\\""}'):
        nested = b"[" * depth + leaf + b"]" * depth
        for asked in (client, table):
            for path, field in ((INFER, b"inputs"), (PREDICT, b"instances"), (PREDICT, b"inputs")):
                assert refused(asked.post(path, content=b'{"' + field + b'": ' + nested + b"}"), 400)


def test_strings_where_numbers_belong_take_the_room_that_they_have(client, table, predictor):
    long, short = "a" * 2_000_000, "b"
    before = predictor.memory_bytes
    pixels = {"instances": [[[long, short, short]], *[[[short] * 3]] * 300]}
    assert "not an integer from 0 to 255" in refused(client.post(PREDICT, json=pixels), 400)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 100, 1, 3], "data": [long, *[short] * 299]}
    assert "not an integer from 0 to 255" in refused(client.post(INFER, json={"inputs": [tensor]}), 400)
    assert predictor.peak_memory_bytes - before < 256 * MIB
    rows = {"instances": [{"age": long}, *[{"age": short}] * 300]}
    assert "instances[0].age is 'aaaa" in refused(table.post(PREDICT, json=rows), 400)


def test_a_key_that_stands_twice_among_very_many_is_found(client):
    keys = ", ".join(f'"k{number}": 0' for number in range(200_000))
    told = refused(client.post(PREDICT, content=f'{{{keys}, "k199999": 1}}'.encode()), 400)
    assert "holds the key 'k199999' twice" in told


def test_one_request_may_hold_more_images_of_different_sizes_than_may_wait(start, image_bundle):
    running = start(image_bundle.root, "--max-queue-samples", "4")
    images = [[[[level % 256, 0, 0]] * width] * height for level, (height, width) in enumerate(product(range(1, 6), repeat=2))]
    answer = httpx.post(f"{running.url}{PREDICT}", json={"instances": images}, timeout=30)
    assert answer.status_code == 200, answer.text
    alone = httpx.post(f"{running.url}{PREDICT}", json={"instances": images[-1:]}).json()["predictions"]
    assert (len(answer.json()["predictions"]), answer.json()["predictions"][-1:]) == (25, alone)


def test_a_body_of_an_unknown_type_is_told_all_that_are_accepted(client):
    answer = client.post(INFER, content=b"x", headers={"content-type": "image/jpg"})
    accepted = "application/json, image/jpeg, image/png, image/webp, multipart/form-data, application/octet-stream"
    assert f"accepted: {accepted} (is" in refused(answer, 415)
    assert answer.headers["accept"] == accepted


def test_a_form_that_is_no_form_leaves_no_line_in_the_log(client, predictor):
    told = refused(client.post(PREDICT, content=b"--y", headers={"content-type": "multipart/form-data; boundary=x"}), 400)
    assert "not multipart/form-data" in told
    assert "boundary" not in predictor.log


def test_a_header_that_says_two_things_is_refused(client):
    headers = [("content-type", "image/png"), ("content-type", "application/json")]
    assert "content-type stands twice" in refused(client.post(INFER, content=b"{}", headers=headers), 400)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", INFER, "POST, OPTIONS"),
        ("PUT", PREDICT, "POST, OPTIONS"),
        ("POST", "/v2/health/live", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v2/models/model", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(client, method, path, allowed):
    answer = client.request(method, path)
    assert f"accepted: {allowed}" in refused(answer, 405)
    assert answer.headers["allow"] == allowed
    asked = client.options(path)
    assert (asked.status_code, asked.headers["allow"], asked.content) == (204, allowed, b"")


@pytest.mark.parametrize(
    "path", ["/nope", "/v2/models/", "/v2/models/model/infer/x", "/v2/models/model/versions", "/v1/models/model:explain"]
)
def test_a_wrong_path_is_said(client, path):
    answer = client.get(path)
    assert answer.status_code == (200 if path == "/v2/models/" else 404)


def test_head_is_get_without_the_body(client):
    for path in ("/v2", "/v2/models/model", "/openapi.json"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(get.content)))


def test_the_request_id_and_the_version_come_back(client, image_bundle):
    body = write_request(image_bundle.golden[0].inputs, image_bundle.info.signature)
    answer = client.post(INFER, content=body, headers={"x-request-id": "mine"})
    assert (answer.headers["x-request-id"], answer.json()["id"], answer.headers["x-model-version"]) == ("mine", "mine", "1")
    with_id = json.dumps({**json.loads(body), "id": "body's"}).encode()
    answer = client.post(INFER, content=with_id, headers={"x-request-id": "head's"})
    assert (answer.headers["x-request-id"], answer.json()["id"]) == ("body's", "body's")
    answer = client.post(INFER, content=json.dumps({**json.loads(body), "id": "two\r\nlines"}).encode())
    assert (len(answer.headers["x-request-id"]), answer.json()["id"]) == (16, "two\r\nlines")
    ids = {client.post(INFER, content=body).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
    assert "id" not in client.post(INFER, content=body).json()
    assert client.post(INFER, content=b"{}", headers={"x-request-id": "bad"}).headers["x-request-id"] == "bad"


def test_the_bodys_id_stands_in_refusals_too(client, image_bundle):
    body = json.loads(write_request(image_bundle.golden[0].inputs, image_bundle.info.signature))
    for content, status in (({**body, "parameters": {"timeout": 1}}, 504), ({"inputs": []}, 400)):
        answer = client.post(INFER, json={"id": "body's", **content}, headers={"x-request-id": "head's"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "body's")


def test_an_output_may_be_asked_for_once(client, image_bundle):
    body = json.loads(write_request(image_bundle.golden[0].inputs, image_bundle.info.signature))
    told = refused(client.post(INFER, json={**body, "outputs": [{"name": "probabilities"}] * 2}), 400)
    assert told == "outputs[1].name is 'probabilities', which stands twice; accepted: once."


def test_a_deadline_that_is_over_is_answered_so(client, image_bundle):
    body = write_request(image_bundle.golden[0].inputs, image_bundle.info.signature)
    assert "deadline" in refused(client.post(INFER, content=body, headers={"x-timeout-seconds": "1e-9"}), 504)
    assert client.post(INFER, content=body, headers={"x-timeout-seconds": "30"}).status_code == 200
    in_body = {"parameters": {"timeout": 1}, **json.loads(body)}
    assert "deadline" in refused(client.post(INFER, json=in_body), 504)
    assert "deadline" in refused(client.post(INFER, json=in_body, headers={"x-timeout-seconds": "30"}), 504)  # the shorter counts
    in_body["parameters"]["timeout"] = 30_000_000
    assert client.post(INFER, json=in_body).status_code == 200
    assert "deadline" in refused(client.post(INFER, json=in_body, headers={"x-timeout-seconds": "1e-9"}), 504)


def test_images_come_raw_as_a_form_and_packed_and_are_all_answered_alike(client):
    direct = client.post(PREDICT, content=png(), headers={"content-type": "image/png"}).json()["predictions"][0]
    unnamed = client.post(PREDICT, content=png(), headers={"content-type": "application/octet-stream"}).json()["predictions"][0]
    form = client.post(PREDICT, files=[("f", ("a.png", png())), ("f", ("b.png", png(9, 9))), ("f", ("c.png", png()))]).json()
    encoded = {"instances": [{"b64": base64.b64encode(png()).decode()}]}
    packed = client.post(PREDICT, content=gzip.compress(json.dumps(encoded).encode()), headers={"content-encoding": "gzip"})
    assert direct == unnamed == form["predictions"][0] == form["predictions"][2] == packed.json()["predictions"][0]
    assert direct["label"] == "red"
    assert len(form["predictions"]) == 3
    tensors = client.post(f"{INFER}?top_k=1", files=[("f", ("a.png", png()))]).json()["outputs"][0]
    assert (tensors["shape"], tensors["data"][0].split(":")[2]) == ([1, 1], "red")
    assert "'first' is no file" in refused(client.post(PREDICT, data={"first": "1"}, files={"f": png()}), 400)
    assert "'k' is not known in the query; accepted: top_k" in refused(client.post(f"{PREDICT}?k=1", content=png()), 400)


def test_an_unknown_column_is_passed_over_where_the_option_says_so(table):
    rows = {"instances": [{"age": 20, "city": "Oslo", "color": "red"}]}
    assert table.post(PREDICT, json=rows).json()["predictions"][0]["label"] == "yes"
    assert "does not take one image but age, city" in refused(
        table.post(PREDICT, content=png(), headers={"content-type": "image/png"}), 400
    )


def test_the_root_tells_a_probe_that_it_lives_and_shows_a_person_the_page(client):
    assert client.get("/").json() == {"status": "alive"}
    assert "<!doctype html>" in client.get("/", headers={"accept": "text/html,*/*"}).text
    for accept in ("text/html", "*/*"):
        assert "<!doctype html>" in client.get("/docs", headers={"accept": accept}).text


def test_without_docs_nothing_is_there_and_nothing_points_there(start, image_bundle):
    with httpx.Client(base_url=start(image_bundle.root, "--no-docs").url) as client:
        for path in ("/docs", "/openapi.json"):
            assert "openapi.json; accepted" not in (told := refused(client.get(path), 404))
            assert told.endswith("accepted: /v2/models and others.")
            assert client.options(path).status_code == 404
        assert client.get("/", headers={"accept": "text/html"}).json() == {"status": "alive"}


def test_the_openapi_documents_own_examples_are_answered(client, table):
    for asked in (client, table):
        document = asked.get("/openapi.json").json()
        assert document["openapi"] == "3.1.0"
        tried = 0
        for path, methods in document["paths"].items():
            example = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            if example is not None:
                assert asked.post(path, json=example).status_code == 200
                tried += 1
            elif "get" in methods:
                assert asked.get(path).status_code == 200
        assert tried == 3


def test_what_a_huge_image_took_is_given_back(start, image_bundle):
    running = start(image_bundle.root)
    huge, small = png(6_000, 6_000), png()
    with httpx.Client(base_url=running.url, timeout=60, headers={"content-type": "image/png"}) as client:
        assert client.post(PREDICT, content=small).status_code == 200
        before = running.memory_bytes
        for _ in range(6):
            assert client.post(PREDICT, content=huge).status_code == 200
        assert client.post(PREDICT, content=small).status_code == 200
        deadline = time.monotonic() + 20
        while running.memory_bytes - before > 320 * MIB and time.monotonic() < deadline:
            time.sleep(0.1)
        assert running.memory_bytes - before < 320 * MIB


def test_a_client_that_leaves_before_its_answer_is_counted_and_not_waited_for(start, image_bundle):
    running = start(image_bundle.root)
    body = make_png_bomb(6_000, 6_000)
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: a\r\ncontent-type: image/png\r\ncontent-length: {len(body)}\r\n\r\n"

    def wait_for(figure: str) -> str:
        deadline = time.monotonic() + 30
        while figure not in (figures := httpx.get(f"{running.url}/metrics").text):
            assert time.monotonic() < deadline, figures
        return figures

    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        wait_for("slipway_requests_in_flight 1.0")
    figures = wait_for('status="499"')
    assert 'slipway_requests_total{protocol="image",status="499"} 1.0' in figures
    assert "slipway_requests_in_flight 0.0" in figures
    assert httpx.post(f"{running.url}{PREDICT}", content=png(), headers={"content-type": "image/png"}).status_code == 200


def test_categories_are_not_refused_where_the_bundle_does_not_say_what_training_saw(start, tmp_path):
    write_table_bundle(tmp_path / "bundle")
    with pytest.raises(
        AssertionError, match=r"status 2.*\n.*--unknown-categories is 'refuse', but .* no columns; accepted: accept"
    ):
        start(tmp_path / "bundle", "--unknown-categories", "refuse")


def test_a_category_that_training_did_not_see_is_refused_in_every_form_where_the_option_says_so(start, tmp_path):
    write_table_bundle(tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    columns = (ColumnInfo(name="age", minimum=0, maximum=90), ColumnInfo(name="city", categories=("Oslo", "Rome")))
    write_bundle(bundle.root, replace(bundle.info, columns=columns), bundle.golden)
    running = start(bundle.root, "--unknown-categories", "refuse")
    tensors = [
        {"name": "age", "datatype": "FP32", "shape": [1], "data": [20]},
        {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Osla"]},
    ]
    with httpx.Client(base_url=running.url) as client:
        rows = {"instances": [{"city": "Oslo"}, {"city": "Osla"}, {"city": None}]}
        for answer in (client.post(PREDICT, json=rows), client.post(INFER, json={"inputs": tensors})):
            assert "The column city holds 'Osla', which training did not see; accepted: Oslo, Rome (is 'Oslo' meant?)" in refused(
                answer, 400
            )
        assert client.post(PREDICT, json={"instances": [{"city": "Rome"}, {"city": None}]}).status_code == 200
        schema = client.get("/openapi.json").json()["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"][
            "schema"
        ]
        row = schema["oneOf"][0]["properties"]["instances"]["items"]["properties"]
        assert (row["city"]["examples"], row["age"]["examples"]) == (["Oslo", "Rome"], [0, 90])
