import csv
import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slipway.batch.text import cut_text, read_header, read_range

CELLS = st.text(st.sampled_from('ab,"\n\r é'), max_size=5)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=12), st.integers(1, 5), st.booleans())
def test_the_pieces_of_a_csv_file_hold_its_rows_in_order_wherever_line_breaks_and_quotes_stand(
    tmp_path_factory, rows, num_rows, ends_with_a_line_break
):
    target = io.StringIO(newline="")
    writer = csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("first", "second"), *rows])
    path = tmp_path_factory.getbasetemp() / "cut.csv"
    content = target.getvalue().encode()
    path.write_bytes(content if ends_with_a_line_break else content[:-1])
    assert read_header(path).strip() == b'"first","second"'
    cuts = cut_text(path, num_rows, has_header=True, has_quotes=True, block_bytes=7)
    assert [cut[0] for cut in cuts] == list(range(0, len(rows), num_rows))
    found = []
    for _, expected, start, end in cuts:
        piece = list(csv.reader(io.StringIO(read_range(path, start, end).decode(), newline="")))
        assert len(piece) == expected
        found += [tuple(row) for row in piece]
    assert found == rows


def test_a_large_file_is_read_in_blocks(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(b'{"a": %d}\n' % number for number in range(50_000)))
    cuts = np.array(cut_text(path, 7_000, has_header=False, has_quotes=False, block_bytes=1 << 16))
    assert cuts[:, 1].sum() == 50_000
    assert (cuts[1:, 2] == cuts[:-1, 3]).all()
    assert cuts[-1, 3] == path.stat().st_size
