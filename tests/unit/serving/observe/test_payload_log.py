import io
import re
import resource
import signal
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from slipway.errors import ConfigError
from slipway.serving.observe.payload_files import PayloadOptions
from slipway.serving.observe.payload_log import PayloadLog
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage
from tests.unit.serving.observe.exchanges import make_exchange, make_images, wait_for

CLOSE_SECONDS = 60


def make_log(model, uri, *, settings=None, **options):
    storage = ObjectStorage(settings or load_settings({}))
    return PayloadLog(PayloadOptions(uri=str(uri), rate=options.pop("rate", 1.0), **options), storage, model)


def ask(log, model, inputs, **changes):
    outputs = model.engine.predict(inputs)
    num_samples = len(next(iter(inputs.values())))
    log.observe(make_exchange(num_samples=num_samples, **changes), model, inputs, outputs)
    return outputs["probabilities"]


def make_rows(*rows):
    ages, cities = zip(*rows, strict=True)
    return {"age": np.array(ages, np.float32), "city": np.array(cities, dtype=object)}


def read_folder(folder):
    return [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]


def test_a_table_row_is_logged_with_its_answer(table_model, tmp_path):
    log = make_log(table_model, tmp_path)
    log.start()
    before = time.time()
    probabilities = ask(log, table_model, make_rows((41, "Oslo"), (np.nan, "Rome"), (7, None)), request_id="abc")
    assert log.close(CLOSE_SECONDS)
    (table,) = read_folder(tmp_path / "people")
    assert table.column_names == [
        "time", "request_id", "row", "protocol", "model", "version", "bundle_id", "latency_seconds",
        "predicted_class", "probability", "probabilities", "input.age", "input.city",
    ]  # fmt: skip
    first, second, third = table.to_pylist()
    assert before - 1 < first["time"].timestamp() < time.time() + 1
    assert (first["request_id"], first["row"], third["row"], first["protocol"]) == ("abc", 0, 2, "v2")
    assert (first["model"], first["version"], first["bundle_id"]) == ("people", "3", table_model.info.bundle_id)
    assert (first["input.age"], first["input.city"], third["input.city"]) == (41.0, "Oslo", None)
    assert np.isnan(second["input.age"])
    assert (first["predicted_class"], second["predicted_class"]) == ("yes", "no")
    np.testing.assert_array_equal(np.array(table["probabilities"].to_pylist(), np.float32), probabilities)
    np.testing.assert_array_equal(table["probability"].to_numpy(), probabilities.max(axis=1))
    assert log.counts.num_written == 3


def test_an_image_is_logged_as_what_its_pixels_add_up_to(image_model, tmp_path):
    log = make_log(image_model, tmp_path)
    log.start()
    images = np.random.default_rng(0).integers(0, 256, (2, 300, 301, 3), dtype=np.uint8)
    ask(log, image_model, {"image": images})
    assert log.close(CLOSE_SECONDS)
    (table,) = read_folder(tmp_path / "colors")
    for index, row in enumerate(table.to_pylist()):
        assert (row["input.image.height"], row["input.image.width"]) == (300, 301)
        for channel in range(3):
            values = images[index, :, :, channel]
            assert row[f"input.image.mean_{channel}"] == pytest.approx(values.mean(), rel=1e-6)
            assert row[f"input.image.std_{channel}"] == pytest.approx(values.std(), rel=1e-5)
    assert "input.image.pixels" not in table.column_names


def test_images_of_several_sizes_in_one_request_are_rows_like_others(image_model, tmp_path):
    log = make_log(image_model, tmp_path, keep_images=True)
    log.start()
    images = np.empty(2, dtype=object)
    images[:] = [make_images(1, size=3)["image"][0], make_images(200, size=5)["image"][0]]
    outputs = image_model.engine.predict(make_images(1, 200))
    log.observe(make_exchange(num_samples=2), image_model, {"image": images}, outputs)
    assert log.close(CLOSE_SECONDS)
    rows = read_folder(tmp_path / "colors")[0].to_pylist()
    assert [(row["input.image.height"], row["input.image.width"]) for row in rows] == [(3, 5), (5, 7)]
    assert [row["input.image.mean_0"] for row in rows] == [1.0, 200.0]
    assert [len(row["input.image.pixels"]) for row in rows] == [45, 105]


def test_an_images_pixels_are_kept_where_that_is_asked_for(image_model, tmp_path):
    log = make_log(image_model, tmp_path, keep_images=True)
    log.start()
    inputs = make_images(1, 200)
    ask(log, image_model, inputs)
    assert log.close(CLOSE_SECONDS)
    (table,) = read_folder(tmp_path / "colors")
    row = table.to_pylist()[1]
    pixels = np.frombuffer(row["input.image.pixels"], np.uint8).reshape(row["input.image.height"], row["input.image.width"], 3)
    np.testing.assert_array_equal(pixels, inputs["image"][1])


