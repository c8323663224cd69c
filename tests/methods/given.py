"""What the tests of single methods start from."""

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning.methods.method import Given


def given(model):
  """A start from a model whose table the prompts may read."""
  return Given(
    model,
    jax.random.key(1),
    lambda: model.token_embedder.embedding[...],
    lambda: None,
  )


def features(batch):
  """What `logits` takes of a batch."""
  names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
  return [batch[name] for name in names]


@jax.jit
def logits(model, inputs, decoder_inputs, targets, *rest):
  """Of every target position, 0 where it is padding."""
  found = model.logits(inputs, decoder_inputs, targets, *rest)
  return jnp.where(targets[..., None] > 0, found, 0.0)


def assert_close(found, expected):
  """Equal but for rounding."""
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
