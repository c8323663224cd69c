"""The range test finds where the loss is lowest, and rates go with the embeddings."""

import json
import math

import numpy as np
import pytest

from prompt_tuning import calibration, checks, config, formats, rates, word_pairs
from prompt_tuning.cli.main import main

DEMO = "--gin_file=experiments/movie_reviews.gin"


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
  pytest.importorskip("matplotlib", reason="matplotlib is not installed; [docs] brings it")
  out = tmp_path_factory.mktemp("rates")
  status = main(
    [
      "rates",
      str(out / "found"),
      DEMO,
      "--gin.BATCH_SIZE=4",
      "--steps=16",
      "--low=1e-3",
      "--high=1e5",
    ]
  )
  return status, out / "found"


def test_the_rate_grows_from_step_to_step(tested):
  status, out = tested
  assert status == 0
  found = json.loads((out / "rates.json").read_text())
  steps = np.diff(np.log(found["rates"]))
  np.testing.assert_allclose(steps, math.log(1e8) / 15, rtol=1e-3)
  assert len(found["losses"]) == len(found["rates"])
  assert max(found["losses"][-4:]) > 1.2 * min(found["losses"])
  assert found["suggested"] == found["lowest"] / 3
  assert (out / "rates.svg").read_text().startswith("<?xml")
  assert sorted(path.name for path in out.iterdir()) == ["rates.json", "rates.svg"]


def test_the_test_ends_where_the_loss_bursts():
  assert list(rates.until_burst([3.0, 2.0, 0.1, 3.9, 4.1, 1.0])) == [
    3.0,
    2.0,
    0.1,
    3.9,
    4.1,
  ]
  assert len(list(rates.until_burst([3.0, math.nan, 1.0]))) == 2
  assert len(list(rates.until_burst([3.0, 11.0, 1.0]))) == 3


def test_the_lowest_of_a_smooth_valley_is_found():
  tried = np.geomspace(1e-3, 10, 41)
  losses = 1.0 + np.log10(tried / 0.1) ** 2
  found = rates.described(tried.tolist(), losses.tolist())
  assert 0.1 <= found["lowest"] <= 0.4  # smoothing lags a little


def test_the_root_mean_square_is_that_of_the_table(tested):
  _, out = tested
  path = "package://assets/t5_1_1_reviews"
  table = np.asarray(formats.load(path)[word_pairs.TABLE], np.float64)
  expected = math.sqrt((table**2).mean())
  found = json.loads((out / "rates.json").read_text())["embedding_rms"]
  assert found == pytest.approx(expected, rel=1e-6)
  assert calibration.learning_rate(path, 0.5) == pytest.approx(expected / 2, rel=1e-6)


def test_a_random_start_is_as_large_as_the_embeddings():
  path = "package://assets/t5_1_1_reviews"
  files = ["experiments/movie_reviews.gin", "prompts/from_random_uniform.gin"]
  bindings = ["MODEL_DIR = 'x'", "PROMPT_LENGTH = 64"]
  settings, _ = config.load("train.train", [*files, "runs/calibrated.gin"], bindings)
  start = settings.learned.prompt.start
  uniform = np.random.default_rng(0).uniform(0, start.scale, 100_000)
  expected = calibration.rms(formats.load(path)[word_pairs.TABLE])
  assert calibration.rms(uniform) == pytest.approx(expected, rel=0.01)
  rate = settings.learning_rate_fn.base_learning_rate
  assert rate == pytest.approx(0.25 * expected, rel=1e-6)


@pytest.mark.parametrize(
  ("given", "text"),
  [
    ((0.1, 0.01, 20), "the lower one first"),
    ((0.0, 0.01, 20), "rates above 0"),
    ((0.1, 1.0, 3), "--steps"),
  ],
)
def test_a_ramp_that_is_none_is_refused(given, text):
  with pytest.raises(checks.InputError, match=text):
    rates.Ramp(*given)


def test_a_test_without_a_run_is_refused(capsys, tmp_path):
  assert main(["rates", str(tmp_path / "out")]) == 2
  assert "no --gin_file is given" in capsys.readouterr().err
