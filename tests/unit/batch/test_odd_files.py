"""Files that are not as one would like them: what they hold is answered, and what cannot be told is said."""

import io
import json
import threading
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from slipway.batch import inputs
from slipway.batch.images import Group, read_images
from slipway.errors import BatchError, RequestError
from slipway.storage.objects import ObjectStorage
from tests.batches import read_output, run
from tests.int8_bundle import draw_images, write_conv_bundle

MIB = 1 << 20


def answered_rows(output):
    answers = read_output(output)
    return list(zip(answers["row"].to_pylist(), answers["probability"].to_pylist(), strict=True))


def read_errors(output):
    manifest = json.loads((output / "manifest.json").read_text())
    lines = [
        line
        for one in manifest["shards"]
        if one["errors_file"]
        for line in (output / one["errors_file"]).read_text().splitlines()
    ]
    return {error["row"]: error["reason"] for error in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("people.csv", b"age,city\r\n1,Oslo\r\n\r\n2,Rome\r\n3,Rome\r\n\r\n\r\n"),
        ("people.csv", b'"age",city,note\n\n1,Oslo,"a\n\nb"\n2,Rome,\n\n3,Rome,"""x"""'),
        ("people.csv", b'city,age\n"Oslo",1\nRome, 2 \nRome,"3"'),
        ("people.csv", b"\xef\xbb\xbfage,city\n1,Oslo\n2,Rome\n3,Rome\n"),
        ("people.csv", b'\xef\xbb\xbf"a\nnote",age,city\nx,1,Oslo\n"x\ny",2,Rome\nx,3,Rome\n'),
        ("people.csv", b'note,age,city\n5" pipe,1,Oslo\n6" pipe,2,Rome\n"x"y",3,Rome\n'),
        ("people.jsonl", b'{"age": 1, "city": "Oslo"}\n\n{"age": 2, "city": "Rome"}\r\n\r\n{"age": 3, "city": "Rome"}\n\n'),
    ],
)
@pytest.mark.parametrize("shard_rows", [1, 2, 100])
def test_line_breaks_blank_lines_and_quotes_change_no_answer(settings, table_bundle, tmp_path, name, content, shard_rows):
    (tmp_path / "plain.csv").write_text("age,city\n1,Oslo\n2,Rome\n3,Rome\n")
    run(settings, tmp_path / "plain.csv", tmp_path / "expected", table_bundle)
    (tmp_path / name).write_bytes(content)
    run(settings, tmp_path / name, tmp_path / "out", table_bundle, shard_rows=shard_rows)
    assert answered_rows(tmp_path / "out") == answered_rows(tmp_path / "expected")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1\r2,Rome", "it is not CSV"),
        (b'5" tall,Rome', "column age is"),
        (b'"' + b"x\n" * 100_000 + b'",Rome', "column age is"),
        (b"1,Rome,Oslo", "it has 3 cells"),
    ],
)
def test_a_row_that_is_no_row_moves_no_answer_to_another_row(settings, table_bundle, tmp_path, line, reason):
    source = tmp_path / "people.csv"
    source.write_bytes(b"age,city\n1,Oslo\n7,Oslo\n3,Rome\n")
    run(settings, source, tmp_path / "expected", table_bundle)
    source.write_bytes(b"age,city\n1,Oslo\n" + line + b"\n3,Rome\n")
    run(settings, source, tmp_path / "out", table_bundle, max_unreadable=0.5)
    assert answered_rows(tmp_path / "out") == [row for row in answered_rows(tmp_path / "expected") if row[0] != 1]
    ((row, told),) = read_errors(tmp_path / "out").items()
    assert row == 1
    assert reason in told


