import io

import numpy as np
import pytest
from PIL import Image

from slipway.config import DataConfig
from slipway.data.dataset import Dataset
from slipway.data.decoding import decode_image
from slipway.data.findings import Severity
from slipway.data.ingest import ingest_source
from slipway.data.preprocess import build_dataset
from slipway.data.validation import validate_raw
from slipway.errors import DataError

GREEN = (10, 200, 30)


def encode(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    stream.seek(0)
    return stream


def decode_one(image, file_format="PNG", **options):
    return decode_image(encode(image, file_format, **options))


def prepare(tmp_path, source, **settings):
    ingest_source(source, tmp_path / "raw")
    return build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig(source=source, **settings))


def test_small_images_of_one_size_are_stored_as_they_are(tmp_path, write_folder):
    folder = write_folder(count=60, size=12)
    manifest = prepare(tmp_path, f"folder://{folder}")
    dataset = Dataset.open(tmp_path / "dataset")
    assert manifest.feature("image").shape == (12, 12, 3)
    assert manifest.class_names == ("cat", "dog")
    stored = {
        (pixels.tobytes(), label)
        for split in manifest.num_rows
        for pixels, label in zip(dataset.read_column(split, "image"), dataset.labels(split).tolist(), strict=True)
    }
    files = {
        (np.asarray(Image.open(path)).tobytes(), label)
        for label, name in enumerate(manifest.class_names)
        for path in (folder / name).iterdir()
    }
    assert stored == files


def test_images_of_many_kinds_and_sizes_become_one_data_set(tmp_path, write_folder):
    folder = write_folder(count=40)
    generator = np.random.default_rng(1)
    color = Image.fromarray(generator.integers(0, 256, (90, 70, 3), dtype=np.uint8))
    color.save(folder / "cat" / "photo.jpg")
    color.save(folder / "cat" / "photo.webp")
    color.convert("L").save(folder / "dog" / "grey.png")
    color.convert("RGBA").save(folder / "dog" / "alpha.png")
    color.quantize(16).save(folder / "dog" / "palette.png")
    Image.fromarray(generator.integers(0, 65536, (30, 40), dtype=np.uint16)).save(folder / "dog" / "deep.png")
    (folder / "dog" / ".DS_Store").write_bytes(b"not looked at")
    (folder / "README.txt").write_text("not looked at")
    manifest = prepare(tmp_path, f"folder://{folder}", image_size=32)
    assert manifest.feature("image").shape == (32, 32, 3)
    assert sum(manifest.num_rows.values()) == 86


def test_large_or_uneven_images_are_stored_at_224(tmp_path, write_folder):
    folder = write_folder(count=30, size=65)
    assert prepare(tmp_path, f"folder://{folder}").feature("image").shape == (224, 224, 3)


def test_grey_images_have_one_channel_whatever_their_files_say(tmp_path, write_folder):
    folder = write_folder(count=40)
    for path in folder.rglob("*.png"):
        Image.open(path).convert("L").convert("RGB").save(path)
    assert prepare(tmp_path, f"folder://{folder}").feature("image").shape == (12, 12, 1)


def test_resizing_is_pillows_antialiased_bilinear_filter(tmp_path, write_folder):
    folder = write_folder(count=40, size=50)
    prepare(tmp_path, f"folder://{folder}", image_size=16)
    stored = Dataset.open(tmp_path / "dataset").read_column("train", "image")
    expected = {
        np.asarray(Image.open(path).resize((16, 16), Image.Resampling.BILINEAR)).tobytes() for path in folder.rglob("*.png")
    }
    assert {pixels.tobytes() for pixels in stored} <= expected


