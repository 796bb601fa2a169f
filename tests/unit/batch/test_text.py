import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.batch import text
from slipway.batch.csv_rows import read_regular, read_row
from slipway.batch.text import cut_text, read_header, read_text
from slipway.errors import BatchError

CELLS = st.text(st.sampled_from('ab,"\n\r é'), max_size=5)
HEADER = ["first", "second"]


def to_blocks(content: bytes, block_bytes: int = 7) -> list[bytes]:
    return [content[start : start + block_bytes] for start in range(0, len(content), block_bytes)]


@given(st.lists(st.tuples(CELLS, CELLS), max_size=12), st.integers(1, 5), st.integers(1, 5), st.booleans(), st.booleans())
def test_the_pieces_of_a_csv_file_hold_its_rows_in_order_wherever_line_breaks_and_quotes_stand(
    rows, num_rows, chunk_rows, ends_with_a_line_break, has_blank_lines
):
    target = io.StringIO(newline="")
    writer = csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\n\n\r\n" if has_blank_lines else "\n")
    writer.writerows([HEADER, *rows])
    content = target.getvalue().encode()
    if not ends_with_a_line_break:
        content = content.rstrip(b"\r\n")
    assert read_header("cut.csv", to_blocks(content)).strip() == b'"first","second"'
    cuts = cut_text("cut.csv", to_blocks(content), num_rows, has_header=True, has_quotes=True)
    assert [cut[0] for cut in cuts] == list(range(0, len(rows), num_rows))
    found = []
    for _, expected, start, end in cuts:
        chunks = list(read_text("cut.csv", to_blocks(content[start:end]), chunk_rows, has_quotes=True))
        assert all(len(chunk) <= chunk_rows for chunk in chunks)
        piece = [next(csv.reader([row.decode()])) for chunk in chunks for row in chunk]
        assert len(piece) == expected
        found += [tuple(row) for row in piece]
    assert found == rows


@given(st.lists(st.text(st.sampled_from('a1,"\n\r é\x00'), max_size=12).map(str.encode), max_size=8))
def test_rows_that_are_read_at_once_are_what_each_of_them_is_alone(lines):
    content = b"\n".join(lines)
    for rows in read_text("rows.csv", to_blocks(content), 100, has_quotes=True):
        columns = read_regular(rows, HEADER, HEADER)
        alone = [read_row(row, HEADER) for row in rows]
        if columns is not None:
            cells = zip(*(columns[name].to_pylist() for name in HEADER), strict=True)
            assert [dict(zip(HEADER, row, strict=True)) for row in cells] == alone


def test_ordinary_rows_are_read_at_once():
    rows = [b'1,"a ""b"", c"\r\n', b'" 2 ",\n', b'"x\ny",NA\n', b"3,d"]
    found = read_regular(rows, HEADER, HEADER)
    assert found is not None
    assert found["first"].to_pylist() == ["1", "2", "x\ny", "3"]
    assert found["second"].to_pylist() == ['a "b", c', None, None, "d"]


def test_a_large_file_is_read_in_blocks():
    content = b"".join(b'{"a": %d}\n' % number for number in range(50_000))
    cuts = np.array(cut_text("rows.jsonl", to_blocks(content, 1 << 16), 7_000, has_header=False, has_quotes=False))
    assert cuts[:, 1].sum() == 50_000
    assert (cuts[1:, 2] == cuts[:-1, 3]).all()
    assert cuts[-1, 3] == len(content)


def test_a_quote_that_is_never_closed_does_not_take_a_whole_file_for_one_row(monkeypatch):
    monkeypatch.setattr(text, "_MAX_ROW_BYTES", 1000)
    content = b'a,b\n1,"2\n' + b"3,4\n" * 1000
    with pytest.raises(BatchError, match=r"cut\.csv has a row of more than .* a quote that is not closed"):
        cut_text("cut.csv", to_blocks(content), 10, has_header=True, has_quotes=True)
