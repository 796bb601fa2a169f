from html.parser import HTMLParser

import numpy as np
import pytest

from slipway.config import DataConfig
from slipway.data.ingest import ingest_source
from slipway.data.validation import validate_raw
from slipway.data.validation_report import write_validation_report
from slipway.errors import DataRejectedError

LABELS = [number % 10 for number in range(300)]


@pytest.fixture
def validate(tmp_path, write_idx):
    def run(images, labels, test=None, **config):
        folder = write_idx(images, labels)
        if test is not None:
            write_idx(*test, part="t10k")
        source = f"idx://{folder}"
        ingest_source(source, tmp_path / "raw")
        return validate_raw(tmp_path / "raw", DataConfig(source=source, **config))

    return run


def find(report, rule):
    return next((finding for finding in report.findings if finding.rule == rule), None)


def test_good_data_is_accepted_without_a_warning(validate, random_images):
    report = validate(random_images(300), LABELS)
    assert report.accepted
    assert {finding.severity for finding in report.findings} == {"info"}
    assert report.class_counts == {str(digit): 30 for digit in range(10)}
    assert report.facts["Pixels (width x height)"] == "5 x 6"


def test_a_label_outside_its_range_blocks_and_is_located(validate, random_images):
    report = validate(random_images(300), [*LABELS[:299], 200])
    finding = find(report, "label_range")
    assert finding.severity == "block"
    assert finding.where[0].endswith("train-images-idx3-ubyte[299] has label 200")
    assert "range 0 to 9" in finding.message


@pytest.mark.parametrize(("limit", "severity"), [(0.3, "warn"), (0.29, "block")])
def test_repeated_samples_block_beyond_the_limit(validate, random_images, limit, severity):
    images = random_images(300)
    images[-90:] = images[:90]
    finding = find(validate(images, LABELS, max_duplicates=limit), "duplicates")
    assert (finding.severity, finding.figures["count"]) == (severity, 90)


@pytest.mark.parametrize(("limit", "severity"), [(0.02, "warn"), (0.01, "block")])
def test_images_of_one_colour_block_beyond_the_limit(validate, random_images, limit, severity):
    images = random_images(300)
    images[:6] = np.arange(6, dtype=np.uint8)[:, np.newaxis, np.newaxis]
    finding = find(validate(images, LABELS, max_constant=limit), "constant")
    assert (finding.severity, finding.figures["count"]) == (severity, 6)


def test_equal_images_of_different_classes_are_pointed_out_together(validate, random_images):
    images = random_images(300)
    images[101] = images[0]
    finding = find(validate(images, LABELS), "labels_disagree")
    assert finding.severity == "warn"
    assert [place.rpartition("[")[2] for place in finding.where] == ["0] as '0'", "101] as '1'"]


@pytest.mark.parametrize(("limit", "severity"), [(0.1, "warn"), (0.09, "block")])
def test_test_samples_that_were_trained_on_block_beyond_the_limit(validate, random_images, limit, severity):
    images = random_images(300)
    test_images = random_images(100, seed=1)
    test_images[:10] = images[:10]
    report = validate(images, LABELS, (test_images, LABELS[:100]), max_leaked=limit)
    finding = find(report, "leaked")
    assert (finding.severity, finding.figures["count"]) == (severity, 10)
    assert find(report, "duplicates").figures["count"] == 10


def test_leaks_do_not_matter_where_the_sources_split_is_not_used(validate, random_images):
    images = random_images(300)
    report = validate(images, LABELS, (images[:100], LABELS[:100]), split_by="hash", max_duplicates=0.5)
    assert find(report, "leaked").severity == "info"
    assert report.accepted


def test_a_small_class_blocks_and_is_named(validate, random_images):
    labels = [0] * 9 + [1] * 291
    finding = find(validate(random_images(300), labels), "min_class_samples")
    assert finding.severity == "block"
    assert "'0' has 9" in finding.message
    assert find(validate(random_images(300), labels, min_class_samples=9), "min_class_samples") is None


def test_an_imbalance_blocks_beyond_the_limit(validate, random_images):
    labels = [0] * 20 + [1] * 280
    for limit, severity in ((14.0, "info"), (13.9, "block")):
        assert find(validate(random_images(300), labels, max_imbalance=limit), "class_balance").severity == severity


def test_asking_for_a_test_set_that_is_not_there_blocks(validate, random_images):
    assert find(validate(random_images(300), LABELS, split_by="source"), "split").severity == "block"


def test_a_source_of_which_nothing_can_be_read_is_refused_and_not_a_crash(tmp_path, write_folder):
    folder = write_folder(count=12)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"lost")
    source = f"folder://{folder}"
    ingest_source(source, tmp_path / "raw")
    report = validate_raw(tmp_path / "raw", DataConfig(source=source))
    assert find(report, "unreadable").figures["share"] == 1.0


def test_a_refusal_says_what_blocks_and_where_the_report_lies(validate, random_images, tmp_path):
    images = random_images(300)
    images[:30] = 7
    report = validate(images, [*LABELS[:299], 200])
    with pytest.raises(DataRejectedError) as caught:
        report.require_accepted(tmp_path / "report.html")
    message = str(caught.value)
    assert "outside the range 0 to 9" in message
    assert "data.max_constant=0.01" in message
    assert str(tmp_path / "report.html") in message


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text, self.tags, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_page_that_says_what_was_found(tmp_path, write_csv):
    rows = "".join(f"{number},{'<b>yes' if number % 2 else 'n|o'}\n" for number in range(60))
    source = f"csv://{write_csv('<i>amount,answer' + chr(10) + rows + 'inf,n|o' + chr(10))}?target=answer"
    ingest_source(source, tmp_path / "raw")
    report = validate_raw(tmp_path / "raw", DataConfig(source=source))
    write_validation_report(report, tmp_path / "report.html", tmp_path / "report.md")
    page = Reader()
    page.feed((tmp_path / "report.html").read_text())
    text = " ".join(page.text)
    for words in ("Refused: 1 finding must be dealt with", "<b>yes", "<i>amount", "infinite", source):
        assert words in text
    assert {"script", "b", "i"} & set(page.tags) == set()
    assert page.links == []
    markdown = (tmp_path / "report.md").read_text()
    assert "| n\\|o | 31 |" in markdown
    assert "**Blocks** (finite)" in markdown
