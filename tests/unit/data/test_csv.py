import csv
import io
import math
import string
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.config import DataConfig
from slipway.data.dataset import Dataset
from slipway.data.ingest import ingest_source
from slipway.data.manifest import SPLITS
from slipway.data.preprocess import build_dataset
from slipway.data.validation import validate_raw
from slipway.errors import DataError

ROWS = "".join(
    f"{number},{number / 7:.3f},{['red', 'green', 'blue'][number % 3]},{['no', 'yes'][number % 2]}\n" for number in range(90)
)
TABLE = f"number,share,color,answer\n{ROWS}"


def prepare(tmp_path, path, options="target=answer"):
    source = f"csv://{path}?{options}"
    ingest_source(source, tmp_path / "raw")
    return build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig(source=source))


def roles(manifest):
    return {feature.name: feature.role for feature in manifest.features}


def test_columns_of_numbers_are_numeric_and_all_others_categorical(tmp_path, write_csv):
    manifest = prepare(tmp_path, write_csv(TABLE))
    assert roles(manifest) == {"number": "numeric", "share": "numeric", "color": "categorical"}
    assert manifest.class_names == ("no", "yes")
    assert manifest.statistics_of("color").categories == ("blue", "green", "red")


def test_numbers_can_be_declared_names_and_columns_left_out(tmp_path, write_csv):
    manifest = prepare(tmp_path, write_csv(TABLE), "target=answer&categorical=number&drop=share,color")
    assert roles(manifest) == {"number": "categorical"}


def test_other_delimiters_and_odd_names_are_read(tmp_path, write_csv):
    text = TABLE.replace(",", ";").replace("answer", "is it, really?").replace("share", "a & b")
    manifest = prepare(tmp_path, write_csv(text), "target=is it, really%3F&drop=a %26 b&delimiter=;")
    assert roles(manifest) == {"number": "numeric", "color": "categorical"}


def test_a_byte_order_mark_and_windows_lines_change_nothing(tmp_path, write_csv):
    plain = prepare(tmp_path, write_csv(TABLE))
    path = tmp_path / "windows.csv"
    path.write_bytes(b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode())
    assert prepare(tmp_path, path).dataset_id == plain.dataset_id


def test_missing_numbers_are_nan_and_missing_categories_null(tmp_path, write_csv):
    text = TABLE.replace("\n3,", "\n,").replace("\n4,", "\nNA,").replace(",green,", ", ,")
    manifest = prepare(tmp_path, write_csv(text))
    dataset = Dataset.open(tmp_path / "dataset")
    numbers = np.concatenate([dataset.read_column(split, "number") for split in SPLITS])
    colors = np.concatenate([dataset.read_column(split, "color") for split in SPLITS])
    assert np.isnan(numbers).sum() == 2
    assert sum(color is None for color in colors) == 30
    assert set(manifest.statistics_of("color").categories) == {"blue", "red"}
    missing = manifest.statistics_of("color").num_missing
    assert missing == sum(color is None for color in dataset.read_column("train", "color"))


def test_statistics_are_those_of_the_train_split_alone(tmp_path, write_csv):
    manifest = prepare(tmp_path, write_csv(TABLE))
    values = Dataset.open(tmp_path / "dataset").read_column("train", "share").astype(np.float64)
    statistics = manifest.statistics_of("share")
    assert statistics.mean == pytest.approx((values.mean(),), rel=1e-12)
    assert statistics.std == pytest.approx((values.std(),), rel=1e-12)
    assert (statistics.minimum, statistics.maximum) == (values.min(), values.max())


