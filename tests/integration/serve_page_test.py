"""The page of the service, in a real browser."""

import pathlib
import shutil

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from serve_process import serving

import prompt_tuning as pt
from prompt_tuning.checkpoints import prompt_files

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MODEL = "package://assets/t5_1_1_reviews"
TEXT = "a warm and funny film"
SCRIPT = "<img src=x onerror=\"document.title='broken into'\"><script>alert(1)</script>"
TOKEN = "open-sesame-1234"
SECONDS = 20

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no chromium here"),
]


@pytest.fixture(scope="module")
def prompt(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("page") / "movies.safetensors"
  array = np.random.default_rng(0).normal(size=(5, 256)).astype(np.float32)
  prompt_files.save_prompt(str(path), array)
  return path


@pytest.fixture(scope="module")
def server(prompt, tmp_path_factory):
  token = tmp_path_factory.mktemp("token") / "token"
  token.write_text(TOKEN)
  with serving(
    "--gin_file=experiments/movie_reviews_predictor.gin",
    "--gin.MAX_INPUT_LEN=32",
    "--gin.MAX_OUTPUT_LEN=32",
    "--gin.MAX_PROMPT_LEN=8",
    "--gin.BATCH_SIZE=1",
    "--prompt",
    f"movies={prompt}",
    "--labels",
    "movies=negative,positive",
    f"--token-file={token}",
    "--port=0",
  ) as found:
    yield found


@pytest.fixture(scope="module")
def predictor(prompt):
  """The same, by itself."""
  config = pt.T5Config.from_gin("models/t5_1_1_reviews.gin")
  model = pt.T5(config, pt.load_checkpoint(MODEL))
  return pt.Predictor(
    model,
    {"movies": str(prompt)},
    {"movies": ["negative", "positive"]},
    max_prompt_len=8,
    max_input_len=32,
    max_output_len=32,
    batch_size=1,
  )


@pytest.fixture(scope="module")
def browser():
  options = webdriver.ChromeOptions()
  options.binary_location = CHROMIUM
  for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
    options.add_argument(f"--{flag}")
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  found = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
  yield found
  found.quit()


@pytest.fixture
def page(browser, server):
  """The page, opened anew, with the token typed."""
  browser.set_window_size(900, 1000)
  browser.get(server.url)
  until(browser, lambda: element(browser, "error").is_displayed())
  assert "token" in element(browser, "error").text
  element(browser, "token").send_keys(TOKEN + Keys.TAB)
  until(browser, lambda: len(Select(element(browser, "prompt")).options) == 2)
  assert not element(browser, "error").is_displayed()
  yield browser
  assert browser.title == "prompt-tuning"
  refused = [row for row in browser.get_log("browser") if "Security Policy" in str(row)]
  assert refused == []


def element(browser, name: str):
  return browser.find_element(By.ID, name)


def until(browser, is_so) -> None:
  WebDriverWait(browser, SECONDS, 0.05).until(lambda _: is_so())


def ask(page, text: str, prompt: str = "", labels: str = "", shown: str = "result") -> None:
  """Types, chooses, asks, and waits for what is shown."""
  element(page, "text").clear()
  element(page, "text").send_keys(text)
  Select(element(page, "prompt")).select_by_value(prompt)
  element(page, "labels").clear()
  element(page, "labels").send_keys(labels)
  element(page, "ask").click()
  until(page, lambda: element(page, "ask").is_enabled())
  until(page, lambda: element(page, shown).is_displayed())


def rows(page) -> list[tuple[str, float, float]]:
  """Label, share in percent and score of each bar; bars are as wide as shares."""
  found = []
  for row in page.find_elements(By.CSS_SELECTOR, "#scores li"):
    share = float(row.find_element(By.CLASS_NAME, "share").text.removesuffix(" %"))
    score = row.find_element(By.CLASS_NAME, "score")
    assert float(score.text) == pytest.approx(
      float(score.get_attribute("data-score")), abs=1e-4
    )
    track = row.find_element(By.CLASS_NAME, "track").size["width"]
    found.append(
      (
        row.find_element(By.CLASS_NAME, "name").text,
        share,
        float(score.get_attribute("data-score")),
      )
    )
    wanted = "return arguments[0].style.width"
    width = page.execute_script(wanted, row.find_element(By.CLASS_NAME, "bar"))
    assert track > 0 and float(width.removesuffix("%")) == pytest.approx(share, abs=0.06)
  return found


def check(page, answer, labels) -> None:
  """The page shows an answer of the predictor."""
  assert element(page, "text-out").text == answer.text
  found = rows(page)
  assert [name for name, _, _ in found] == list(labels)
  np.testing.assert_allclose([score for *_, score in found], answer.scores, atol=1e-5)
  weights = np.exp(answer.scores)
  np.testing.assert_allclose(
    [share for _, share, _ in found], 100 * weights / weights.sum(), atol=0.06
  )
  best = page.find_element(By.CSS_SELECTOR, "#scores .best .name").text
  assert best == answer.text


def test_a_prompt_s_labels_are_shown_with_the_predictor_s_scores(page, predictor):
  ask(page, TEXT, "movies")
  (own,) = predictor.predict([TEXT], "movies")
  check(page, own, ["negative", "positive"])
  assert element(page, "labels").get_attribute("placeholder") == "negative, positive"


def test_labels_may_be_typed_for_the_untuned_model(page, predictor):
  ask(page, TEXT, "", "good, bad , so so")
  (own,) = predictor.rank([TEXT], ["good", "bad", "so so"])
  check(page, own, ["good", "bad", "so so"])


def test_scores_per_token_are_a_box_to_tick(page, predictor):
  element(page, "normalized").click()
  ask(page, TEXT, "movies", "so so, bad")
  (own,) = predictor.rank([TEXT], ["so so", "bad"], "movies", length_normalized=True)
  check(page, own, ["so so", "bad"])


def test_the_untuned_model_decodes(page, predictor):
  ask(page, TEXT)
  (own,) = predictor.predict([TEXT])
  assert element(page, "text-out").text == (own.text or "(nothing)")
  assert rows(page) == []


def test_a_text_that_is_too_long_is_an_error_in_words(page):
  ask(page, "word " * 60, "movies", shown="error")
  assert "tokens" in element(page, "error").text
  assert "at most 32" in element(page, "error").text
  assert not element(page, "result").is_displayed()
  ask(page, TEXT, "movies")  # and one may go on
  assert not element(page, "error").is_displayed()


def test_what_is_typed_stays_text(page):
  ask(page, SCRIPT[:30], "movies", "<b>x</b>, good")
  assert [name for name, *_ in rows(page)] == ["<b>x</b>", "good"]
  ask(page, TEXT, "movies", f"{SCRIPT}, good", shown="error")
  assert "<script>" in element(page, "error").text
  assert page.find_elements(By.CSS_SELECTOR, "img, #scores b, #error script") == []


def test_names_of_prompts_stay_text(page):
  """The service refuses such names; a page must not rely on it."""
  page.execute_script(
    """
    const row = {name: arguments[0], length: 1, labels: [arguments[0]], metadata: {}};
    window.fetch = async () => new Response(JSON.stringify({prompts: [row]}));
    return list();
    """,
    SCRIPT,
  )
  until(page, lambda: Select(element(page, "prompt")).options[-1].text == SCRIPT)
  Select(element(page, "prompt")).select_by_index(1)
  assert element(page, "labels").get_attribute("placeholder") == SCRIPT
  assert page.find_elements(By.TAG_NAME, "img") == []


def test_the_keyboard_is_enough(page, predictor):
  text = element(page, "text")
  text.send_keys(TEXT)
  order = []
  for _ in range(5):
    page.switch_to.active_element.send_keys(Keys.TAB)
    order.append(page.switch_to.active_element.get_attribute("id"))
  assert order == ["prompt", "labels", "token", "normalized", "ask"]
  Select(element(page, "prompt")).select_by_value("movies")
  text.send_keys(Keys.CONTROL, Keys.ENTER)
  until(page, lambda: element(page, "result").is_displayed())
  (own,) = predictor.predict([TEXT], "movies")
  check(page, own, ["negative", "positive"])


def test_every_field_has_a_label(page):
  for field in page.find_elements(By.CSS_SELECTOR, "textarea, select, input"):
    name = field.get_attribute("id")
    inside = page.find_elements(By.CSS_SELECTOR, f"label[for={name}], label:has(#{name})")
    assert inside and inside[0].text


def right(found) -> float:
  return found.rect["x"] + found.rect["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 900])
def test_it_fits_into_narrow_windows_and_both_schemes(page, width, scheme, tmp_path):
  metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
  page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
  feature = {"name": "prefers-color-scheme", "value": scheme}
  page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
  try:
    ask(page, TEXT, "movies", f"good, {'very' * 8} long, bad")
    inner, content = page.execute_script(
      "return [innerWidth, document.documentElement.scrollWidth]"
    )
    assert inner == width and content <= width
    track, *_ = page.find_elements(By.CLASS_NAME, "track")
    score, *_ = page.find_elements(By.CLASS_NAME, "score")
    assert right(score) == pytest.approx(right(track), abs=1)
    paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == (scheme == "dark")
    assert page.save_screenshot(str(tmp_path / "page.png"))
  finally:
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