def test_a_line_of_json_that_holds_a_key_twice_is_its_rows_error(settings, table_bundle, tmp_path):
    lines = [
        '{"age": 1, "city": "Oslo"}',
        '{"age": 2, "city": "Oslo", "age": 3}',
        '{"age": 3, "note": "\\"age\\": 1", "more": {"age": 4}}',
        '{"age": 4, "more": [{"a": 1, "a": 1}]}',
        '{"age": 5, "city": "Rome"}',
    ]
    (tmp_path / "people.jsonl").write_text("\n".join(lines))
    run(settings, tmp_path / "people.jsonl", tmp_path / "out", table_bundle, max_unreadable=0.5)
    assert [row for row, _ in answered_rows(tmp_path / "out")] == [0, 2, 4]
    assert read_errors(tmp_path / "out") == {
        1: "it holds the key 'age' twice in one object; accepted: once",
        3: "it holds the key 'a' twice in one object; accepted: once",
    }
    with pytest.raises(BatchError, match=r"people\.jsonl, row 1: it holds the key 'age' twice"):
        run(settings, tmp_path / "people.jsonl", tmp_path / "other", table_bundle)


@pytest.mark.parametrize("depth", [1015, 5000])
def test_a_line_of_json_that_is_nested_without_end_costs_no_other_row(settings, table_bundle, tmp_path, depth):
    deep = '{"age": 7, "note": "\\"", "more": ' + "[" * depth + "]" * depth + "}"
    (tmp_path / "people.jsonl").write_text('{"age": 1}\n' + deep + '\n{"age": 3}\n')
    run(settings, tmp_path / "people.jsonl", tmp_path / "out", table_bundle, max_unreadable=0.5)
    assert {0, 2} <= {row for row, _ in answered_rows(tmp_path / "out")}


def test_two_rows_with_a_stray_quote_each_are_two_rows(settings, table_bundle, tmp_path):
    (tmp_path / "people.csv").write_text('age,city\n1,Oslo\n5" tall,Oslo\n6" tall,Rome\n3,Rome\n')
    summary = run(settings, tmp_path / "people.csv", tmp_path / "out", table_bundle, max_unreadable=0.5)
    assert (summary.num_rows, summary.num_errors) == (2, 2)
    assert [row for row, _ in answered_rows(tmp_path / "out")] == [0, 3]
    assert sorted(read_errors(tmp_path / "out")) == [1, 2]


@pytest.mark.parametrize("neighbour", ["7,Rome,x", "old,Rome,x", "7,Rome"])
def test_a_row_with_a_long_cell_is_answered_whatever_its_neighbours_are(settings, table_bundle, tmp_path, neighbour):
    (tmp_path / "people.csv").write_text(f"age,city,note\n1,Oslo,{'x' * 200_000}\n{neighbour}\n")
    run(settings, tmp_path / "people.csv", tmp_path / "out", table_bundle, max_unreadable=0.5)
    assert answered_rows(tmp_path / "out")[0][0] == 0


@pytest.mark.parametrize("content", ["age,city\r1,Oslo\n", "age,city\r1,Oslo\n2,Rome\n", 'age,"city\n1,Oslo\n'])
def test_a_first_line_that_names_no_columns_is_told_by_the_files_name(settings, table_bundle, tmp_path, content):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.csv").write_text("age,city\n1,Oslo\n")
    (folder / "people.csv").write_bytes(content.encode())
    with pytest.raises(BatchError, match=r"The first line of people\.csv cannot be read as CSV"):
        run(settings, folder, tmp_path / "out", table_bundle, max_unreadable=1.0)


@pytest.mark.parametrize("column", ["age", "city"])
def test_a_parquet_string_that_is_not_utf8_is_its_rows_error(settings, table_bundle, tmp_path, column):
    texts = {"age": [b"1", b"2", None], "city": [b"Oslo", b"Rome", None]}
    texts[column][1] = b"\xff"
    table = pa.table({name: pa.array(values, pa.binary()).view(pa.string()) for name, values in texts.items()})
    pq.write_table(table, tmp_path / "people.parquet")
    run(settings, tmp_path / "people.parquet", tmp_path / "out", table_bundle, max_unreadable=0.5)
    assert [row for row, _ in answered_rows(tmp_path / "out")] == [0, 2]
    assert read_errors(tmp_path / "out")[1].startswith(f"column {column} is b'\\xff'; accepted: ")


