"""The report in headless Chromium, opened as a file: nothing in the console, nothing loaded, videos play."""

import shutil

import numpy as np
import pytest

from shopfloor.launch.flywheel import report
from shopfloor.launch.pages.video import video_tag

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip(
            "Chromium and its driver are not installed: apt-get install chromium chromium-driver"
        )
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1200,3000",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
    )
    yield driver
    driver.quit()


def moving(count=30, size=96):
    frames = np.zeros((count, size, size, 3), np.uint8)
    for index in range(count):
        frames[index, :, index : index + 8] = (250, 120, 0)
    return frames


@pytest.fixture
def page(summary, config, monkeypatch):
    monkeypatch.setattr(
        report, "_videos", lambda *_: f"<figure>{video_tag(moving(), 'before')}</figure>" * 2
    )
    config.out.mkdir()
    (config.out / "run.json").write_text('{"versions": {"shopfloor": "0.1.0"}}')
    return report.write_report(config.out, summary)


def test_the_report_in_a_browser(browser, page, wait_until):
    check(browser, page, charts=3, videos=2, wait_until=wait_until)


def check(browser, path, charts, videos, wait_until):
    browser.get_log("performance")
    browser.get(path.as_uri())
    wait_until(
        lambda: browser.execute_script(
            "return document.readyState == 'complete' && [...document.querySelectorAll('video')]"
            ".every(v => v.error || v.currentTime > 0.1)"
        )
    )
    errors = [
        entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")
    ]
    assert errors == []
    sent = [
        entry["message"]
        for entry in browser.get_log("performance")
        if 'Network.requestWillBeSent"' in entry["message"]
    ]
    assert all('"url":"file:' in message or '"url":"data:' in message for message in sent)
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('svg.chart')].map(s => s.getBoundingClientRect())"
        ".filter(box => box.width > 200 && box.height > 60).length"
    )
    assert drawn == charts
    points = browser.execute_script("return document.querySelectorAll('svg circle.dot').length")
    assert points >= 3
    state = browser.execute_script(
        "return [...document.querySelectorAll('video')]"
        ".map(v => [v.currentTime, v.videoWidth, v.error && v.error.message])"
    )
    assert len(state) == videos
    for seconds, width, error in state:
        assert error is None
        assert width >= 96
        assert seconds > 0.1
    assert browser.execute_script("return document.documentElement.lang") == "en"
    assert browser.title.startswith("shopfloor flywheel: ")
    overflow = browser.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('svg, video, img')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.getAttribute('alt'))).length"
    )
    assert unnamed == 0


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_overflows_on_small_screens(browser, page, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        browser.get(page.as_uri())
        over = browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert over <= 0
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(browser, page, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.get(page.as_uri())
    ink, paper = browser.execute_script(
        "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        ".map(c => c.match(/\\d+/g).slice(0, 3).map(Number))"
    )
    contrast = abs(sum(ink) - sum(paper)) / 3
    assert contrast > 150
    assert (sum(paper) > 600) == (scheme == "light")
