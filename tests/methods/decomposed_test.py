"""DePT: the offset goes by the place in the example, and learns at its own rate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from by_hand import LENGTHS, packed, per_example
from given import features, given, logits

from prompt_tuning import checks, trees
from prompt_tuning.methods.decomposed import DecomposedPrompt, LowRankOffset
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt, RandomUniform
from prompt_tuning.training import state, steps
from prompt_tuning.training.losses import Loss

PROMPT = Prompt(length=3, start=RandomUniform())
METHOD = DecomposedPrompt(prompt=PROMPT, max_length=10, rank=2)


def random(shape, seed):
  return jax.random.normal(jax.random.key(seed), shape)


def test_row_i_is_added_to_token_i():
  a, b = random((5, 2), 0), random((2, 16), 1)
  embeddings = random((4, 5, 16), 2)
  offset = LowRankOffset(a, b, 0.5)
  found = offset(embeddings, jnp.arange(5)[None], 5)
  expected = np.asarray(embeddings) + (np.asarray(a) @ np.asarray(b))[None]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_it_starts_as_the_prompt_alone(tiny_t5, batch):
  found = logits(METHOD.steered(given(tiny_t5)), *features(batch))
  plain = PromptedT5(tiny_t5, PromptBank(given(tiny_t5).prompts(PROMPT)))
  expected = logits(plain, *features(batch))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def after_two_steps(model, batch, optimizer):
  split = state.Split.of(model)
  now = state.create(split, optimizer, jax.random.key(2))
  step = steps.train_step(split, optimizer, Loss())
  before = {path: np.array(x) for path, x in now.params.items()}
  for _ in range(2):
    now, _ = step(now, split.frozen, batch)
  return before, {path: np.array(x) for path, x in now.params.items()}


@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_the_offset_learns_at_its_own_rate(tiny_t5, batch, rate):
  """An optimizer whose updates are as large as the learning rate."""
  method = dataclasses.replace(METHOD, rate=rate)
  signs = optax.chain(optax.scale_by_sign(), optax.scale(-0.01))
  before, after = after_two_steps(method.steered(given(tiny_t5)), batch, signs)
  one, other = (method.folded(x).tensors for x in (before, after))
  moved = {path: np.abs(other[path] - one[path]).max() for path in one}
  assert moved.pop("bank/prompts") == pytest.approx(0.02, rel=1e-3)
  assert moved["steering/offset/b"] == pytest.approx(0.02 * rate, rel=1e-3)
  assert moved["steering/offset/a"] == pytest.approx(0.01 * rate, rel=1e-3)


def test_the_starts_do_not_depend_on_the_rate(tiny_t5):
  folded = [
    method.folded(trees.values(state.Split.of(method.steered(given(tiny_t5))).tunable))
    for method in (METHOD, dataclasses.replace(METHOD, rate=0.25))
  ]
  assert folded[0].method == folded[1].method == METHOD
  for path, value in folded[0].tensors.items():
    np.testing.assert_allclose(folded[1].tensors[path], value, rtol=1e-6)


def longer(tiny_t5, max_length):
  """A model with an offset that is not nothing."""
  model = dataclasses.replace(METHOD, max_length=max_length).steered(given(tiny_t5))
  model.steering.offset.b[...] = random((2, 16), 3)
  return model


def test_packed_rows_count_in_their_examples(tiny_t5, batch):
  model = longer(tiny_t5, 23)
  alone = logits(model, *features(batch))
  rows = packed(batch, 3, "prefix")
  found = jax.jit(lambda model, rows: model.logits(**rows))(model, steps.features(rows))
  for example, together in per_example(found).items():
    real = alone[example, : LENGTHS[example][1]]
    np.testing.assert_allclose(together, real, rtol=1e-5, atol=1e-5)


def test_inputs_that_are_too_long_are_refused(tiny_t5, batch):
  with pytest.raises(checks.InputError, match="up to 10 tokens, expected at most OFFSET"):
    longer(tiny_t5, 9).logits(*features(batch))
  rows = steps.features(packed(batch, 3, "prefix"))
  with pytest.raises(checks.InputError, match="up to 23 tokens, expected at most OFFSET"):
    longer(tiny_t5, 22).logits(**rows)
  assert np.isfinite(logits(longer(tiny_t5, 10), *features(batch))).all()


def test_a_single_row_is_as_long_as_it_is(tiny_t5, batch):
  one = [x[:1] for x in features(batch)]
  with pytest.raises(checks.InputError, match="up to 10 tokens"):
    longer(tiny_t5, 9).logits(*one)
  assert np.isfinite(logits(longer(tiny_t5, 10), *one)).all()


def test_packed_rows_without_room_for_prompts_are_as_long_as_they_are(tiny_t5, batch):
  blind = dataclasses.replace(given(tiny_t5), visibility={"prompt->prompt"})
  rows = steps.features(packed(batch, 0, "prefix"))
  rows.pop("encoder_prompt_slots", None)
  length = rows["encoder_input_tokens"].shape[1]
  for max_length in (length, length - 1):
    model = dataclasses.replace(METHOD, max_length=max_length).steered(blind)
    if max_length == length:
      assert np.isfinite(model.logits(**rows)).all()
      continue
    with pytest.raises(checks.InputError, match=f"up to {length} tokens"):
      model.logits(**rows)


@pytest.mark.parametrize(
  ("name", "value"), [("rank", 0), ("max_length", 0), ("rate", 0.0), ("rate", -1.0)]
)
def test_settings_without_sense_are_refused(name, value):
  with pytest.raises(checks.InputError, match="OFFSET_"):
    dataclasses.replace(METHOD, **{name: value})
