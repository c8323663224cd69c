"""How prompts start, and what is refused."""

import jax
import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.prompts import initializers, start

TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)


class Words:
  """A vocabulary of words; whatever else is unknown (2)."""

  unk_id = 2

  def encode(self, text):
    known = {"good": [3], "very good": [4, 5], "bad": [6]}
    return known.get(text, [2] if text else [])


def initialize(prompt, d_model=4):
  return prompt.initialize(jax.random.key(0), d_model, lambda: TABLE, Words)


def test_labels_are_means_of_their_pieces_and_the_rest_falls_back():
  labels = start.ClassLabels(
    labels=["good", "very good"], fallback=start.RandomUniform(scale=1e-9)
  )
  found = initialize(start.Prompt(length=3, start=labels))
  assert found.shape == (1, 3, 4)
  np.testing.assert_allclose(found[0, 0], TABLE[3])
  np.testing.assert_allclose(found[0, 1], (TABLE[4] + TABLE[5]) / 2)
  assert np.abs(found[0, 2]).max() < 1e-8


def test_each_prompt_of_a_bank_starts_on_its_own():
  found = initialize(start.Prompt(length=2, start=start.RandomUniform(), num_prompts=3))
  assert found.shape == (3, 2, 4)
  assert len(np.unique(found[:, 0, 0])) == 3
  assert (found >= 0).all() and (found < 0.5).all()


def test_sampled_rows_come_from_the_first_tokens_without_repeats():
  sampled = start.SampledVocab(population_size=6)
  found = initialize(start.Prompt(length=6, start=sampled))[0]
  assert sorted(found[:, 0]) == sorted(TABLE[:6, 0])
  with pytest.warns(UserWarning, match="replacement"):
    initialize(start.Prompt(length=7, start=sampled))


def test_a_population_beyond_the_vocabulary_is_the_vocabulary():
  found = initialize(start.Prompt(length=10, start=start.SampledVocab()))[0]
  assert sorted(found[:, 0]) == sorted(TABLE[:, 0])


@pytest.mark.parametrize("word", ["unheard", ""])
def test_a_label_that_cannot_be_encoded_is_refused(word):
  labels = start.ClassLabels(labels=[word])
  with pytest.raises(checks.InputError, match="choose another wording"):
    initialize(start.Prompt(length=3, start=labels))


@pytest.mark.parametrize("length", [0, -1, start.MAX_LENGTH + 1])
def test_impossible_lengths_are_refused(length):
  with pytest.raises(checks.InputError, match="PROMPT_LENGTH"):
    start.Prompt(length=length)


@pytest.mark.parametrize(
  ("shape", "remedy"), [((5, 4), "PROMPT_LENGTH=5"), ((3, 8), "model size")]
)
def test_a_prompt_file_of_another_shape_says_what_to_do(shape, remedy):
  given = start.FromFile(path="x", load=lambda path: np.zeros(shape, np.float32))
  with pytest.raises(checks.InputError, match=remedy):
    initialize(start.Prompt(length=3, start=given))


PROMPTS = {
  name: np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
  for seed, name in enumerate("abc")
}


def averaged(weights=None, **changes):
  prompts = {**PROMPTS, **changes}
  given = start.FromFiles(paths=list("abc"), load=prompts.get, weights=weights)
  return initialize(start.Prompt(length=3, start=given))[0]


def test_several_prompts_are_averaged_by_their_weights():
  a, b, c = PROMPTS.values()
  np.testing.assert_allclose(averaged(), (a + b + c) / 3, rtol=1e-6, atol=1e-7)
  expected = (2 * a + c) / 3
  np.testing.assert_allclose(averaged([2, 0, 1.0]), expected, rtol=1e-6, atol=1e-7)
  np.testing.assert_array_equal(averaged([0, 0.3, 0]), b)
  assert averaged().dtype == np.float32


@pytest.mark.parametrize(
  ("weights", "changes", "message"),
  [
    ([1.0, 1.0], {}, "weights of 3 prompts are .*one for each"),
    ([0.0, 0.0, 0.0], {}, "not all zero"),
    ([1.0, float("inf"), 1.0], {}, "a weight of the average is inf"),
    ([1.0, -0.5, 1.0], {}, "a weight of the average is -0.5"),
    ([1.0, "b", 1.0], {}, "a weight of the average is 'b'"),
    (None, {"b": np.zeros((2, 4))}, r"shapes \[3, 4\], \[2, 4\], \[3, 4\]"),
    (None, dict.fromkeys("abc", np.zeros((5, 4))), "PROMPT_LENGTH=5"),
  ],
)
def test_what_cannot_be_averaged_is_refused(weights, changes, message):
  with pytest.raises(checks.InputError, match=message):
    averaged(weights, **changes)


@pytest.mark.parametrize("paths", ["a", [], (), 3, ["a", None]])
def test_sources_are_a_list(paths):
  with pytest.raises(checks.InputError, match="SOURCE_PROMPTS"):
    start.FromFiles(paths=paths, load=PROMPTS.get)


def test_a_start_says_which_files_it_reads():
  several = start.FromFiles(paths=["a", "b"], load=PROMPTS.get)
  assert start.files_of(several) == ["a", "b"]
  assert start.files_of(start.FromFile(path="a", load=PROMPTS.get)) == ["a"]
  assert start.files_of(start.SampledVocab()) == []


def test_a_table_of_another_width_is_refused():
  with pytest.raises(checks.InputError, match="embedding table"):
    initialize(start.Prompt(length=3, start=start.SampledVocab()), d_model=8)


def test_a_population_of_none_is_refused():
  with pytest.raises(checks.InputError, match="population_size"):
    initializers.from_sample_of_embeddings(TABLE, 0)
