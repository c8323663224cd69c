"""What every decoding algorithm has in common: a step of a model, and a loop of steps."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from prompt_tuning.types import Array, PyTree

# (tokens [rows], cache) -> (logits [rows, vocab], cache). Rows are batch * num_decodes;
# the decodes of one input lie side by side.
Step = Callable[[Array, PyTree], tuple[Array, PyTree]]
# (logits [rows, vocab], key) -> (tokens [rows], log-probabilities [rows])
Choose = Callable[[Array, Array], tuple[Array, Array]]


class Algorithm(Protocol):
  """A way to decode."""

  @property
  def num_decodes(self) -> int:
    """Answers per input; the cache has as many rows for each."""

  def __call__(
    self,
    step: Step,
    cache: PyTree,
    batch: int,
    max_len: int,
    eos_id: int = 1,
    key: Array | None = None,
  ) -> tuple[Array, Array]:
    """Decodes until nothing can change any more or `max_len` tokens are out.

    Args:
      step: One decoding step of a model.
      cache: What the step continues from, for batch * num_decodes rows.
      batch: Inputs.
      max_len: Most tokens of an answer, EOS included.
      eos_id: The token that ends an answer.
      key: PRNG key for algorithms that draw; None is `jax.random.key(0)`.

    Returns:
      Tokens [batch, num_decodes, max_len] int32, EOS kept and 0 after it, and scores
      [batch, num_decodes] float32, both with the best answer last.
    """


def roll(
  step: Step,
  choose: Choose,
  cache: PyTree,
  rows: int,
  max_len: int,
  eos_id: int,
  key: Array,
) -> tuple[Array, Array]:
  """Appends what `choose` picks until every row has ended or is full.

  Returns:
    Tokens [rows, max_len] int32 and the sums of their log-probabilities [rows] float32.
  """

  def unfinished(carry: Any) -> Array:
    index, _, ended, _, _, _, _ = carry
    return (index < max_len) & ~jnp.all(ended)

  def extend(carry: Any) -> Any:
    index, last, ended, tokens, scores, cache, key = carry
    now, later = jax.random.split(key)
    logits, cache = step(last, cache)
    token, gained = choose(logits, now)
    token = jnp.where(ended, 0, token)
    scores = scores + jnp.where(ended, 0.0, gained)
    tokens = jax.lax.dynamic_update_slice_in_dim(tokens, token[:, None], index, axis=1)
    return index + 1, token, ended | (token == eos_id), tokens, scores, cache, later

  start = (
    jnp.zeros((), jnp.int32),
    jnp.zeros((rows,), jnp.int32),
    jnp.zeros((rows,), bool),
    jnp.zeros((rows, max_len), jnp.int32),
    jnp.zeros((rows,), jnp.float32),
    cache,
    key,
  )
  _, _, _, tokens, scores, _, _ = jax.lax.while_loop(unfinished, extend, start)
  return tokens, scores


def log_probs(logits: Array) -> Array:
  """Log-probabilities in float32, of the shape of `logits`."""
  return jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)


def taken(values: Array, tokens: Array) -> Array:
  """The value of each row's token: [rows, vocab], [rows] -> [rows]."""
  return jnp.take_along_axis(values, tokens[:, None], axis=-1)[:, 0]


def key_of(inputs: Array) -> Array:
  """A PRNG key that depends on a batch of tokens only, not on what was asked before it."""
  return jax.random.fold_in(jax.random.key(0), jnp.sum(inputs))
