"""Beam search with a brevity penalty, as T5X does it (contract section 6.4).

Each input has two lists of `num_decodes` sequences, best last in both:

  live       may still grow; ranked by log-likelihood
  finished   end in EOS; ranked by log-likelihood / ((5 + length) / 6) ** alpha

A step extends all live sequences by all tokens and keeps the best 2 * num_decodes: even if
half of them end in EOS, enough stay alive.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from prompt_tuning import checks
from prompt_tuning.decoding.step import Step, log_probs
from prompt_tuning.types import Array, PyTree

_NEVER = -1e7  # log-likelihood of a sequence that must not win


class _State(NamedTuple):
  """The search after `length` tokens; sequences are [batch, num_decodes, max_len]."""

  length: Array
  live: Array
  live_scores: Array
  finished: Array
  finished_scores: Array
  filled: Array  # [batch, num_decodes] bool, whether a finished sequence is one
  cache: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beam:
  """Keeps the most probable sequences at every length.

  Rows of which no sequence ended in time get their live ones, with plain log-likelihoods
  as scores; rows with too few finished ones are filled up with sequences of score -1e7.

  Attributes:
    num_decodes: Beams, and answers per input.
    alpha: Strength of the brevity penalty; 0 prefers short answers.

  Raises:
    InputError: A number makes no sense.
  """

  num_decodes: int = 4
  alpha: float = 0.6

  def __post_init__(self):
    checks.whole("num_decodes", self.num_decodes, 1, "give the number of beams")
    checks.number("alpha", self.alpha, 0, "give the strength of the brevity penalty")

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
    del key
    longest = self._penalty(max_len + 1)  # T5X counts BOS in

    def unfinished(state: _State) -> Array:
      best_live = state.live_scores[:, -1:] / longest
      worst = jnp.min(state.finished_scores, axis=1, keepdims=True)
      beaten = jnp.all(jnp.where(state.filled, worst, _NEVER) > best_live)
      alive = jnp.any(state.live_scores > _NEVER / longest)
      return (state.length < max_len) & ~beaten & alive

    def extend(state: _State) -> _State:
      return self._extended(step, state, eos_id)

    state = jax.lax.while_loop(unfinished, extend, self._start(cache, batch, max_len))
    ended = jnp.any(state.filled, axis=1)[:, None]
    return (
      jnp.where(ended[..., None], state.finished, state.live),
      jnp.where(ended, state.finished_scores, state.live_scores),
    )

  def _start(self, cache: PyTree, batch: int, max_len: int) -> _State:
    beams = (batch, self.num_decodes)
    # One beam has begun; were all alike, all would stay alike.
    begun = jnp.arange(self.num_decodes) == 0
    return _State(
      length=jnp.zeros((), jnp.int32),
      live=jnp.zeros((*beams, max_len), jnp.int32),
      live_scores=jnp.broadcast_to(jnp.where(begun, 0.0, _NEVER), beams),
      finished=jnp.zeros((*beams, max_len), jnp.int32),
      finished_scores=jnp.full(beams, _NEVER),
      filled=jnp.zeros(beams, bool),
      cache=cache,
    )

  def _extended(self, step: Step, state: _State, eos_id: int) -> _State:
    """The search one token further."""
    batch, beams, _ = state.live.shape
    before = jnp.maximum(state.length - 1, 0)  # the sequences begin with 0, T5's BOS
    last = jax.lax.dynamic_index_in_dim(state.live, before, 2, keepdims=False)
    last = jnp.where(state.length > 0, last, 0)
    logits, cache = step(last.reshape(-1), state.cache)
    scores = log_probs(logits).reshape(batch, beams, -1) + state.live_scores[..., None]
    vocab = scores.shape[-1]
    scores, best = jax.lax.top_k(scores.reshape(batch, -1), min(2 * beams, beams * vocab))
    parents, tokens = best // vocab, (best % vocab).astype(jnp.int32)
    sequences = jax.lax.dynamic_update_slice_in_dim(
      _picked(state.live, parents), tokens[..., None], state.length, axis=2
    )
    ends = tokens == eos_id

    live_scores, kept = _ranked(jnp.where(ends, scores + _NEVER, scores), beams)
    parents = jnp.take_along_axis(parents, kept, axis=1)
    rows = (parents + jnp.arange(batch)[:, None] * beams).reshape(-1)

    penalized = scores / self._penalty(state.length + 1)
    all_scores = jnp.concatenate(
      [state.finished_scores, jnp.where(ends, penalized, penalized + _NEVER)], axis=1
    )
    finished_scores, best = _ranked(all_scores, beams)
    finished = jnp.concatenate([state.finished, sequences], axis=1)
    filled = jnp.concatenate([state.filled, ends], axis=1)
    return _State(
      length=state.length + 1,
      live=_picked(sequences, kept),
      live_scores=live_scores,
      finished=_picked(finished, best),
      finished_scores=finished_scores,
      filled=jnp.take_along_axis(filled, best, axis=1),
      cache=cache.reordered(rows),
    )

  def _penalty(self, length: Array | int) -> Array:
    """The brevity penalty (Wu et al. 2016) of a length in tokens, EOS included."""
    return jnp.power((5.0 + jnp.asarray(length, jnp.float32)) / 6.0, self.alpha)


def _ranked(scores: Array, count: int) -> tuple[Array, Array]:
  """The `count` best of each row and where they are, the best last."""
  best, where = jax.lax.top_k(scores, count)
  return jnp.flip(best, axis=1), jnp.flip(where, axis=1)


def _picked(sequences: Array, beams: Array) -> Array:
  """Sequences [batch, n, max_len] at beams [batch, k]: [batch, k, max_len]."""
  return jnp.take_along_axis(sequences, beams[..., None], axis=1)
