"""Products of two matrices: where they start, what is left, ranks that cannot be."""

import jax
import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.methods.low_rank import LowRank
from prompt_tuning.methods.method import Given
from prompt_tuning.prompts.start import FromFile, Prompt

START = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
PROMPT = Prompt(length=5, start=FromFile(path="", load=lambda _: START))


def start(model, rank):
  given = Given(model, jax.random.key(0), lambda: None, lambda: None)
  return LowRank(prompt=PROMPT, rank=rank).steered(given).bank


def test_with_every_rank_it_starts_as_its_prompt_would(byte_t5):
  np.testing.assert_allclose(start(byte_t5, 5).array[0], START, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_it_starts_as_near_as_a_prompt_of_its_rank_can(byte_t5, rank):
  found = start(byte_t5, rank).array[0]
  assert np.linalg.matrix_rank(found) == rank
  left_out = np.linalg.svd(START, compute_uv=False)[rank:]
  distance = np.linalg.norm(found - START)
  np.testing.assert_allclose(distance, np.linalg.norm(left_out), rtol=1e-4)


def test_both_matrices_are_of_one_size(byte_t5):
  bank = start(byte_t5, 2)
  left, right = bank.prompts[...][0], bank.through.basis[...]
  np.testing.assert_allclose(
    np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1), rtol=1e-4
  )


@pytest.mark.parametrize("rank", [0, 6, -1, 1.5])
def test_a_rank_that_no_prompt_has_is_refused(byte_t5, rank):
  with pytest.raises(checks.InputError, match=r"PROMPT_RANK is .*, expected 1 to 5"):
    start(byte_t5, rank)