def test_a_last_row_with_an_open_quote_is_told(settings, table_bundle, tmp_path):
    (tmp_path / "people.csv").write_text('age,city\n1,Oslo\n2,"Rome\n3,Rome\n')
    run(settings, tmp_path / "people.csv", tmp_path / "out", table_bundle, max_unreadable=0.5)
    assert [row for row, _ in answered_rows(tmp_path / "out")] == [0]
    assert "a quote is not closed" in read_errors(tmp_path / "out")[1]


def test_empty_files_among_others_hold_no_row(settings, table_bundle, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in (("a.csv", ""), ("b.csv", "age,city\n"), ("c.csv", "age,city\n1,Oslo\n"), ("d.csv", "\n\n")):
        (folder / name).write_text(content)
    assert run(settings, folder, tmp_path / "out", table_bundle).num_rows == 1
    (folder / "c.csv").write_text("")
    with pytest.raises(BatchError, match="holds no row to predict from"):
        run(settings, folder, tmp_path / "other", table_bundle)


def test_a_column_that_is_there_twice_is_refused(settings, table_bundle, tmp_path):
    (tmp_path / "people.csv").write_text("age,city,age\n1,Oslo,2\n")
    with pytest.raises(BatchError, match=r"people\.csv has several columns age"):
        run(settings, tmp_path / "people.csv", tmp_path / "out", table_bundle)


def test_a_huge_row_group_is_several_shards(settings, table_bundle, tmp_path, monkeypatch):
    table = pa.table({"age": np.arange(1000, dtype=np.float64), "city": ["Oslo", "Rome"] * 500})
    pq.write_table(table, tmp_path / "people.parquet", row_group_size=600)
    run(settings, tmp_path / "people.parquet", tmp_path / "expected", table_bundle)
    monkeypatch.setattr(inputs, "_MAX_GROUP_ROWS", 130)
    summary = run(settings, tmp_path / "people.parquet", tmp_path / "out", table_bundle, shard_rows=100)
    assert (summary.num_rows, summary.num_shards) == (1000, 5 + 4)
    assert read_output(tmp_path / "out").equals(read_output(tmp_path / "expected"))


def test_a_damaged_parquet_file_is_told_by_its_name(settings, table_bundle, tmp_path):
    source = tmp_path / "people.parquet"
    ages = np.random.default_rng(0).integers(0, 90, 5000).astype(np.float64)
    pq.write_table(pa.table({"age": ages, "city": ["Oslo"] * 5000}), source, compression="zstd", use_dictionary=False)
    content = bytearray(source.read_bytes())
    content[100:2000] = b"\xaa" * 1900
    source.write_bytes(content)
    with pytest.raises(BatchError, match=r"people\.parquet cannot be read as Parquet"):
        run(settings, source, tmp_path / "out", table_bundle)
    source.write_bytes(content[:1000])
    with pytest.raises(BatchError, match=r"people\.parquet is no Parquet file"):
        run(settings, source, tmp_path / "other", table_bundle)


def test_images_of_many_sizes_go_to_an_engine_that_resizes_them_as_they_would_alone(settings, tmp_path):
    bundle = write_conv_bundle(tmp_path / "bundle")
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(70):
        Image.fromarray(draw_images(1, 20 + number % 13, 17 + number % 7, seed=number)[0]).save(folder / f"{number:02d}.png")
    run(settings, folder, tmp_path / "out", bundle.root)
    run(settings, folder, tmp_path / "alone", bundle.root, shard_rows=1)
    together, alone = read_output(tmp_path / "out"), read_output(tmp_path / "alone")
    assert together["file"].equals(alone["file"])
    np.testing.assert_allclose(together["probability"].to_numpy(), alone["probability"].to_numpy(), atol=1e-5)


ODD_NAMES = [
    "a b.jpg",
    "x#y.jpg",
    "q?r.png",
    "100%.jpg",
    "%41.png",
    "'q\"+&.png",
    "sub dir/ünï.webp",
    "日本.JPG",
    "back\\slash.jpg",
]


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_a_file_is_answered_under_its_name_whatever_signs_it_holds(minio, image_bundle, tmp_path, place):
    settings = minio.settings(SLIPWAY_HOME=str(tmp_path / "home"))
    storage = ObjectStorage(settings)
    source = str(tmp_path / "in #1? é") if place == "disk" else f"s3://{minio.make_bucket()}/in #1? é"
    for name in ODD_NAMES:
        content = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(content, {"png": "png", "webp": "webp"}.get(name.rpartition(".")[2], "jpeg"))
        storage.write_bytes(f"{source}/{name}", content.getvalue())
    run(settings, source, tmp_path / "out #?", image_bundle)
    assert read_output(tmp_path / "out #?")["file"].to_pylist() == sorted(ODD_NAMES)
    for number, name in enumerate(ODD_NAMES):
        run(settings, f"{source}/{name}", tmp_path / f"{number}", image_bundle)
        assert read_output(tmp_path / f"{number}")["file"].to_pylist() == [name.rpartition("/")[2]]


def write_empty_images(settings, tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number:03d}.png").write_bytes(b"%d" % number)
    storage = ObjectStorage(settings)
    return storage, str(tmp_path), storage.list_files(str(tmp_path))


def test_huge_images_after_small_ones_are_not_all_held_at_once(settings, tmp_path):
    alive, most, lock = set(), 0, threading.Lock()

    def decode(content):
        nonlocal most
        pixels = np.zeros((1, 1, 3) if int(content) < 200 else (4 * MIB, 4, 1), np.uint8)
        if pixels.nbytes > MIB:
            with lock:
                alive.add(id(pixels))
                most = max(most, len(alive))
            weakref.finalize(pixels, alive.discard, id(pixels))
        return pixels

    storage, folder, files = write_empty_images(settings, tmp_path, 400)
    groups = list_places(read_images(storage, folder, files, decode))
    assert sorted(groups) == list(range(400))
    assert most <= 4 + 8 + 4 + 4  # 64 MiB decoded ahead, one a thread, 64 MiB that wait, and as many that go


def test_images_larger_than_all_that_is_decoded_ahead_come_one_after_the_other(settings, tmp_path):
    storage, folder, files = write_empty_images(settings, tmp_path, 6)
    found = read_images(storage, folder, files, lambda _: np.zeros((65 * MIB, 1, 1), np.uint8))
    reader = threading.Thread(target=lambda: places.extend(list_places(found)), daemon=True)
    places = []
    reader.start()
    reader.join(60)
    assert places == [0, 1, 2, 3, 4, 5]


def list_places(found):
    places = []
    for group in found:
        assert isinstance(group, Group)
        places += group.places
    return places


def test_a_reader_of_images_that_is_left_ends_its_threads(settings, tmp_path):
    storage, folder, files = write_empty_images(settings, tmp_path, 300)
    before = threading.active_count()
    reader = read_images(storage, folder, files, lambda _: np.zeros((4 * MIB, 4, 1), np.uint8))
    next(reader)
    reader.close()
    assert threading.active_count() == before

    def fail(content):
        if int(content) == 150:
            raise MemoryError
        raise RequestError("no")

    with pytest.raises(MemoryError):
        list(read_images(storage, folder, files, fail))
    assert threading.active_count() == before


@pytest.mark.parametrize(("name", "reason"), [("x" * 300 + ".csv", "File name too long"), ("circle.csv", "loop")])
@pytest.mark.parametrize("is_output", [False, True])
def test_a_path_that_cannot_be_looked_up_is_said(settings, table_bundle, tmp_path, name, reason, is_output):
    (tmp_path / "people.csv").write_text("age,city\n1,Oslo\n")
    (tmp_path / "circle.csv").symlink_to("circle.csv")
    source, output = ("people.csv", name) if is_output else (name, "out")
    with pytest.raises(BatchError, match=rf"{name} cannot be looked up \(.*{reason}.*\)\. Accepted: a path"):
        run(settings, tmp_path / source, tmp_path / output, table_bundle)
