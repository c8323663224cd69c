"""How prompts start, and what is refused."""

import jax
import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.prompts import initializers, start

TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)


class Words:
  """A vocabulary of words; whatever else is unknown (2)."""

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


def test_a_table_of_another_width_is_refused():
  with pytest.raises(checks.InputError, match="embedding table"):
    initialize(start.Prompt(length=3, start=start.SampledVocab()), d_model=8)


def test_a_population_of_none_is_refused():
  with pytest.raises(checks.InputError, match="population_size"):
    initializers.from_sample_of_embeddings(TABLE, 0)
