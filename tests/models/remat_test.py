"""Rematerialisation: the same gradients from less memory."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.state import Split
from prompt_tuning.training.steps import loss_and_sums

KINDS = ("none", "minimal", "full")
PROMPTS = np.random.default_rng(1).standard_normal((1, 3, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def losses(tiny_config, batch):
  """layers -> {kind: (prompts -> loss with dropout, frozen weights)}."""

  def of(layers):
    return {kind: loss(kind, layers) for kind in KINDS}

  def loss(kind, layers):
    config = dataclasses.replace(
      tiny_config,
      dropout_rate=0.3,
      num_encoder_layers=layers,
      num_decoder_layers=layers,
      remat=kind,
    )
    model = T5.random(config, jax.random.key(0))
    split = Split.of(PromptedT5(model, PromptBank(PROMPTS)))

    def apply(prompts, frozen):
      merged = split.merge({"bank/prompts": prompts}, frozen)
      return loss_and_sums(merged, batch, Loss(), jax.random.key(1))[0]

    return apply, split.frozen

  return of


def kept_bytes(loss, frozen):
  """What waits between the forward and the backward pass."""
  backward = jax.eval_shape(lambda x: jax.vjp(lambda y: loss(y, frozen), x)[1], PROMPTS)
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(backward))


def test_gradients_are_the_same_with_dropout(losses):
  found = {}
  for kind, (loss, frozen) in losses(1).items():
    found[kind] = jax.jit(jax.value_and_grad(loss))(PROMPTS, frozen)
  value, expected = found.pop("none")
  assert np.abs(expected).max() > 1e-2
  for kind, (same, gradient) in found.items():
    np.testing.assert_allclose(same, value, rtol=1e-6, err_msg=kind)
    size = np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6 * size)


def test_less_is_kept_from_none_to_full(losses):
  shallow, deep = (
    np.array([kept_bytes(*loss) for loss in losses(layers).values()]) for layers in (1, 5)
  )
  none, minimal, full = deep - shallow  # of four layers more in each tower
  assert full < 0.6 * minimal < 0.36 * none


def test_an_unknown_kind_is_refused():
  with pytest.raises(checks.InputError, match=r"LAYER_REMAT 'mimimal'; .*minimal"):
    T5Config.of_size("t5_1_1", "small", remat="mimimal")
