"""The page in a browser: the same bytes and probabilities as in Python, without a request to elsewhere."""

import base64
import functools
import http.server
import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jaxnets
from jaxnets.commands import export, web
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue

pytestmark = pytest.mark.slow
SIZES = ((300, 200), (224, 400), (1000, 777), (224, 224), (37, 41))
NETWORK = "imagenet:efficientnet_lite0"
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
CLASSIFY = """
const [text, done] = arguments;
(async () => {
  await jaxnets.ready;
  const pixels = await jaxnets.read(new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]));
  const {probabilities, maps} = await jaxnets.classify(pixels);
  const chosen = probabilities.indexOf(Math.max(...probabilities));
  const map = maps ? Array.from(jaxnets.mapOf(maps.data, maps.dims, chosen)) : null;
  done({pixels: Array.from(pixels), probabilities, map});
})().catch((error) => done({error: String(error)}));
"""


PICTURE = "return document.getElementById('picture').toDataURL()"
LINES_OF_A_WORD = """
const range = document.createRange();
range.selectNodeContents(document.querySelector("#facts th"));
return range.getClientRects().length;
"""
BUTTON_HEIGHTS = """
return [...document.querySelectorAll("button, label")].filter((each) => each.checkVisibility())
  .map((each) => each.getBoundingClientRect().height);
"""
DELAY_THE_NEXT_PICTURE = """
const create = createImageBitmap;
window.delayed = 1;
window.createImageBitmap = async (...given) => {
  window.createImageBitmap = create;
  await new Promise((resume) => setTimeout(resume, 1000));
  setTimeout(() => { delayed = 0; }, 500);
  return create(...given);
};
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("no chromedriver: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", *FAKE_CAMERA):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as chrome:
        chrome.set_script_timeout(120)
        yield chrome


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.export(Path(NETWORK), tmp_path_factory.mktemp("page") / "out", file_format="web")


def _pictures(suffix: str, **options: Any) -> Iterator[bytes]:
    """Images of each size, as files."""
    source = SyntheticTissue(len(SIZES), 128, seed=3)
    for index, size in enumerate(SIZES):
        data = io.BytesIO()
        Image.fromarray(source[index]["image"]).resize(size).save(data, suffix, **options)
        yield data.getvalue()


def _requested(browser: Any) -> list[str]:
    """Addresses of requests that are not for files, blobs or data."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    sent = (message for message in messages if message["method"] == "Network.requestWillBeSent")
    addresses = (message["params"]["request"]["url"] for message in sent)
    return [address for address in addresses if address.startswith("http")]


def test_pictures_have_the_probabilities_of_python(browser: Any, page: Path) -> None:
    network: Any = jaxnets.load(NETWORK)
    browser.get(f"file://{page / web.PAGE}")
    for data in _pictures("PNG"):
        found = browser.execute_async_script(CLASSIFY, base64.b64encode(data).decode())
        assert "error" not in found, found
        pixels = network.preprocess.read(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(np.reshape(found["pixels"], pixels.shape), pixels)
        expected = network.probabilities(pixels[None])[0]
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-4)
        heat = network.gradcam(pixels[None], expected.argmax()[None])[0]
        np.testing.assert_allclose(np.reshape(found["map"], heat.shape), heat, atol=1e-4)
    assert _requested(browser) == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_jpegs_have_the_same_class(browser: Any, page: Path) -> None:
    network: Any = jaxnets.load(NETWORK)
    browser.get(f"file://{page / web.PAGE}")
    orientation = Image.Exif()
    orientation[0x0112] = 6
    for data in _pictures("JPEG", quality=90, exif=orientation):
        found = browser.execute_async_script(CLASSIFY, base64.b64encode(data).decode())
        path = page.parent / "picture.jpg"
        path.write_bytes(data)
        pixels = network.preprocess.read(path)
        expected = network.probabilities(pixels[None])[0]
        assert np.argmax(found["probabilities"]) == expected.argmax()
        assert np.abs(np.reshape(found["pixels"], pixels.shape).astype(int) - pixels).max() <= 3
        assert np.abs(np.array(found["probabilities"]) - expected).max() < 0.02


def test_a_chosen_file_is_shown(browser: Any, page: Path) -> None:
    path = page.parent / "picture.png"
    path.write_bytes(next(_pictures("PNG")))
    browser.get(f"file://{page / web.PAGE}")
    _wait(browser, lambda: browser.find_element("id", "status").text == "Ready.")
    browser.find_element("id", "file").send_keys(str(path))
    _wait(browser, lambda: "%" in browser.find_element("id", "status").text)
    label, _, confidence = browser.find_element("id", "status").text.rpartition(", ")
    rows = browser.find_elements("css selector", "#classes tr")
    assert len(rows) == 5
    assert rows[0].text.split("\n")[0].startswith(label)
    assert confidence in rows[0].text
    assert label in browser.find_element("id", "about-map").text
    path.write_text("no picture")
    browser.find_element("id", "file").send_keys(str(path))
    _wait(browser, lambda: "cannot be read" in browser.find_element("id", "status").text)
    assert not browser.find_element("id", "result").is_displayed()