def test_hidden_columns_are_left_out_or_hashed(table_model, tmp_path):
    log = make_log(table_model, tmp_path, drop_inputs=("age",), hash_inputs=("city",), hash_key="key")
    log.start()
    ask(log, table_model, make_rows((41, "Oslo"), (3, "Rome"), (4, "Oslo"), (5, None)))
    assert log.close(CLOSE_SECONDS)
    (table,) = read_folder(tmp_path / "people")
    assert "input.age" not in table.column_names
    oslo, rome, again, missing = table["input.city"].to_pylist()
    assert oslo == again != rome
    assert missing is None
    assert re.fullmatch("[0-9a-f]{16}", oslo)
    (path,) = (tmp_path / "people").iterdir()
    assert b"Oslo" not in path.read_bytes()
    assert b"key" not in repr(PayloadOptions(uri="x", hash_key="key")).encode().replace(b"hash_key", b"")


def test_hashes_of_two_processes_without_a_key_say_nothing_of_each_other(table_model, tmp_path):
    hashes = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        log = make_log(table_model, folder, hash_inputs=("city",))
        log.start()
        ask(log, table_model, make_rows((41, "Oslo")))
        assert log.close(CLOSE_SECONDS)
        hashes.append(read_folder(folder / "people")[0]["input.city"].to_pylist())
    assert hashes[0] != hashes[1]


def test_a_column_that_is_to_be_hidden_and_does_not_exist_is_refused(table_model, tmp_path):
    with pytest.raises(ConfigError, match="'agee'; accepted: age, city"):
        make_log(table_model, tmp_path, drop_inputs=("agee",))


def test_the_arrays_of_an_answer_may_change_once_it_is_given(table_model, tmp_path):
    log = make_log(table_model, tmp_path)
    inputs = make_rows((41, "Oslo"))
    outputs = table_model.engine.predict(inputs)
    expected = outputs["probabilities"].copy()
    log.observe(make_exchange(), table_model, inputs, outputs)
    outputs["probabilities"][:] = 0
    log.start()
    assert log.close(CLOSE_SECONDS)
    np.testing.assert_array_equal(
        np.array(read_folder(tmp_path / "people")[0]["probabilities"].to_pylist(), np.float32), expected
    )


def test_refused_requests_are_not_logged_and_others_by_their_share(table_model, tmp_path):
    log = make_log(table_model, tmp_path, rate=0.25)
    log.start()
    log.observe(make_exchange(status=400), table_model, None, None)
    inputs = make_rows((41, "Oslo"))
    outputs = table_model.engine.predict(inputs)
    for _ in range(2000):
        log.observe(make_exchange(), table_model, inputs, outputs)
    assert log.close(CLOSE_SECONDS)
    assert 350 < log.counts.num_written < 650


@pytest.mark.parametrize("bound", [{"max_queue_rows": 3}, {"max_queue_bytes": 3 * (4 + 64 + len("Oslo") + 8)}])
def test_what_the_queue_has_no_room_for_is_dropped_and_counted(table_model, tmp_path, bound):
    log = make_log(table_model, tmp_path, **bound)
    for _ in range(5):
        ask(log, table_model, make_rows((41, "Oslo")))
    assert log.counts.dropped["queue_full"] == 2
    log.start()
    assert log.close(CLOSE_SECONDS)
    assert log.counts.num_written == 3


class Unread(str):
    """A string whose length nobody may ask for."""

    __slots__ = ()

    def __len__(self):
        raise AssertionError("it was read")


def test_a_request_with_more_rows_than_there_is_room_for_is_dropped_without_a_look_at_its_values(table_model, tmp_path):
    log = make_log(table_model, tmp_path, max_queue_rows=3)
    inputs = make_rows(*[(41, Unread("Oslo"))] * 4)
    log.observe(make_exchange(num_samples=4), table_model, inputs, {"probabilities": np.ones((4, 2), np.float32)})
    assert log.counts.dropped["queue_full"] == 4


def test_files_are_ended_by_rows_by_size_and_by_time(table_model, tmp_path):
    for name, options in (("rows", {"max_file_rows": 4}), ("bytes", {"max_file_bytes": 4000})):
        log = make_log(table_model, tmp_path / name, **options)
        log.start()
        for _ in range(10):
            ask(log, table_model, make_rows((41, "Oslo"), (42, "Rome")))
        assert log.close(CLOSE_SECONDS)
        tables = read_folder(tmp_path / name / "people")
        assert len(tables) > 1
        assert sum(len(table) for table in tables) == 20
    log = make_log(table_model, tmp_path / "time", flush_seconds=0.05)
    log.start()
    ask(log, table_model, make_rows((41, "Oslo")))
    wait_for(lambda: log.counts.num_written == 1)
    assert log.close(CLOSE_SECONDS)


