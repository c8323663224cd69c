"""Models of a table, in which every token counts: what follows depends on the history.

The history of a row is a number that every token changes, so that a search which forgets
to reorder its cache, or gives a row the cache of another, finds other answers.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

HISTORIES = 1009  # so many that no two answers are equally probable by chance


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memory:
  """The cache of such a model: the history of each row, [rows] int32."""

  history: jax.Array

  def reordered(self, rows: jax.Array) -> "Memory":
    return Memory(jnp.take(self.history, rows, axis=0))


@dataclasses.dataclass(frozen=True)
class Tables:
  """One model for each input of a batch.

  Attributes:
    logits: [batch, HISTORIES, vocab], after each history.
    following: [batch, HISTORIES, vocab], the history that a token makes of another.
  """

  logits: np.ndarray
  following: np.ndarray

  def step(self, tokens: jax.Array, cache: Memory) -> tuple[jax.Array, Memory]:
    """A `decoding.step.Step`; the decodes of one input are rows side by side."""
    rows = tokens.shape[0]
    of_row = np.repeat(np.arange(len(self.logits)), rows // len(self.logits))
    history = jnp.asarray(self.following)[of_row, cache.history, tokens]
    return jnp.asarray(self.logits)[of_row, history], Memory(history)

  def start(self, num_decodes: int = 1) -> Memory:
    return Memory(jnp.zeros(len(self.logits) * num_decodes, jnp.int32))

  def after(self, row: int, tokens: list[int]) -> np.ndarray:
    """The logits [vocab] after the tokens of a row, BOS (0) not among them."""
    history = 0
    for token in [0, *tokens]:
      history = self.following[row, history, token]
    return self.logits[row, history]


def random_tables(seed: int, batch: int, vocab: int, scale: float = 1.5) -> Tables:
  rng = np.random.default_rng(seed)
  return Tables(
    (rng.normal(size=(batch, HISTORIES, vocab)) * scale).astype(np.float32),
    rng.integers(0, HISTORIES, (batch, HISTORIES, vocab)).astype(np.int32),
  )


def log_softmax(logits: np.ndarray) -> np.ndarray:
  """In plain numpy and double precision."""
  exact = logits.astype(np.float64)
  shifted = exact - exact.max()
  return shifted - math.log(np.exp(shifted).sum())


def until_end(tokens: np.ndarray, eos_id: int) -> list[int]:
  """The tokens of an answer up to its EOS, all where there is none."""
  found = [int(token) for token in tokens]
  return found[: found.index(eos_id) + 1] if eos_id in found else found