def test_a_photo_taken_sideways_stands_upright():
    image = Image.new("RGB", (20, 10))
    image.paste(GREEN, (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    pixels = decode_one(image, exif=exif)
    assert pixels.shape == (20, 10, 3)
    assert pixels[0, 0].tolist() == list(GREEN)
    assert pixels[-1, 0].tolist() == [0, 0, 0]


def test_what_is_transparent_becomes_white():
    for image in (Image.new("RGBA", (4, 4), (*GREEN, 0)), Image.new("LA", (4, 4), (9, 0))):
        assert (decode_one(image) == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([*GREEN, 1, 2, 3])
    assert (decode_one(palette, transparency=1) == 255).all()
    assert decode_one(palette)[0, 0].tolist() == [1, 2, 3]


def test_sixteen_bits_become_eight():
    deep = np.array([[0, 257, 257 * 200, 65535]], np.uint16)
    assert decode_one(Image.fromarray(deep))[0, :, 0].tolist() == [0, 1, 200, 255]


def test_other_modes_become_grey_or_rgb():
    assert decode_one(Image.new("1", (3, 2), 1)).tolist() == [[[255]] * 3] * 2
    assert decode_one(Image.new("CMYK", (3, 2)), "JPEG").shape == (2, 3, 3)


def test_a_large_jpeg_is_scaled_down_while_it_is_decoded_and_never_too_far():
    image = encode(Image.new("RGB", (2000, 1200)), "JPEG")
    assert decode_image(image, min_side=512).shape == (600, 1000, 3)
    assert decode_image(image, min_side=700).shape == (1200, 2000, 3)
    assert decode_image(image).shape == (1200, 2000, 3)


def test_a_samples_id_does_not_depend_on_the_size_that_is_stored(tmp_path, write_folder):
    folder = write_folder(count=40, size=50)
    for number in range(3):
        generator = np.random.default_rng(number)
        pixels = generator.integers(0, 256, (12, 13, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((1200, 1100)).save(folder / "cat" / f"large-{number}.jpg")
    ids = []
    for size in (16, 300):
        prepare(tmp_path, f"folder://{folder}", image_size=size)
        dataset = Dataset.open(tmp_path / "dataset")
        ids.append({split: dataset.sample_ids(split) for split in ("train", "validation", "test")})
    assert ids[0] == ids[1]


def test_train_and_test_folders_keep_the_sources_own_split(tmp_path, write_folder):
    write_folder("photos/train", count=40)
    folder = write_folder("photos/test", count=15).parent
    for path in (folder / "test").rglob("*.png"):
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    manifest = prepare(tmp_path, f"folder://{folder}")
    assert manifest.class_names == ("cat", "dog")
    assert manifest.provenance["split_by"] == "source"
    assert manifest.num_rows["test"] == 30


def test_train_and_validation_folders_without_a_test_set_are_one_source_and_not_two_classes(tmp_path, write_folder):
    write_folder("photos/train", count=40)
    folder = write_folder("photos/val", count=15).parent
    for path in (folder / "val").rglob("*.png"):
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    manifest = prepare(tmp_path, f"folder://{folder}")
    assert manifest.class_names == ("cat", "dog")
    assert manifest.provenance["split_by"] == "hash"
    assert sum(manifest.num_rows.values()) == 110


def test_images_in_linked_folders_belong_to_the_class_and_links_back_up_are_no_trap(tmp_path, write_folder):
    folder = write_folder(count=20)
    elsewhere = write_folder("elsewhere", classes=("more",), count=10)
    for path in elsewhere.rglob("*.png"):
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    (folder / "cat" / "linked").symlink_to(elsewhere / "more")
    (folder / "cat" / "loop").symlink_to(folder / "cat")
    assert ingest_source(f"folder://{folder}", tmp_path / "raw").num_samples == 50


def test_a_folder_that_is_no_split_beside_train_and_test_is_refused(tmp_path, write_folder):
    for name in ("train", "test", "extra"):
        write_folder(f"photos/{name}", count=1)
    with pytest.raises(DataError, match="photos/extra stands beside folders called train and test"):
        ingest_source(f"folder://{tmp_path / 'photos'}", tmp_path / "raw")


def make_unreadable(folder):
    (folder / "cat" / "notes.txt").write_text("three cats")
    whole = (folder / "dog" / "000.png").read_bytes()
    (folder / "dog" / "000.png").write_bytes(whole[: len(whole) // 2])


def test_files_that_are_no_images_are_named_and_policy_decides(tmp_path, write_folder):
    folder = write_folder(count=40)
    make_unreadable(folder)
    source = f"folder://{folder}"
    ingest_source(source, tmp_path / "raw")
    severities: list[Severity] = []
    for max_unreadable in (0.0, 0.1):
        report = validate_raw(tmp_path / "raw", DataConfig(source=source, max_unreadable=max_unreadable))
        finding = next(finding for finding in report.findings if finding.rule == "unreadable")
        severities.append(finding.severity)
        assert f"{folder}/cat/notes.txt: it is not a JPEG, PNG or WebP image" in finding.where
        assert finding.where[1].startswith(f"{folder}/dog/000.png: it is damaged")
    assert severities == ["block", "warn"]
    manifest = build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig(source=source))
    assert sum(manifest.num_rows.values()) == 79
    assert manifest.provenance["left_out_unreadable"] == "2"


def empty_class(folder):
    (folder / "parrot").mkdir()
    return "parrot holds no image"


def hidden_files_only(folder):
    empty_class(folder)
    (folder / "parrot" / ".DS_Store").write_bytes(b"")
    return "parrot holds no image"


def one_class(folder):
    (folder / "dog").rename(folder.parent / "elsewhere")
    return "one class folder only (cat)"


def no_class(folder):
    one_class(folder)
    (folder / "cat").rename(folder.parent / "elsewhere too")
    return "no class folder"


@pytest.mark.parametrize("spoil", [empty_class, hidden_files_only, one_class, no_class])
def test_folders_that_are_no_classes_are_refused(tmp_path, write_folder, spoil):
    folder = write_folder(count=3)
    words = spoil(folder)
    with pytest.raises(DataError) as caught:
        ingest_source(f"folder://{folder}", tmp_path / "raw")
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "raw").exists()


def test_train_and_test_must_have_the_same_classes(tmp_path, write_folder):
    write_folder("photos/train", count=3)
    folder = write_folder("photos/test", count=3, classes=("cat", "horse")).parent
    with pytest.raises(DataError, match="'dog' has a folder under train only"):
        ingest_source(f"folder://{folder}", tmp_path / "raw")
