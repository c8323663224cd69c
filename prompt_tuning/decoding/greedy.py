"""Greedy decoding: the most probable token, one after another."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from prompt_tuning.decoding.step import Step, log_probs, roll, taken
from prompt_tuning.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Greedy:
  """The default. Scores are log-likelihoods, as those of a beam search with one beam."""

  num_decodes: ClassVar[int] = 1

  def __call__(
    self,
    step: Step,
    cache: PyTree,
    batch: int,
    max_len: int,
    eos_id: int = 1,
    key: Array | None = None,
  ) -> tuple[Array, Array]:
    """See `step.Algorithm`; the key is not used."""
    key = jax.random.key(0) if key is None else key
    tokens, scores = roll(step, _most_probable, cache, batch, max_len, eos_id, key)
    return tokens[:, None], scores[:, None]


def _most_probable(logits: Array, key: Array) -> tuple[Array, Array]:
  del key
  tokens = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  return tokens, taken(log_probs(logits), tokens)
