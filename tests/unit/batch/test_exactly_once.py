"""What was planned is what is answered, and what was published stays."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import orjson
import pytest
from PIL import Image

from slipway.batch.plan import PlanOptions, read_plan
from slipway.batch.stream import InputFile
from slipway.batch.work import plan_batch, predict_shards, publish_batch
from slipway.errors import BatchError, StorageError
from slipway.storage.objects import ObjectStorage
from tests.batches import read_output, run
from tests.bundles import write_image_bundle

PEOPLE = "age,city\n1,Oslo\n2,Rome\n3,Rome\n"


def plan(settings, source, output, bundle, **options):
    return plan_batch(settings, str(source), str(output), str(bundle), PlanOptions(**options))


@pytest.mark.parametrize("change", ["altered", "cut short", "removed"])
def test_a_table_that_changes_after_the_plan_is_not_predicted(settings, table_bundle, tmp_path, change):
    source = tmp_path / "people.csv"
    source.write_text(PEOPLE)
    plan(settings, source, tmp_path / "out", table_bundle, shard_rows=1)
    assert predict_shards(settings, str(tmp_path / "out"), worker=0, num_workers=3) == 1
    if change == "removed":
        source.unlink()
    else:
        source.write_text(PEOPLE.replace("2", "9") if change == "altered" else "age,city\n1,Oslo\n")
    happened = "was removed" if change == "removed" else "has changed"
    with pytest.raises(BatchError, match=rf"people\.csv {happened} since it was listed .* Choose another output folder"):
        predict_shards(settings, str(tmp_path / "out"))


def test_an_image_that_changes_after_the_plan_is_not_predicted(settings, image_bundle, images, tmp_path):
    plan(settings, images, tmp_path / "out", image_bundle, shard_rows=4)
    Image.new("RGB", (8, 8)).save(images / "b" / "05.webp")
    with pytest.raises(BatchError, match=r"b/05\.webp has changed"):
        predict_shards(settings, str(tmp_path / "out"))


@pytest.mark.parametrize("name", ["people.csv", "people.jsonl", "people.parquet", "red.png"])
def test_an_object_that_changes_after_the_plan_is_not_predicted(minio, table_bundle, image_bundle, tmp_path, name):
    settings = minio.settings(SLIPWAY_HOME=str(tmp_path / "home"))
    storage, bucket = ObjectStorage(settings), minio.make_bucket()
    contents = write_inputs(tmp_path / "in", 1)[name], write_inputs(tmp_path / "in", 2)[name]
    source = f"s3://{bucket}/in/{name}"
    storage.write_bytes(source, contents[0])
    bundle = image_bundle if name == "red.png" else table_bundle
    plan(settings, source, tmp_path / "out", bundle)
    storage.write_bytes(source, contents[1])
    with pytest.raises(BatchError, match=f"{source} has changed"):
        predict_shards(settings, str(tmp_path / "out"))
    storage.write_bytes(source, contents[0])
    assert predict_shards(settings, str(tmp_path / "out")) == 1


def write_inputs(folder, age):
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(exist_ok=True)
    (folder / "people.csv").write_text(f"age,city\n{age},Oslo\n")
    (folder / "people.jsonl").write_text(json.dumps({"age": age, "city": "Oslo"}) + "\n")
    parquet.write_table(pa.table({"age": [float(age)], "city": ["Oslo"]}), folder / "people.parquet")
    Image.new("RGB", (8, 8), (age, 0, 0)).save(folder / "red.png")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_refusal_of_a_folder_names_the_file_that_is_not_what_it_was(settings, image_bundle, images, tmp_path):
    run(settings, images, tmp_path / "out", image_bundle)
    shutil.copy(images / "a" / "00.png", images / "a" / "new.png")
    with pytest.raises(BatchError, match=r"the input's files \(a/new\.png was added\)"):
        run(settings, images, tmp_path / "out", image_bundle)
    (images / "a" / "new.png").unlink()
    (images / "a" / "00.png").unlink()
    with pytest.raises(BatchError, match=r"the input's files \(a/00\.png was removed\)"):
        run(settings, images, tmp_path / "out", image_bundle)


def overtake(output, number):
    """Leave what a second worker would whose processor rounds differently: another file of the same shard, and its mark."""
    mark = output / "done" / f"{number:06d}.json"
    done = json.loads(mark.read_text())
    content = (output / done["file"]).read_bytes() + b"rounded"
    digest = hashlib.sha256(content).hexdigest()
    other = f"shards/{number:06d}-{digest[:16]}.parquet"
    (output / other).write_bytes(content)
    mark.write_text(json.dumps(done | {"file": other, "sha256": digest}))
    return output / other


def test_a_plan_of_another_format_is_said_to_be_of_another_version_of_slipway(settings, table_bundle, tmp_path):
    source, output = tmp_path / "people.csv", tmp_path / "out"
    source.write_text(PEOPLE)
    output.mkdir()
    (output / "plan.json").write_text(json.dumps({"format_version": 1, "plan_id": "0", "input": str(source)}))
    with pytest.raises(
        BatchError, match=r"made by another version of Slipway \(its format is 1, .* Choose another output folder"
    ):
        run(settings, source, output, table_bundle)


def test_the_refusal_of_a_folder_says_where_only_the_shards_differ(settings, table_bundle, tmp_path):
    source, output = tmp_path / "people.csv", tmp_path / "out"
    source.write_text(PEOPLE)
    planned = plan(settings, source, output, table_bundle)
    other = replace(planned, shards=(replace(planned.shards[0], num_rows=2),)).seal()
    (output / "plan.json").write_bytes(orjson.dumps(other))
    with pytest.raises(BatchError, match=r"it differs in its shards \(another version of Slipway cut them\)"):
        plan(settings, source, output, table_bundle)


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_an_empty_file_that_grew_is_not_taken_for_empty(minio, tmp_path, place):
    storage = ObjectStorage(minio.settings(SLIPWAY_HOME=str(tmp_path / "home")))
    folder = str(tmp_path / "in") if place == "disk" else f"s3://{minio.make_bucket()}/in"
    storage.write_bytes(f"{folder}/red.png", b"")
    (file,) = storage.list_files(folder)
    assert InputFile(storage, folder, file).read_whole() == b""
    storage.write_bytes(f"{folder}/red.png", b"an image")
    with pytest.raises(BatchError, match=r"red\.png has changed"):
        InputFile(storage, folder, file).read_whole()


def test_publishing_again_takes_nothing_from_a_reader(settings, image_bundle, images, tmp_path):
    output = tmp_path / "out"
    run(settings, images, output, image_bundle, shard_rows=4)
    manifest, before = (output / "manifest.json").read_bytes(), read_output(output)
    stamps = {path: path.stat().st_mtime_ns for path in (*(output / "shards").iterdir(), output / "manifest.json")}
    late = overtake(output, 1)
    publish_batch(settings, str(output))
    assert (output / "manifest.json").read_bytes() == manifest
    assert read_output(output).equals(before)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert not late.exists()
    assert predict_shards(settings, str(output)) == 0


def test_no_file_goes_before_a_manifest_stands_that_does_not_list_it(settings, image_bundle, images, tmp_path):
    output = tmp_path / "out"
    plan(settings, images, output, image_bundle, shard_rows=4)
    predict_shards(settings, str(output))
    first = json.loads((output / "done" / "000001.json").read_text())["file"]
    overtake(output, 1)
    (output / "manifest.json" / "in-the-way").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"Writing .*manifest\.json failed: Is a directory"):
        publish_batch(settings, str(output))
    assert (output / first).exists()
    shutil.rmtree(output / "manifest.json")
    publish_batch(settings, str(output))
    assert not (output / first).exists()


def test_an_output_that_cannot_be_written_is_told_and_goes_on_once_it_can(settings, image_bundle, images, tmp_path):
    output = tmp_path / "out"
    plan(settings, images, output, image_bundle, shard_rows=4)
    (output / "shards").write_text("in the way")
    with pytest.raises(StorageError, match=r"Writing .*/out/shards/000000-.* failed: (File exists|Not a directory)"):
        predict_shards(settings, str(output))
    assert not list((output / "done").glob("*"))
    (output / "shards").unlink()
    assert predict_shards(settings, str(output)) == 3
    assert publish_batch(settings, str(output)).num_rows == 11


def test_a_shard_that_was_done_for_another_plan_counts_for_none(settings, image_bundle, images, tmp_path):
    output = tmp_path / "out"
    run(settings, images, output, image_bundle, shard_rows=4)
    write_image_bundle(tmp_path / "other-bundle", seed=1)
    run(settings, images, tmp_path / "expected", tmp_path / "other-bundle", shard_rows=4)
    (output / "plan.json").unlink()
    run(settings, images, output, tmp_path / "other-bundle", shard_rows=4)
    assert read_output(output).equals(read_output(tmp_path / "expected"))
    assert {path.name for path in (output / "shards").iterdir()} == {
        path.name for path in (tmp_path / "expected" / "shards").iterdir()
    }


def test_a_list_of_unreadable_samples_that_was_altered_is_made_again(settings, table_bundle, tmp_path):
    source, output = tmp_path / "people.csv", tmp_path / "out"
    source.write_text(PEOPLE + "old,Rome\n")
    run(settings, source, output, table_bundle, max_unreadable=0.25)
    (errors,) = (output / "errors").iterdir()
    before = errors.read_bytes()
    errors.write_bytes(b"")
    assert predict_shards(settings, str(output)) == 1
    assert errors.read_bytes() == before


def test_only_files_of_a_batch_prediction_are_ever_deleted(settings, table_bundle, tmp_path):
    source, output = tmp_path / "people.csv", tmp_path / "project"
    source.write_text(PEOPLE)
    (output / "shards").mkdir(parents=True)
    (output / "shards" / "000000.parquet").write_bytes(b"a training set")
    run(settings, source, output, table_bundle)
    assert (output / "shards" / "000000.parquet").read_bytes() == b"a training set"


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_one_file_of_a_folder_is_what_is_planned_and_read_and_no_other_goes_on_in_its_output(
    minio, table_bundle, tmp_path, place
):
    settings = minio.settings(SLIPWAY_HOME=str(tmp_path / "home"))
    storage = ObjectStorage(settings)
    folder = str(tmp_path / "in") if place == "disk" else f"s3://{minio.make_bucket()}/in"
    for name, content in (("a.csv", PEOPLE), ("b.csv", PEOPLE), ("broken.csv", "no,columns\n"), ("photo.jpg", "")):
        storage.write_bytes(f"{folder}/{name}", content.encode())
    output = tmp_path / "out"
    run(settings, f"{folder}/a.csv", output, table_bundle)
    planned = read_plan(storage, str(output))
    assert (planned.input, [file.name for file in planned.files]) == (f"{folder}/a.csv", ["a.csv"])
    assert json.loads((output / "manifest.json").read_text())["input"] == f"{folder}/a.csv"
    storage.write_bytes(f"{folder}/b.csv", b"age,city\n9,Rome\n")
    assert run(settings, f"{folder}/a.csv", output, table_bundle).num_rows == 3
    with pytest.raises(BatchError, match=rf"it differs in input\. Choose another folder, .* input {folder}/a\.csv,"):
        plan(settings, f"{folder}/b.csv", output, table_bundle)
    storage.delete(f"{folder}/photo.jpg")
    with pytest.raises(BatchError, match=r"it differs in input\. "):
        plan(settings, folder, output, table_bundle)


def test_a_link_to_a_file_is_known_by_its_own_name(settings, table_bundle, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "8a7f").write_text(PEOPLE)
    (tmp_path / "people.csv").symlink_to(tmp_path / "store" / "8a7f")
    run(settings, tmp_path / "people.csv", tmp_path / "out", table_bundle)
    assert read_plan(ObjectStorage(settings), str(tmp_path / "out")).input == str(tmp_path / "people.csv")
    assert read_output(tmp_path / "out")["file"].to_pylist() == ["people.csv"] * 3


def test_input_and_output_may_not_lie_in_each_other(settings, table_bundle, image_bundle, images, tmp_path):
    for output in (images, images / "answers", images.parent):
        with pytest.raises(BatchError, match=r"lie in each other\. Choose a folder apart"):
            run(settings, images, output, image_bundle)
    assert not (images.parent / "plan.json").exists()
    (tmp_path / "people.csv").write_text(PEOPLE)
    with pytest.raises(BatchError, match="lie in each other"):
        run(settings, tmp_path / "people.csv", tmp_path, table_bundle)


def test_an_input_is_the_same_however_it_is_written(settings, image_bundle, images, tmp_path, monkeypatch):
    first = run(settings, images, tmp_path / "out", image_bundle)
    monkeypatch.chdir(tmp_path)
    for name in (f"{images}/", f"file://{images}", "images", "./a/../images"):
        (tmp_path / "a").mkdir(exist_ok=True)
        assert run(settings, name, tmp_path / "out", image_bundle) == first


def test_a_name_that_is_not_utf8_is_refused(settings, image_bundle, images, tmp_path):
    shutil.copy(images / "a" / "00.png", os.fsencode(images) + b"/\xff.png")
    with pytest.raises(BatchError, match="whose name is not UTF-8"):
        run(settings, images, tmp_path / "out", image_bundle)


def test_as_many_may_be_unreadable_as_the_share_says(settings, table_bundle, tmp_path):
    source = tmp_path / "people.csv"
    source.write_text("age,city\n" + "old,Rome\n" * 29 + "1,Rome\n" * 71)
    assert run(settings, source, tmp_path / "out", table_bundle, max_unreadable=0.29).num_errors == 29
    assert read_plan(ObjectStorage(settings), str(tmp_path / "out")).num_rows == 100
