"""Masks, combine functions and initializers against the original's outputs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece

from prompt_tuning.models.masks import decoder_mask
from prompt_tuning.prompts import combine, initializers, masks
from prompt_tuning.prompts.distance import squared_l2_distance

PROMPT_LEN = 5
CHOICES = ("prompt->input", "prompt->prompt", "prompt->prompt;causal")
VISIBILITIES = [
  chosen for count in range(4) for chosen in itertools.combinations(CHOICES, count)
]


@pytest.fixture(scope="module")
def stored(golden):
  return golden("pure_functions")


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    (combine.prefix, "prefix_prompt"),
    (combine.prefix_after_bos, "prefix_prompt_after_bos"),
    (combine.suffix, "suffix_prompt/decoder_only=False/before_eos=False"),
    (combine.suffix_before_eos, "suffix_prompt/decoder_only=False/before_eos=True"),
    (combine.suffix_after_bos, "suffix_prompt/decoder_only=True/before_eos=False"),
    (combine.suffix, "suffix_prompt/decoder_only=True/before_eos=True"),
  ],
)
def test_prompts_go_where_the_original_puts_them(stored, ours, theirs):
  found = np.array(ours(stored["prompt"], stored["emb"], stored["tokens"]))
  expected = stored[theirs].copy()
  if ours is combine.suffix_after_bos:
    # Row 0 is full, so BOS does not fit: the original writes the last prompt vector
    # into the next row. Ours stays in its row.
    assert not np.isnan(found).any()
    found, expected = found[1:], expected[1:]
    np.testing.assert_array_equal(expected[0, 0], stored["prompt"][0, -1])
    found[0, 0] = expected[0, 0]
  np.testing.assert_array_equal(found, expected)


def test_padding_masks_agree(stored):
  valid = stored["tokens"] > 0
  with_prompt = masks.with_prompt(valid, PROMPT_LEN)
  np.testing.assert_array_equal(with_prompt, stored["add_fake_prompt"] > 0)
  np.testing.assert_array_equal(
    masks.with_prompt(valid[:, 1:], PROMPT_LEN), stored["add_fake_prompt_multitask"] > 0
  )
  found = masks.encoder_mask(valid, PROMPT_LEN)
  np.testing.assert_array_equal(found, stored["prompt_encoder_mask"] > 0)


def test_decoder_only_masks_agree(stored):
  valid = stored["tokens"] > 0
  prefix = stored["decoder_causal_attention"] > 0
  causal = masks.decoder_only_mask(valid, None, PROMPT_LEN)
  np.testing.assert_array_equal(causal, stored["prompt_decoder_only_mask_causal"] > 0)
  both = masks.decoder_only_mask(valid, prefix, PROMPT_LEN)
  np.testing.assert_array_equal(both, stored["prompt_decoder_only_mask_prefix"] > 0)
  everyone = masks.with_prompt(valid, PROMPT_LEN)
  np.testing.assert_array_equal(causal, decoder_mask(everyone))


@pytest.mark.parametrize("chosen", VISIBILITIES, ids=lambda c: "+".join(c) or "none")
def test_visibility_masks_agree(stored, chosen):
  valid = stored["tokens"] > 0
  prefix = stored["decoder_causal_attention"] > 0
  visibility = masks.ALWAYS | set(chosen)
  name = "+".join(sorted(chosen, key=CHOICES.index)) or "none"
  for multitask, tokens in ((False, valid), (True, valid[:, 1:])):
    found = masks.encoder_mask(tokens, PROMPT_LEN, visibility)
    expected = stored[f"ext_encoder_mask/{name}/multitask={multitask}"]
    np.testing.assert_array_equal(found, expected > 0)
  found = masks.decoder_only_mask(valid, prefix, PROMPT_LEN, visibility)
  np.testing.assert_array_equal(found, stored[f"ext_decoder_mask/{name}/prefix"] > 0)


def test_causal_prompts_win_over_bidirectional_ones(stored):
  valid = stored["tokens"] > 0
  both = masks.encoder_mask(valid, PROMPT_LEN, masks.KINDS)
  causal = masks.encoder_mask(valid, PROMPT_LEN, masks.KINDS - {masks.PROMPT_TO_PROMPT})
  np.testing.assert_array_equal(both, causal)


def test_distances_agree(stored):
  found = squared_l2_distance(*stored["prompt"][:2])
  np.testing.assert_allclose(found, stored["wayward/squared_l2_distance"], rtol=1e-6)


@pytest.fixture(scope="module")
def vocabulary(fixtures):
  path = str(fixtures / "t5_vocab.model")
  return sentencepiece.SentencePieceProcessor(model_file=path)


@pytest.fixture(scope="module")
def embeddings(fixtures):
  return np.load(fixtures / "tiny_embeddings_32128x4.npy")


def zeros(key, shape):
  del key
  return jax.numpy.zeros(shape)


def test_class_labels_start_as_in_the_original(stored, vocabulary, embeddings):
  labels = ["positive", "negative"]
  start = initializers.from_embedded_list(embeddings, vocabulary, labels, zeros)
  found = start(jax.random.key(0), (5, 4))
  expected = stored["init/from_embedded_list(positive,negative,zeros_rest)"]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_text_starts_as_in_the_original(stored, vocabulary, embeddings):
  start = initializers.from_embedded_string(
    embeddings, vocabulary, "Classify this movie review", zeros
  )
  found = start(jax.random.key(0), (8, 4))
  np.testing.assert_allclose(found, stored["init/from_embedded_string"], rtol=1e-6)
  with pytest.warns(UserWarning, match="dropping"):
    found = start(jax.random.key(0), (3, 4))
  np.testing.assert_array_equal(found, stored["init/from_embedded_string_truncated"])


def test_sampled_vocabulary_starts_as_in_the_original(stored, embeddings):
  start = initializers.from_sample_of_embeddings(embeddings, 5000)
  found = start(jax.random.key(0), (5, 4))
  np.testing.assert_array_equal(
    found, stored["init/from_samples_of_embeddings(seed0,pop5000)"]
  )


def test_an_array_starts_as_itself(stored, fixtures):
  prompt = np.load(fixtures / "prompt_5x256.npy")
  found = initializers.from_array(prompt)(jax.random.key(0), (5, 256))
  np.testing.assert_allclose(found, stored["init/from_array"], rtol=1e-6)


def test_a_row_without_tokens_keeps_the_whole_prompt():
  prompt = jnp.arange(1.0, 7.0).reshape(1, 3, 2)
  found = combine.suffix_before_eos(prompt, jnp.zeros((1, 2, 2)), jnp.zeros((1, 2), int))
  np.testing.assert_array_equal(found[:, :3], prompt)
