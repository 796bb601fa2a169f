import json
import threading

import orjson
import pytest

from slipway.errors import RequestError
from slipway.serving.inference.collecting import without_collecting
from slipway.serving.wire.json_body import find_repeated_key, parse_object, reading

MOST = 262_144
MOST_LISTS = 4_194_304


@pytest.mark.parametrize("piece", [b'{"":0}', b"{}", b'{ \n"":0}', b'{"":{ }}'])
def test_a_body_of_too_many_objects_is_refused_before_it_is_parsed(piece):
    num_pieces = MOST // piece.count(b"{")
    body = b'{"instances":[' + piece + (b"," + piece) * num_pieces
    with pytest.raises(RequestError, match="JSON objects; accepted: at most 262144 in at most 65536 samples"):
        parse_object(body, "x")  # whose end is missing


def test_the_most_rows_and_texts_full_of_braces_are_parsed():
    rows = b",".join([b'{"text":"{{{a: {}, {b}, {c}, {{\\"d\\": 1}"}'] * 65_536)
    assert len(parse_object(b'{"instances":[' + rows + b"]}", "x")["instances"]) == 65_536


@pytest.mark.parametrize("piece", [b"[]", b"[ \n]", b"[0]", b"[" * 900 + b"]" * 900])
def test_a_body_of_too_many_lists_is_refused_before_it_is_parsed(piece):
    num_pieces = MOST_LISTS // piece.count(b"[") + 1
    body = b'{"instances":' + (piece + b",") * num_pieces  # whose end is missing
    with pytest.raises(RequestError, match=r"JSON lists; accepted: at most 4194304\. Send fewer samples"):
        parse_object(body, "x")


def test_as_many_pixels_of_three_channels_as_32_mib_hold_are_parsed():
    image = b"[" + b",".join([b"[0,0,0]"] * 4_096) + b"]"
    body = b'{"instances":[' + b",".join([image] * 1_023) + b"]}"
    assert len(body) > 0.99 * 2**25
    with without_collecting():
        assert len(parse_object(body, "x")["instances"]) == 1_023


def test_brackets_within_strings_are_no_lists():
    text = b'{"' + b"[" * MOST_LISTS + b'\\"[' + b"\\" * 4 + b'": [["\\\\", "[[[", {"\\"": "["}]]}'
    assert parse_object(text, "x") == {"[" * MOST_LISTS + '"[' + "\\" * 2: [["\\", "[[[", {'"': "["}]]}


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        (b'{"a": 1, "b": {"a": "a", "c": ["a", {"d": 1}]}}', None),
        (b'{"a": 1, "\\u0061": 1}', "a"),
        (b'{"a": "\\"", "b": "\\""}', None),
        (b'{"a": "\\"", "b": "\\"", "a": 0}', "a"),
        (b'{"a": [1, "x", {"b": 1, "b": 2}]}', "b"),
        (b'{"a": [[], {"b": 1, "b": 2}]}', "b"),
        (b'{"a": [["b"]' + b', ["c"]' * 2000 + b', {"d": 1, "d": 1}]}', "d"),
        (b'{"a": [1, {"b": 1, "c": 1, "c": 1, "c": 2}, {"d": 1, "d": 1}]}', "c"),
        (b'{"a": [[[[1]]], "x", [["y", {"": {}}]]]}', None),
        (b'{"a": ' + b"[" * 900 + b'"x"' + b"]" * 900 + b"}", None),
    ],
)
def test_a_key_that_stands_twice_is_found_wherever_it_is(text, repeated):
    assert find_repeated_key(text, orjson.loads(text)) == (repeated and f"the key {repeated!r}")


def test_a_key_that_stands_twice_in_a_large_body_is_found_without_parsing_it_again(monkeypatch):
    monkeypatch.setattr(json, "loads", None)
    body = b'{"a": {' + b",".join(b'"%d": "\\""' % number for number in range(400_000)) + b', "0": 1}}'
    with pytest.raises(RequestError, match="holds a key twice in one object; accepted: once"):
        parse_object(body, "x")


def test_a_body_nested_hundreds_of_levels_deep_with_very_many_strings_is_refused():
    body = b'{"a": [' + b'"b", ' * 2000 + b"[" * 500 + b"]" * 500 + b"]}"
    with pytest.raises(RecursionError):
        parse_object(body, "x")


@pytest.mark.parametrize(
    "text",
    [
        rb'{"a": "\"", "b": [1.5]}',
        rb'{"\\": "a\\\"", "b": {"\"": "\\"}}',
        b'{"a": [1, "b", "c"]}',
        b'{"a": ["b"' + b', "c"' * 2000 + b"]}",
        b'{"a": [["b"]' + b', ["c"]' * 2000 + b', {"d": "\\u0022"}]}',
        b'{"a": [[]' + b", []" * 2000 + b', "b"]}',
        b'{"a": ' + b"[" * 250 + b'"x"' + b"]" * 250 + b"}",
    ],
)
def test_no_strings_in_a_body_have_it_parsed_again(text, monkeypatch):
    monkeypatch.setattr(json, "loads", None)
    assert find_repeated_key(text, orjson.loads(text)) is None


@pytest.mark.parametrize("piece", [b"[]", b"{}", b"0", b"[" * 8 + b"]" * 8])
def test_a_body_of_very_many_values_waits_for_the_one_before_it_and_no_other_does(piece):
    large = b"[" + b",".join([piece] * 270_000) + b"]"
    began, done = threading.Event(), threading.Event()

    def read() -> None:
        began.set()
        with reading(large):
            done.set()

    thread = threading.Thread(target=read)
    with reading(large):
        thread.start()
        assert began.wait(10)
        assert not done.wait(0.05)
        for small in (large[:1000], b'{"b64":"' + b"a" * 2_000_000 + b'"}', memoryview(large)[:1000]):
            with reading(small):
                pass
    thread.join(10)
    assert done.is_set()
