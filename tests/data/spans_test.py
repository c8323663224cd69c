"""Spans: as many tokens are hidden as the density says, and examples fill their length."""

import re

import pytest

from prompt_tuning import checks
from prompt_tuning.data import spans
from prompt_tuning.data.spans import Noise

NOISES = [Noise(), Noise(0.5, 3.0), Noise(0.15, 1.0), Noise(0.3, 10.0), Noise(0.9, 2.0)]
UNCHANGED = ("text_infilling", "prefix_lm", "token_deletion", "labelled")


def test_t5_s_lengths_are_those_of_its_paper():
  """Raffel et al. (2020): inputs of 512 take 568 tokens of text and targets of 114."""
  raw = spans.raw_len("span_corruption", 512, Noise())
  assert raw == 568
  assert spans.target_len("span_corruption", raw, Noise()) == 114


@pytest.mark.parametrize("noise", NOISES)
def test_the_hidden_share_and_the_mean_span_are_the_nearest_possible(noise):
  for raw in range(40, 600):
    hidden, count = noise.counts(raw)
    assert abs(hidden - raw * noise.density) <= 0.5
    if count < raw - hidden:  # a shown token stands before each span
      assert abs(count - hidden / noise.mean_span) <= 0.5


@pytest.mark.parametrize("noise", NOISES)
def test_however_short_the_text_one_span_is_hidden_and_one_token_shown(noise):
  for raw in range(2, 40):
    hidden, count = noise.counts(raw)
    assert 1 <= count <= hidden < raw
    assert count <= raw - hidden


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("input_len", [32, 64, 128, 512, 1024])
def test_corrupted_examples_fill_their_inputs(noise, input_len):
  raw = spans.raw_len("span_corruption", input_len, noise)
  assert noise.corrupted_len(raw) in (input_len, input_len - 1)
  assert noise.corrupted_len(raw + 1) > input_len  # one token more is too many


def test_targets_of_span_corruption_have_room_for_spans_sentinels_and_eos():
  hidden, count = Noise().counts(100)
  assert (hidden, count) == (15, 5)
  assert spans.target_len("span_corruption", 100, Noise()) == 15 + 5 + 1


@pytest.mark.parametrize("kind", UNCHANGED)
def test_other_kinds_take_what_fits_with_eos_before_anything_is_hidden(kind):
  assert spans.raw_len(kind, 64, Noise()) == 63


@pytest.mark.parametrize("kind", ["text_infilling", "token_deletion"])
def test_targets_that_are_the_whole_text_need_room_for_it_and_eos(kind):
  assert spans.target_len(kind, 63, Noise()) == 64


@pytest.mark.parametrize("kind", ["prefix_lm", "labelled"])
def test_a_continuation_and_a_label_need_one_token_and_eos(kind):
  assert spans.target_len(kind, 63, Noise()) == 2


@pytest.mark.parametrize("kind", spans.KINDS)
@pytest.mark.parametrize("noise", [Noise(), Noise(0.5, 3.0), Noise(0.01, 3.0)])
def test_the_least_length_that_an_error_names_is_the_least(kind, noise):
  with pytest.raises(checks.InputError, match="too short for one hidden span") as error:
    spans.raw_len(kind, 2, noise)
  least = int(re.search(r"at least (\d+)", str(error.value)).group(1))
  assert spans.raw_len(kind, least, noise) >= 2
  with pytest.raises(checks.InputError, match="raise the length of the inputs"):
    spans.raw_len(kind, least - 1, noise)


@pytest.mark.parametrize("density", [0.0, 1.0, -0.1, 15, float("nan")])
def test_a_density_that_is_no_share_is_refused(density):
  with pytest.raises(checks.InputError, match=r"T5 uses 0\.15 and 3"):
    Noise(density=density)


def test_a_mean_span_below_one_token_is_refused():
  with pytest.raises(checks.InputError, match="at least one token"):
    Noise(mean_span=0.9)
