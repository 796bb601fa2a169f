import threading

import pytest

from slipway.errors import RequestError
from slipway.serving.wire.json_body import parse_object, reading

MOST = 262_144


@pytest.mark.parametrize("piece", [b'{"":0}', b"{}", b'{ \n"":0}', b'{"":{ }}'])
def test_a_body_of_too_many_objects_is_refused_before_it_is_parsed(piece):
    num_pieces = MOST // piece.count(b"{")
    body = b'{"instances":[' + piece + (b"," + piece) * num_pieces
    with pytest.raises(RequestError, match="JSON objects; accepted: at most 262144 in at most 65536 samples"):
        parse_object(body, "x")  # whose end is missing


def test_the_most_rows_and_texts_full_of_braces_are_parsed():
    rows = b",".join([b'{"text":"{{{a: {}, {b}, {c}, {{\\"d\\": 1}"}'.replace(b"{}", b"{ e")] * 65_536)
    assert len(parse_object(b'{"instances":[' + rows + b"]}", "x")["instances"]) == 65_536


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
