"""One's own data: the same command, nothing but `data.source` (and quicker settings) changed."""

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tests.slipway_home import Home


def test_an_idx_folder_of_the_mnist_family_goes_through_the_pipeline(served: Home, tmp_path: Path) -> None:
    digits = load_digits()
    images = [np.asarray(Image.fromarray((image * 15).astype(np.uint8)).resize((28, 28))) for image in digits.images[:900]]
    folder = tmp_path / "handwriting"
    folder.mkdir()
    write_idx(folder, "train", np.stack(images[:700]), digits.target[:700])
    write_idx(folder, "t10k", np.stack(images[700:]), digits.target[700:900])

    result = served.slipway("run", f"data.source=idx://{folder}", "train.epochs=8")

    assert result.returncode == 0, result.stdout + result.stderr
    report = served.report()
    assert report["model_name"] == "handwriting"
    assert report["metrics"]["accuracy"] > 0.9


def test_a_folder_of_photographs_of_any_size_and_mode_goes_through_the_pipeline_and_answers(served: Home, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos)

    result = served.slipway(
        "run", f"data.source=folder://{photos}", "data.image_size=32", "train.epochs=10", "gate.min_score=0.8", timeout=290
    )

    assert result.returncode == 0, result.stdout + result.stderr
    report = served.report()
    assert report["model_name"] == "photos"
    assert {stage["name"] for stage in report["stages"]} >= {"train", "deploy"}


def test_data_that_validation_blocks_ends_the_run_with_a_readable_report(served: Home, tmp_path: Path) -> None:
    photos = tmp_path / "damaged"
    write_photos(photos)
    (photos / "stripes" / "not-an-image.png").write_text("this is no picture")

    result = served.slipway("run", f"data.source=folder://{photos}", "data.image_size=32")

    assert result.returncode == 1
    assert "not-an-image.png" in result.stdout + result.stderr
    report = served.report()
    assert report["status"] == "FAILED"
    assert "not-an-image.png" in report["error"]
    written = list((served.path / "runs" / report["run_id"] / "validation").glob("report.html"))
    assert written
    assert "not-an-image.png" in written[0].read_text()


def write_idx(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> None:
    header = struct.pack(">IIII", 0x803, *images.shape)
    with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz", "wb") as stream:
        stream.write(header + images.astype(np.uint8).tobytes())
    with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz", "wb") as stream:
        stream.write(struct.pack(">II", 0x801, len(labels)) + labels.astype(np.uint8).tobytes())


def write_photos(root: Path, num_images: int = 90) -> None:
    """Two classes, stripes and discs, in several formats, sizes and colour modes."""
    generator = np.random.default_rng(0)
    formats = (("jpg", "RGB"), ("png", "RGBA"), ("png", "L"), ("webp", "RGB"))
    for name in ("discs", "stripes"):
        (root / name).mkdir(parents=True)
        for index in range(num_images):
            width, height = (int(side) for side in generator.integers(40, 160, size=2))
            rows, columns = np.mgrid[0:height, 0:width]
            if name == "stripes":
                mask = (rows // int(generator.integers(4, 9))) % 2 == 0
            else:
                centre, radius = (height / 2, width / 2), min(width, height) * generator.uniform(0.25, 0.45)
                mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
            colours = generator.integers(0, 256, size=(2, 3))
            noise = generator.integers(0, 30, size=(height, width, 3))
            pixels = np.clip(np.where(mask[..., None], colours[0], 255 - colours[0]) + noise, 0, 255).astype(np.uint8)
            suffix, mode = formats[index % len(formats)]
            Image.fromarray(pixels).convert(mode).save(root / name / f"{index:03}.{suffix}")
