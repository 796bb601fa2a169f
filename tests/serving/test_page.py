"""The page in a real browser: Chromium, headless, driven by its own driver. `.ci/install-tools` installs both."""

import base64
import os
import shutil

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from slipway.export.bundle import read_bundle
from tests.bundles import write_table_bundle
from tests.serving.digits import load_held_out, to_png, write_digits_bundle

WAIT_SECONDS = 30
DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (character) => character.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
for (const kind of ["dragenter", "dragover", "drop"]) {
  document.getElementById("drop").dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
}
"""


def find_browser() -> tuple[str, str]:
    """(Chromium, its driver); without them the test is skipped, and in CI it fails."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if None in found:
        reason = "chromium and chromedriver are not installed: run .ci/install-tools"
        if os.environ.get("CI"):  # noqa: TID251
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def browser():
    chromium, driver = find_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server", "--window-size=1100,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def digits(start_for_module, tmp_path_factory):
    return start_for_module(write_digits_bundle(tmp_path_factory.mktemp("digits") / "bundle").root, name="digits")


@pytest.fixture(scope="module")
def table(start_for_module, tmp_path_factory):
    root = tmp_path_factory.mktemp("table") / "bundle"
    write_table_bundle(root)
    return start_for_module(read_bundle(root).root, name="towns")


def open_page(browser, url: str) -> None:
    browser.get(url)
    wait_for(browser, lambda: browser.find_element(By.TAG_NAME, "body").get_attribute("data-state") == "ready")


def wait_for(browser, condition) -> None:
    WebDriverWait(browser, WAIT_SECONDS, poll_frequency=0.05).until(lambda _: condition())


def text_of(browser, name: str) -> str:
    return browser.find_element(By.ID, name).text


def find_sure_digit() -> tuple[bytes, str]:
    images, labels = load_held_out()
    return to_png(images[0]), str(labels[0])


def test_a_picture_that_is_dropped_gets_its_label_probabilities_and_time(browser, digits):
    png, label = find_sure_digit()
    open_page(browser, f"{digits.url}/docs")
    browser.execute_script(DROP, base64.b64encode(png).decode())
    wait_for(browser, lambda: text_of(browser, "label"))
    assert text_of(browser, "label") == label
    assert len(browser.find_elements(By.CSS_SELECTOR, "#bars li")) == 10
    assert browser.find_element(By.CSS_SELECTOR, "#bars li .name").text == label
    assert "Answered in" in text_of(browser, "took")
    assert browser.find_element(By.ID, "preview").is_displayed()
    assert not browser.get_log("browser")


def test_a_file_is_chosen_and_what_is_no_image_is_said(browser, digits, tmp_path):
    png, label = find_sure_digit()
    (tmp_path / "digit.png").write_bytes(png)
    (tmp_path / "notes.png").write_text("no image")
    open_page(browser, digits.url)
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "digit.png"))
    wait_for(browser, lambda: text_of(browser, "label") == label)
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "notes.png"))
    wait_for(browser, lambda: browser.find_element(By.ID, "error").is_displayed())
    assert "not a JPEG, PNG or WebP image" in text_of(browser, "error")
    assert not browser.find_element(By.ID, "answer").is_displayed()
    browser.get_log("browser")


def test_the_page_runs_under_its_strict_policy_and_loads_nothing_from_elsewhere(browser, digits):
    answer = httpx.get(digits.url, headers={"accept": "text/html"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    open_page(browser, digits.url)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert loaded
    assert all(name.startswith((digits.url, "data:", "blob:")) for name in loaded)
    assert not browser.get_log("browser")


def test_a_slash_behind_the_pages_path_makes_no_difference(browser, digits):
    open_page(browser, f"{digits.url}/docs/")
    assert browser.find_element(By.ID, "document").get_attribute("href") == f"{digits.url}/openapi.json"
    browser.find_element(By.ID, "image-example").click()
    wait_for(browser, lambda: text_of(browser, "label"))
    assert not browser.get_log("browser")


def test_a_row_is_filled_in_and_sent_with_the_keyboard_alone(browser, table):
    open_page(browser, table.url)
    city = browser.find_element(By.NAME, "city")
    city.send_keys("Oslo", Keys.ENTER)
    wait_for(browser, lambda: text_of(browser, "label"))
    assert text_of(browser, "label") == "yes"
    browser.find_element(By.NAME, "city").clear()
    browser.find_element(By.NAME, "age").send_keys("20", Keys.ENTER)
    wait_for(browser, lambda: text_of(browser, "label") == "no")


def test_an_operation_can_be_tried(browser, table):
    open_page(browser, table.url)
    operation = browser.find_element(By.CSS_SELECTOR, "#operations details")
    operation.find_element(By.TAG_NAME, "summary").click()
    operation.find_element(By.TAG_NAME, "button").click()
    wait_for(browser, lambda: "predictions" in operation.find_element(By.TAG_NAME, "pre").text)
    assert operation.find_element(By.TAG_NAME, "pre").text.startswith("200")


def test_an_operation_shows_whether_it_is_open(browser, table):
    open_page(browser, table.url)
    operation = browser.find_element(By.CSS_SELECTOR, "#operations details")

    def read_caret() -> list[str]:
        caret = "getComputedStyle(arguments[0], '::after')"
        read = f"const caret = {caret}; return [caret.width, caret.borderRightWidth, caret.transform]"
        return browser.execute_script(read, operation.find_element(By.TAG_NAME, "summary"))

    closed = read_caret()
    assert closed[:2] == ["8px", "2px"]
    operation.find_element(By.TAG_NAME, "summary").click()
    assert read_caret()[2] != closed[2]
