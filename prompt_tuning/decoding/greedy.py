"""Greedy decoding: the most probable token, one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from prompt_tuning.types import Array, PyTree

# (tokens [batch], cache) -> (logits [batch, vocab], cache)
Step = Callable[[Array, PyTree], tuple[Array, PyTree]]


def greedy(
  step: Step, cache: PyTree, batch: int, max_len: int, eos_id: int = 1
) -> tuple[Array, Array]:
  """Decodes until every row has ended or `max_len` tokens are out.

  Args:
    step: One decoding step of a model.
    cache: What the step continues from.
    batch: Rows.
    max_len: Most tokens per row, EOS included.
    eos_id: The token that ends a row.

  Returns:
    Tokens [batch, max_len] int32, EOS kept and 0 after it, and the log-likelihood of
    each row [batch] float32.
  """

  def unfinished(carry: Any) -> Array:
    index, _, ended, _, _, _ = carry
    return (index < max_len) & ~jnp.all(ended)

  def extend(carry: Any) -> Any:
    index, last, ended, tokens, scores, cache = carry
    logits, cache = step(last, cache)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    best = jnp.argmax(log_probs, axis=-1).astype(jnp.int32)
    gained = jnp.take_along_axis(log_probs, best[:, None], axis=-1)[:, 0]
    best = jnp.where(ended, 0, best)
    scores = scores + jnp.where(ended, 0.0, gained)
    tokens = jax.lax.dynamic_update_slice_in_dim(tokens, best[:, None], index, axis=1)
    return index + 1, best, ended | (best == eos_id), tokens, scores, cache

  start = (
    jnp.zeros((), jnp.int32),
    jnp.zeros((batch,), jnp.int32),
    jnp.zeros((batch,), bool),
    jnp.zeros((batch, max_len), jnp.int32),
    jnp.zeros((batch,), jnp.float32),
    cache,
  )
  _, _, _, tokens, scores, _ = jax.lax.while_loop(unfinished, extend, start)
  return tokens, scores
