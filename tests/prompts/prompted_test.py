"""A prompted model: promises about what the prompt does and does not touch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import checks, trees
from prompt_tuning.prompts import combine
from prompt_tuning.prompts.bank import PATH, PromptBank
from prompt_tuning.prompts.prompted import PromptedT5, t5x_path
from prompt_tuning.prompts.sequences import shift_right
from prompt_tuning.training import steps
from prompt_tuning.training.state import Split


@pytest.fixture(scope="module")
def prompts():
  return jax.random.normal(jax.random.key(3), (3, 4, 16))


def outputs(model, batch, **extra):
  return jax.jit(PromptedT5.logits)(model, **steps.features({**batch, **extra}))


def test_without_a_bank_it_is_the_plain_model(tiny_t5, batch, prompts):
  plain = outputs(PromptedT5(tiny_t5), batch)
  prompted = outputs(PromptedT5(tiny_t5, PromptBank(prompts[0])), batch)
  assert np.abs(plain - prompted)[0].max() > 1e-3


def test_each_row_gets_its_own_prompt(tiny_t5, batch, prompts):
  ids = np.array([2, 0, 1, 2], np.int32)
  mixed = outputs(PromptedT5(tiny_t5, PromptBank(prompts)), batch, prompt_ids=ids)
  real = batch["decoder_target_tokens"] > 0
  for row, prompt_id in enumerate(ids):
    alone = outputs(PromptedT5(tiny_t5, PromptBank(prompts[prompt_id])), batch)
    np.testing.assert_allclose(
      mixed[row][real[row]], alone[row][real[row]], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("how", [combine.prefix, combine.suffix, combine.suffix_before_eos])
def test_padding_changes_nothing_wherever_the_prompt_goes(tiny_t5, batch, prompts, how):
  model = PromptedT5(tiny_t5, PromptBank(prompts[0]), how)
  padded = {k: np.pad(v, ((0, 0), (0, 3))) for k, v in batch.items()}
  real = batch["decoder_target_tokens"] > 0
  before, after = outputs(model, batch), outputs(model, padded)[:, :5]
  np.testing.assert_allclose(before[real], after[real], rtol=1e-5, atol=1e-5)


def test_greedy_decoding_equals_teacher_forcing(tiny_t5, batch, prompts):
  model = PromptedT5(tiny_t5, PromptBank(prompts[0]))
  tokens = jnp.asarray(batch["encoder_input_tokens"])
  found, scores = jax.jit(lambda t: model.generate(t, 6))(tokens)
  # Every position counts, so that a model that emits padding is compared too.
  logits = model.logits(tokens, shift_right(found), jnp.ones_like(found))
  log_probs = jax.nn.log_softmax(logits, axis=-1)
  ended = np.cumsum(np.pad(found == 1, ((0, 0), (1, 0)))[:, :-1], axis=1) > 0
  np.testing.assert_array_equal(np.where(ended, 0, jnp.argmax(logits, axis=-1)), found)
  best = np.where(ended, 0.0, jnp.max(log_probs, axis=-1)).sum(axis=1)
  np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-4)


def test_only_the_bank_is_tunable(tiny_t5, prompts):
  split = Split.of(PromptedT5(tiny_t5, PromptBank(prompts)))
  assert list(trees.values(split.tunable)) == ["bank/prompts"]
  assert t5x_path("bank/prompts") == PATH
  assert {t5x_path(p) for p in trees.values(split.frozen)} == set(trees.values(tiny_t5))


def test_a_prompt_of_another_width_is_refused(tiny_t5):
  with pytest.raises(checks.InputError, match=r"\[1, 4, 8\], expected \[1, 4, 16\]"):
    PromptedT5(tiny_t5, PromptBank(np.zeros((4, 8), np.float32)))


def test_a_vector_is_no_prompt():
  with pytest.raises(checks.InputError, match="prompt_len, d_model"):
    PromptBank(np.zeros(8, np.float32))


def test_an_abstract_bank_allocates_nothing():
  bank = PromptBank.abstract((1, 100, 1 << 40))  # 400 TB if it did
  assert bank.prompt_len == 100


def packed(batch, order):
  """Rows of a batch one behind the other in a single row, with their segment ids."""
  found = {}
  for name, key in (
    ("encoder_input_tokens", "encoder"),
    ("decoder_target_tokens", "decoder"),
  ):
    rows = [row[row > 0] for row in batch[name][order]]
    found[name] = np.concatenate([*rows, [0, 0]])[None].astype(np.int32)
    ids = [np.full(len(row), i) for i, row in enumerate(rows, 1)]
    found[f"{key}_segment_ids"] = np.concatenate([*ids, [0, 0]])[None].astype(np.int32)
  inputs = [
    batch["decoder_input_tokens"][i][batch["decoder_target_tokens"][i] > 0] for i in order
  ]
  found["decoder_input_tokens"] = np.concatenate([*inputs, [0, 0]])[None].astype(np.int32)
  return found


def test_packed_rows_are_the_unpacked_ones_without_a_prompt(tiny_t5, batch):
  model = PromptedT5(tiny_t5)
  alone = outputs(model, batch)
  order = [2, 0, 3, 1]
  together = outputs(model, packed(batch, order))[0]
  lengths = [int(np.count_nonzero(batch["decoder_target_tokens"][i])) for i in order]
  starts = np.cumsum([0, *lengths])
  for i, start, length in zip(order, starts, lengths, strict=False):
    np.testing.assert_allclose(
      together[start : start + length], alone[i][:length], rtol=1e-4, atol=1e-5
    )


def test_packed_rows_with_a_prompt_are_refused(tiny_t5, batch, prompts):
  model = PromptedT5(tiny_t5, PromptBank(prompts[0]))
  with pytest.raises(checks.InputError, match="the rows are packed"):
    model.logits(**packed(batch, [0, 1]))


@pytest.mark.parametrize("ids", [[0, 1, 3, 0], [0, -1, 0, 0], [1], [[0, 1, 2, 0]]])
def test_ids_that_the_bank_does_not_have_are_refused(tiny_t5, batch, prompts, ids):
  model = PromptedT5(tiny_t5, PromptBank(prompts))
  with pytest.raises(checks.InputError, match="prompt_ids"):
    model.encode(batch["encoder_input_tokens"], np.asarray(ids, np.int32))