def test_the_picture_chosen_last_is_shown(browser: Any, page: Path) -> None:
    slow, fast = page.parent / "slow.png", page.parent / "fast.png"
    Image.new("RGB", (224, 224)).save(slow)
    fast.write_bytes(next(_pictures("PNG")))
    browser.get(f"file://{page / web.PAGE}")
    status, file = (browser.find_element("id", name) for name in ("status", "file"))
    shown = []
    for path in (slow, fast):
        file.send_keys(str(path))
        _wait(browser, lambda: "%" in status.text and status.text not in shown)
        shown.append(status.text)
    browser.execute_script(DELAY_THE_NEXT_PICTURE)
    file.send_keys(str(slow))
    file.send_keys(str(fast))
    _wait(browser, lambda: browser.execute_script("return delayed === 0"))
    browser.execute_async_script("jaxnets.classify(new Uint8Array(3 * 224 * 224)).then(arguments[0])")
    assert status.text == shown[1]


def test_a_browser_without_webassembly_is_named(browser: Any, page: Path) -> None:
    source = {"source": "delete globalThis.WebAssembly"}
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source)
    try:
        browser.get(f"file://{page / web.PAGE}")
        _wait(browser, lambda: "has no WebAssembly" in browser.find_element("id", "status").text)
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_the_keyboard_chooses_takes_and_shows_a_picture(browser: Any, page: Path) -> None:
    browser.get(f"file://{page / web.PAGE}")
    _wait(browser, lambda: browser.find_element("id", "status").text == "Ready.")
    assert [_press(browser, "TAB") for _ in range(2)] == ["file", "camera"]
    _press(browser, "ENTER")
    _wait(browser, lambda: _focused(browser) == "shoot")
    assert browser.find_element("id", "video").is_displayed()
    assert _press(browser, "SPACE") == "camera"
    assert not browser.find_element("id", "video").is_displayed()
    _wait(browser, lambda: "%" in browser.find_element("id", "status").text)
    assert _press(browser, "TAB") == "toggle"
    with_map = browser.execute_script(PICTURE)
    _press(browser, "SPACE")
    assert browser.find_element("id", "toggle").get_attribute("aria-pressed") == "false"
    assert browser.execute_script(PICTURE) != with_map


def test_the_camera_can_be_closed(browser: Any, page: Path) -> None:
    browser.get(f"file://{page / web.PAGE}")
    camera = browser.find_element("id", "camera")
    for _ in range(2):
        camera.click()
        _wait(browser, lambda: camera.text == "Close the camera")
        tracks = browser.execute_script("return (window.tracks = video.srcObject.getTracks()).length")
        camera.click()
        assert (tracks, camera.text) == (1, "Use the camera")
        assert browser.execute_script("return tracks[0].readyState") == "ended"
    refuse = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('no permission'))"
    browser.execute_script(refuse)
    camera.click()
    _wait(browser, lambda: "cannot be used: no permission" in browser.find_element("id", "status").text)
    assert _focused(browser) == "camera"


def test_a_phone_scrolls_down_only(browser: Any, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        browser.get(f"file://{page / web.PAGE}")
        path = page.parent / "picture.png"
        path.write_bytes(next(_pictures("PNG")))
        browser.find_element("id", "file").send_keys(str(path))
        _wait(browser, lambda: "%" in browser.find_element("id", "status").text)
        browser.find_element("id", "camera").click()
        _wait(browser, lambda: browser.find_element("id", "video").is_displayed())
        width = "return [innerWidth, document.documentElement.scrollWidth]"
        assert browser.execute_script(width) == [PHONE["width"], PHONE["width"]]
        assert browser.execute_script(LINES_OF_A_WORD) == 1
        heights = browser.execute_script(BUTTON_HEIGHTS)
        assert min(heights) >= 24  # WCAG 2.2, 2.5.8
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_large_model_is_read_from_a_server(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_EMBEDDED", 0)
    out = export.export(Path(NETWORK), tmp_path / "out", file_format="web")
    browser.get(f"file://{out / web.PAGE}")
    _wait(browser, lambda: "python -m http.server" in browser.find_element("id", "status").text)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=out)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        browser.get(address)
        _wait(browser, lambda: browser.find_element("id", "status").text == "Ready.")
        assert all(each.startswith(address) for each in _requested(browser))
        server.shutdown()


def _press(browser: Any, key: str) -> str:
    """Presses a key and returns the focused element's id."""
    from selenium.webdriver import ActionChains, Keys

    ActionChains(browser).send_keys(getattr(Keys, key)).perform()
    return _focused(browser)


def _focused(browser: Any) -> str:
    return browser.switch_to.active_element.get_attribute("id")


def _wait(browser: Any, condition: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda _: condition())
