import csv
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
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


def split_rows(content: bytes, block_bytes: int, num_rows: int) -> list[bytes]:
    found = []
    for _, expected, start, end in cut_text(
        "cut.csv", to_blocks(content, block_bytes), num_rows, has_header=True, has_quotes=True
    ):
        pieces = read_text("cut.csv", to_blocks(content[start:end], block_bytes), 3, has_quotes=True)
        rows = [row for chunk in pieces for row in chunk]
        assert len(rows) == expected
        found += rows
    return found


def read_records(content: str) -> list[list[str]]:
    return [cells for cells in csv.reader(io.StringIO(content, newline="")) if cells]


@given(
    st.lists(st.sampled_from(["a", ",", '"', '"', '""', '5" pipe', ',"', '",', "\n", "\r\n", "\r", " "]), max_size=30).map(
        "".join
    ),
    st.integers(1, 9),
    st.integers(1, 3),
)
@example('1,5" pipe\n2,6" pipe\n3,x\n', 4, 2)
@example('"a"b"\nc"d\n"""\n""\n"\na"\n', 1, 1)
def test_rows_are_those_of_csv_reader_wherever_a_quote_stands_and_a_block_ends(content, block_bytes, num_rows):
    rows = [row.decode() for row in split_rows(f"a,b\n{content}".encode(), block_bytes, num_rows)]
    expected = read_records(content)
    assert [cells for row in rows for cells in read_records(row)] == expected
    if "\r" not in content.replace("\r\n", ""):
        assert len(rows) == len(expected)


@given(st.text(st.sampled_from('a,"'), min_size=1, max_size=12))
def test_a_row_has_the_cells_of_csv_reader_unless_its_last_quote_is_not_closed(content):
    cells = next(csv.reader([content]))
    found = read_row(f"{content}\n".encode(), [str(place) for place in range(len(cells))])
    if len(read_records(f'{content}\n"')) == 1:
        assert found == "it cannot be told from the rows after it; a quote is not closed"
    else:
        assert [text or "" for text in found.values()] == cells


@settings(deadline=None)  # The first time pyarrow is loaded.
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
    monkeypatch.setattr(text, "MAX_ROW_BYTES", 1000)
    content = b'a,b\n1,"2\n' + b"3,4\n" * 1000
    with pytest.raises(BatchError, match=r"cut\.csv has a row of more than .* a quote that is not closed"):
        cut_text("cut.csv", to_blocks(content), 10, has_header=True, has_quotes=True)