def test_names_sort_by_time_and_are_unique_to_a_process(table_model, tmp_path):
    logs = [make_log(table_model, tmp_path, max_file_rows=1) for _ in range(2)]
    for log in logs:
        log.start()
    for index in range(10):
        ask(logs[index % 2], table_model, make_rows((index, "Oslo")))
        wait_for(lambda: sum(log.counts.num_written for log in logs) == index + 1)  # noqa: B023
    for log in logs:
        assert log.close(CLOSE_SECONDS)
    assert [table["input.age"][0].as_py() for table in read_folder(tmp_path / "people")] == list(range(10))


def test_the_oldest_files_give_way_whoever_wrote_them(table_model, tmp_path):
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "20000101T000000.000000Z-00000000-000001.parquet").write_bytes(b"x" * 20_000)
    (tmp_path / "people" / "notes.txt").write_bytes(b"x" * 50_000)
    log = make_log(table_model, tmp_path, max_file_rows=1, max_total_bytes=20_000)
    log.start()
    for index in range(12):
        ask(log, table_model, make_rows((index, "Oslo")))
    assert log.close(CLOSE_SECONDS)
    files = sorted((tmp_path / "people").glob("*.parquet"))
    assert sum(path.stat().st_size for path in files) <= 20_000
    assert not files[0].name.startswith("2000")
    assert pq.read_table(files[-1])["input.age"][0].as_py() == 11
    assert (tmp_path / "people" / "notes.txt").exists()


def test_another_version_begins_another_file(table_model, image_model, tmp_path):
    log = make_log(table_model, tmp_path)
    log.start()
    ask(log, table_model, make_rows((41, "Oslo")))
    ask(log, image_model, make_images(3))
    assert log.close(CLOSE_SECONDS)
    assert [len(table) for table in read_folder(tmp_path / "people")] == [1]
    assert [len(table) for table in read_folder(tmp_path / "colors")] == [1]


def test_a_place_that_cannot_be_written_to_costs_the_rows_and_is_said_once(table_model, tmp_path, events):
    (tmp_path / "file").write_text("no folder")
    log = make_log(table_model, tmp_path / "file", max_file_rows=1)
    log.start()
    for _ in range(5):
        ask(log, table_model, make_rows((41, "Oslo")))
    assert log.close(CLOSE_SECONDS)
    assert log.counts.dropped["write_failed"] == 5
    (line,) = events
    assert (line["event"], line["log_level"], line["reason"]) == ("payload_rows_dropped", "error", "write_failed")


def test_a_disk_that_becomes_full_half_way_is_left_no_part_of_a_file(table_model, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = make_log(table_model, tmp_path)
    ask(log, table_model, make_rows((41, "Oslo")))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        log.start()
        assert log.close(CLOSE_SECONDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert log.counts.dropped["write_failed"] == 1
    assert list((tmp_path / "people").iterdir()) == []


def test_a_bucket_gets_the_same_files(table_model, minio):
    bucket = minio.make_bucket()
    log = make_log(table_model, f"s3://{bucket}/payloads", settings=minio.settings(), max_file_rows=2, max_total_bytes=20_000)
    log.start()
    for index in range(20):
        ask(log, table_model, make_rows((index, "Oslo")))
    assert log.close(CLOSE_SECONDS)
    storage = ObjectStorage(minio.settings())
    files = storage.list_files(f"s3://{bucket}/payloads/people")
    assert 0 < sum(file.size_bytes for file in files) <= 20_000
    newest = storage.read_bytes(f"s3://{bucket}/payloads/people/{files[-1].name}")
    assert pq.read_table(io.BytesIO(newest))["input.age"].to_pylist() == [18.0, 19.0]


def test_a_bucket_that_does_not_exist_costs_the_rows_alone(table_model, minio):
    log = make_log(table_model, "s3://no-such-bucket/payloads", settings=minio.settings())
    log.start()
    ask(log, table_model, make_rows((41, "Oslo")))
    assert log.close(CLOSE_SECONDS)
    assert log.counts.dropped["write_failed"] == 1


def test_closing_waits_no_longer_than_it_is_told_to_and_nothing_is_logged_after_it(table_model, tmp_path, minio):
    log = make_log(table_model, f"s3://{minio.make_bucket()}/payloads", settings=minio.settings())
    log.start()
    ask(log, table_model, make_rows((41, "Oslo")))
    minio.freeze()
    try:
        assert not log.close(0.2)
        ask(log, table_model, make_rows((41, "Oslo")))
        assert log.counts.dropped["ended"] == 1
    finally:
        minio.process.send_signal(signal.SIGCONT)
    wait_for(lambda: log.counts.num_written == 1, timeout_seconds=CLOSE_SECONDS)
