"""A batch prediction from its input to its manifest, on real bundles."""

import io
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from slipway.batch.plan import PlanOptions, read_plan
from slipway.batch.work import plan_batch, predict_shards, publish_batch
from slipway.engines.choice import open_engine
from slipway.errors import BatchError
from slipway.export.bundle import read_bundle
from slipway.storage.objects import ObjectStorage
from tests.batches import read_output, run
from tests.bundles import write_image_bundle

ROWS = [("a", 41.0, "Oslo"), ("b", None, "Rome"), ("c", 7.0, None), ("d", 90.0, "Rome"), ("e", 3.5, 'quoted "x"\nline')]


def write_rows(path: Path, rows=ROWS) -> Path:
    table = pa.table(
        {
            "name": pa.array([row[0] for row in rows]),
            "age": pa.array([row[1] for row in rows], pa.float64()),
            "city": pa.array([row[2] for row in rows], pa.string()),
        }
    )
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=2)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        quoted = [
            [name, "" if age is None else str(age), "" if city is None else city.replace('"', '""')] for name, age, city in rows
        ]
        path.write_text("name,age,city\n" + "".join(f'{name},{age},"{city}"\n' for name, age, city in quoted))
    return path


def expected_of_rows(bundle_dir, rows=ROWS):
    engine = open_engine(read_bundle(bundle_dir))
    ages = np.array([np.nan if row[1] is None else row[1] for row in rows], np.float32)
    cities = np.array(["" if row[2] is None else row[2] for row in rows], dtype=object)
    return engine.predict({"age": ages, "city": cities})["probabilities"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("shard_rows", [1, 2, 100])
def test_a_tables_rows_are_answered_in_order_whatever_file_they_stand_in(settings, table_bundle, tmp_path, suffix, shard_rows):
    source = write_rows(tmp_path / f"people.{suffix}")
    summary = run(settings, source, tmp_path / "out", table_bundle, shard_rows=shard_rows)
    assert (summary.num_rows, summary.num_errors) == (5, 0)
    answers = read_output(tmp_path / "out")
    assert answers["file"].to_pylist() == [source.name] * 5
    assert answers["row"].to_pylist() == [0, 1, 2, 3, 4]
    probabilities = np.array(answers["probabilities"].to_pylist(), np.float32)
    np.testing.assert_allclose(probabilities, expected_of_rows(table_bundle), rtol=1e-6)
    assert answers["predicted_class"].to_pylist() == [("no", "yes")[best] for best in probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(answers["probability"].to_numpy(), probabilities.max(axis=1))


@pytest.mark.parametrize("shard_rows", [3, 100])
def test_images_of_any_size_are_answered_by_their_paths(settings, image_bundle, images, tmp_path, shard_rows):
    (images / "notes.txt").write_text("no image")
    summary = run(settings, images, tmp_path / "out", image_bundle, shard_rows=shard_rows)
    names = sorted(str(path.relative_to(images)) for path in images.rglob("*.*") if path.suffix != ".txt")
    answers = read_output(tmp_path / "out").to_pylist()
    assert [row["file"] for row in answers] == names
    assert summary.num_shards == -(-11 // shard_rows)
    engine = open_engine(read_bundle(image_bundle))
    for row in answers:
        pixels = np.asarray(Image.open(images / row["file"]).convert("RGB"))
        np.testing.assert_allclose(row["probabilities"], engine.predict({"image": pixels[None]})["probabilities"][0], atol=1e-5)


def test_what_cannot_be_read_is_listed_with_its_reason_and_the_rest_is_answered(settings, table_bundle, tmp_path):
    source = tmp_path / "people.csv"
    source.write_bytes(b"age,city\n41,Oslo\nold,Rome\n7\n1e99,Rome\n5,\xff\n6,Rome\n")
    summary = run(settings, source, tmp_path / "out", table_bundle, max_unreadable=0.7, shard_rows=4)
    assert (summary.num_rows, summary.num_errors) == (2, 4)
    assert read_output(tmp_path / "out")["row"].to_pylist() == [0, 5]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    errors = [
        json.loads(line)
        for shard in manifest["shards"]
        for line in (tmp_path / "out" / shard["errors_file"]).read_text().splitlines()
    ]
    assert [(error["row"], error["reason"].split(";")[0]) for error in errors] == [
        (1, "column age is 'old'"),
        (2, "it has 1 cells"),
        (3, "column age is '1e99'"),
        (4, "it is not UTF-8"),
    ]


@pytest.mark.parametrize("name", ["ids.csv", "ids.jsonl", "ids.parquet"])
def test_an_integer_of_64_bits_is_predicted_to_its_last_digit_and_one_that_does_not_fit_is_named(
    settings, digit_bundle, tmp_path, name
):
    ids, source = [2**53 + 1, 2**63 - 1, -(2**63), 12], tmp_path / name
    if name.endswith("csv"):
        source.write_text("id\n" + "".join(f"{number}\n" for number in [*ids, 2**63]))
    elif name.endswith("jsonl"):
        source.write_text("".join(f'{{"id": {number}}}\n' for number in [*ids, 2**63]))
    else:
        pq.write_table(pa.table({"id": pa.array([*ids, 2**63], pa.decimal128(20))}), source)
    assert run(settings, source, tmp_path / "out", digit_bundle, max_unreadable=0.2).num_errors == 1
    assert read_output(tmp_path / "out")["predicted_class"].to_pylist() == [str(number % 10) for number in ids]
    (errors,) = (tmp_path / "out" / "errors").iterdir()
    told = json.loads(errors.read_text())
    assert (told["file"], told["row"]) == (name, 4)
    assert told["reason"].startswith("column id is ")
    assert "9223372036854775808" in told["reason"]
    with pytest.raises(BatchError, match=rf"{name}, row 4: column id is .*; accepted: an integer from -9223372036854775808 to"):
        run(settings, source, tmp_path / "strict", digit_bundle)


def test_a_quote_that_is_never_closed_loses_no_row_silently(settings, table_bundle, tmp_path):
    source = tmp_path / "people.csv"
    source.write_text('age,city\n1,Oslo\n2,"Rome\n3,Rome\n')
    summary = run(settings, source, tmp_path / "out", table_bundle, max_unreadable=1.0)
    plan = read_plan(ObjectStorage(settings), str(tmp_path / "out"))
    assert summary.num_rows + summary.num_errors == plan.num_rows
    assert read_output(tmp_path / "out")["row"].to_pylist()[0] == 0


def test_more_that_is_unreadable_than_the_policy_lets_through_ends_without_a_manifest(settings, image_bundle, images, tmp_path):
    (images / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    with pytest.raises(BatchError, match=r"1 or more of 12 samples cannot be read; accepted: 0 .*broken\.jpg"):
        run(settings, images, tmp_path / "out", image_bundle)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert run(settings, images, tmp_path / "other", image_bundle, max_unreadable=0.1).num_errors == 1


def test_a_batch_that_was_ended_goes_on_with_the_shards_that_are_missing(settings, image_bundle, images, tmp_path):
    output = str(tmp_path / "out")
    plan = plan_batch(settings, str(images), output, str(image_bundle), PlanOptions(shard_rows=3))
    assert predict_shards(settings, output, worker=0, num_workers=2) == 2
    with pytest.raises(BatchError, match="2 of 4 shards"):
        publish_batch(settings, output)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    assert plan_batch(settings, str(images), output, str(image_bundle), PlanOptions(shard_rows=3)) == plan
    assert predict_shards(settings, output) == 2
    assert publish_batch(settings, output).num_rows == 11
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert predict_shards(settings, output) == 0


@pytest.mark.parametrize("damage", ["removed", "altered"])
def test_a_shard_whose_file_was_removed_or_altered_is_made_again(settings, image_bundle, images, tmp_path, damage):
    run(settings, images, tmp_path / "out", image_bundle, shard_rows=3)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "shards").iterdir()}
    victim = sorted((tmp_path / "out" / "shards").iterdir())[1]
    victim.unlink() if damage == "removed" else victim.write_bytes(b"altered")
    assert predict_shards(settings, str(tmp_path / "out")) == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "shards").iterdir()} == before