def test_a_row_keeps_its_split_when_another_row_makes_its_column_categorical(tmp_path, write_csv):
    def splits_by_share(text):
        prepare(tmp_path, write_csv(text))
        dataset = Dataset.open(tmp_path / "dataset")
        return {float(share): split for split in SPLITS for share in dataset.read_column(split, "share")}

    before = splits_by_share(TABLE)
    after = splits_by_share(f"{TABLE}unknown,77,red,yes\n")
    assert {share: after[share] for share in before} == before


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (TABLE, "target=anser", ["target=anser", "'answer'?", "'color'"]),
        (TABLE, "target=answer&drop=colour", ["drop=colour", "'color'?"]),
        (TABLE, "target=answer&categorical=numbr", ["categorical=numbr", "'number'?"]),
        (TABLE, "categorical=number", ["names no target", "?target=COLUMN"]),
        (TABLE, "target=answer&drop=answer", ["both target and dropped"]),
        (TABLE, "target=answer&drop=number,share,color", ["no column is left"]),
        (TABLE, "target=answer&delimiter=tab", ["delimiter", "one ASCII character"]),
        (TABLE.replace(",", ";"), "target=answer", ["delimiter=;"]),
        (TABLE.replace("share", "number"), "target=answer", ["several columns are called 'number'"]),
        (TABLE.replace("share", " "), "target=answer", ["column 2 of 4 has no name"]),
        (TABLE.replace("color", "label"), "target=answer", ["'label' is reserved", "drop=label"]),
        (TABLE.replace("color", "probabilities"), "target=answer", ["'probabilities' is reserved", "drop=probabilities"]),
        ("number,answer\n", "target=answer", ["holds a header and no rows"]),
        ("", "target=answer", ["is empty"]),
        (TABLE.replace("\n7,", "\n"), "target=answer", ["row 8 has 3 cells where the header names 4", "(1 such rows)"]),
        (TABLE.replace("\n5,", "\n5,5,"), "target=answer", ["row 6 has 5 cells"]),
        (TABLE.replace("yes", "no"), "target=answer", ["one class only ('no')"]),
        (TABLE.replace("blue,yes", "blue,"), "target=answer", ["15 rows have no value in the target column", "rows 6, 12"]),
    ],
)
def test_each_kind_of_bad_table_is_named_with_its_remedy(tmp_path, write_csv, text, options, words):
    path = write_csv(text)
    with pytest.raises(DataError) as caught:
        ingest_source(f"csv://{path}?{options}", tmp_path / "raw")
    assert [word for word in words if word not in str(caught.value)] == []
    assert str(path) in str(caught.value)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(("place", "line"), [("header", 1), ("cell", 92)])
def test_a_file_that_is_not_utf8_is_named_with_the_line(tmp_path, place, line):
    path = tmp_path / "latin1.csv"
    text = TABLE.replace("color", "größe") if place == "header" else f"{TABLE}1,2,größe,no\n"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(DataError, match=f"line {line}, byte .* is not UTF-8.*iconv"):
        ingest_source(f"csv://{path}?target=answer", tmp_path / "raw")


def test_a_folder_is_not_a_table(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        ingest_source(f"csv://{tmp_path}?target=a", tmp_path / "raw")


@pytest.mark.parametrize(
    ("text", "rule", "severity"),
    [
        (TABLE.replace("\n5,", "\ninf,"), "finite", "block"),
        (TABLE.replace("\n5,", "\n1e300,"), "finite", "block"),
        (TABLE.replace("red", "").replace("green", "").replace("blue", ""), "empty_column", "block"),
        (TABLE.replace("red", "blue").replace("green", "blue"), "constant_column", "warn"),
        (
            "id,x,y\n" + "".join(f"person {number},{number % 9},{number % 2}\n" for number in range(99)),
            "identifier_column",
            "warn",
        ),
    ],
)
def test_columns_that_are_of_no_use_are_found(tmp_path, write_csv, text, rule, severity):
    source = f"csv://{write_csv(text)}?target={'y' if text.startswith('id') else 'answer'}"
    ingest_source(source, tmp_path / "raw")
    report = validate_raw(tmp_path / "raw", DataConfig(source=source))
    assert [finding.severity for finding in report.findings if finding.rule == rule] == [severity]


def test_a_number_too_large_to_have_a_mean_is_refused_without_a_data_set(tmp_path, write_csv):
    with pytest.raises(DataError, match="row 6, column 'number': the number is infinite or too large"):
        prepare(tmp_path, write_csv(TABLE.replace("\n5,", "\n1e300,")))
    assert not (tmp_path / "dataset").exists()


MISSING_WORDS = {"NA", "N/A", "n/a", "NaN", "nan", "NULL", "Null", "null", "None"}
numbers = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)
words = st.none() | st.text(string.ascii_letters + 'äß,;"\n ', min_size=1).map(str.strip).filter(
    lambda word: word and word not in MISSING_WORDS
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.tuples(numbers, words), min_size=1, max_size=8))
def test_every_cell_comes_back_as_it_was_written(drawn):
    rows = [(number, *drawn[number % len(drawn)], ["no", "yes"][number % 2]) for number in range(120)]
    text = io.StringIO()
    csv.writer(text).writerows([("key", "number", "word", "answer"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text(text.getvalue(), newline="")
        prepare(Path(folder), path, "target=answer&categorical=key,word")
        assert read_back(Path(folder) / "dataset") == {
            (str(key), number if number is None else float(np.float32(number)), word, answer)
            for key, number, word, answer in rows
        }


def read_back(dataset_dir):
    dataset = Dataset.open(dataset_dir)
    rows = set()
    for split in SPLITS:
        columns = [dataset.read_column(split, name).tolist() for name in ("key", "number", "word", "label")]
        for key, number, word, label in zip(*columns, strict=True):
            rows.add((key, None if math.isnan(number) else number, word, dataset.manifest.class_names[label]))
    return rows