def test_concurrent_and_repeated_workers_give_one_output_each_sample_once(settings, image_bundle, images, tmp_path):
    run(settings, images, tmp_path / "alone", image_bundle, shard_rows=2)
    output = str(tmp_path / "together")
    plan_batch(settings, str(images), output, str(image_bundle), PlanOptions(shard_rows=2))
    threads = [threading.Thread(target=predict_shards, args=(settings, output, worker % 2, 2)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (tmp_path / "together" / "shards" / "000000-0123456789abcdef.parquet").write_bytes(b"half")
    publish_batch(settings, output)
    first, second = (read_output(tmp_path / name) for name in ("alone", "together"))
    assert first.equals(second)
    assert {path.name for path in (tmp_path / "alone" / "shards").iterdir()} == {
        path.name for path in (tmp_path / "together" / "shards").iterdir()
    }


def test_another_input_or_model_does_not_mix_into_an_output(settings, image_bundle, images, tmp_path):
    run(settings, images, tmp_path / "out", image_bundle)
    write_image_bundle(tmp_path / "other-bundle", seed=1)
    with pytest.raises(BatchError, match="differs in model"):
        run(settings, images, tmp_path / "out", tmp_path / "other-bundle")
    shutil.copy(images / "a" / "00.png", images / "a" / "new.png")
    with pytest.raises(BatchError, match="differs in the input's files"):
        run(settings, images, tmp_path / "out", image_bundle)


def test_a_plan_is_the_same_wherever_and_however_often_it_is_made(settings, image_bundle, images, tmp_path):
    plans = [
        plan_batch(settings, str(images), str(tmp_path / name), str(image_bundle), PlanOptions(shard_rows=4)) for name in "ab"
    ]
    assert plans[0] == plans[1]
    assert read_plan(ObjectStorage(settings), str(tmp_path / "a")) == plans[0]


def test_a_bucket_serves_as_input_and_output(minio, table_bundle, tmp_path):
    settings = minio.settings(SLIPWAY_HOME=str(tmp_path / "home"))
    storage, bucket = ObjectStorage(settings), minio.make_bucket()
    storage.upload_file(write_rows(tmp_path / "people.csv"), f"s3://{bucket}/in/people.csv")
    storage.upload_folder(table_bundle, f"s3://{bucket}/models/people")
    summary = run(settings, f"s3://{bucket}/in", f"s3://{bucket}/out", f"s3://{bucket}/models/people", shard_rows=2)
    manifest = json.loads(storage.read_bytes(summary.manifest))
    tables = [pq.read_table(io.BytesIO(storage.read_bytes(f"s3://{bucket}/out/{one['file']}"))) for one in manifest["shards"]]
    assert pa.concat_tables(tables)["row"].to_pylist() == [0, 1, 2, 3, 4]


def test_an_input_that_the_model_cannot_take_is_refused(settings, table_bundle, image_bundle, images, tmp_path):
    with pytest.raises(BatchError, match="the model takes none"):
        run(settings, images, tmp_path / "a", table_bundle)
    with pytest.raises(BatchError, match="the model takes none"):
        run(settings, write_rows(tmp_path / "people.csv"), tmp_path / "b", image_bundle)
    (tmp_path / "short.csv").write_text("age\n3\n")
    with pytest.raises(BatchError, match="has no column city"):
        run(settings, tmp_path / "short.csv", tmp_path / "c", table_bundle)
    write_rows(images / "people.csv")
    with pytest.raises(BatchError, match="several kinds"):
        run(settings, images, tmp_path / "d", image_bundle)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BatchError, match="holds nothing to predict from"):
        run(settings, tmp_path / "empty", tmp_path / "e", image_bundle)
    with pytest.raises(BatchError, match="nowhere is not there, or holds nothing to predict from"):
        run(settings, tmp_path / "nowhere", tmp_path / "f", image_bundle)


def test_a_line_of_json_that_names_no_column_of_the_model_is_unreadable(settings, table_bundle, tmp_path):
    (tmp_path / "people.jsonl").write_text('{"age": 3}\n{"Age": 3, "City": "Oslo"}\n{}\n')
    with pytest.raises(BatchError, match=r"people\.jsonl, row 1: it names no column of the model; accepted: age, city\."):
        run(settings, tmp_path / "people.jsonl", tmp_path / "out", table_bundle)
    assert run(settings, tmp_path / "people.jsonl", tmp_path / "other", table_bundle, max_unreadable=0.7).num_errors == 2
