"""The answers of several prompts, alone and together, from one pass over a batch.

Every example is repeated inside the batch, once with each prompt of the bank:

  rows        e0 e0 e0 e1 e1 e1 ...
  prompt_ids   0  1  2  0  1  2
"""

import collections
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning import partitioning, trees
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.decoding import ensembling
from prompt_tuning.decoding.ranking import rank
from prompt_tuning.decoding.step import key_of
from prompt_tuning.partitioning import Layout
from prompt_tuning.prediction import Batch, Prediction, candidates
from prompt_tuning.prompts.families import Prompted
from prompt_tuning.training import state as states
from prompt_tuning.types import Array

Compute = Callable[[Batch, str], np.ndarray]  # (batch, task) -> [batch, contestants, ...]


class Members:
  """The members of an ensemble and the rules by which they answer as one.

  Contestants are the members in the order of the bank, then `ensembling.RULES`.

  Args:
    model: The frozen model with a bank of prompts.
    how: Decode or rank. Decoded answers are voted on whatever the rule.
    vocabulary: Encodes the labels.
    layout: Where the model and batches go.
  """

  def __init__(
    self,
    model: Prompted,
    how: Prediction,
    vocabulary: Vocabulary,
    layout: Layout,
  ):
    assert model.bank is not None
    self.count = model.bank.num_prompts
    self._how, self._vocabulary, self._mesh = how, vocabulary, layout.mesh
    split = states.Split.of(model)
    tunable = trees.values(layout.place(split.tunable))
    self._arrays = (tunable, layout.place(split.frozen))
    count, whole = self.count, partitioning.replicated(layout.mesh)

    def rows(batch: Mapping[str, Array]) -> tuple[Array, Array]:
      inputs = batch["encoder_input_tokens"]
      ids = jnp.tile(jnp.arange(count), inputs.shape[0])
      return jnp.repeat(inputs, count, axis=0), ids

    @functools.partial(jax.jit, out_shardings=whole)
    def ranked(arrays, batch, words):
      model, (inputs, ids) = split.merge(*arrays), rows(batch)
      _, scores = rank(
        lambda each: model.score_candidates(inputs, each, ids),
        jnp.broadcast_to(words, (inputs.shape[0], *words.shape)),
        how.length_normalized,
      )
      scores = scores.reshape(-1, count, words.shape[0])
      together = [rule(scores)[:, None] for rule in ensembling.RULES.values()]
      best = jnp.argmax(jnp.concatenate([scores, *together], axis=1), axis=-1)
      return jnp.take(words, best, axis=0)

    @functools.partial(jax.jit, out_shardings=whole)
    def decoded(arrays, batch):
      model, (inputs, ids) = split.merge(*arrays), rows(batch)
      max_len = how.max_len or batch["decoder_target_tokens"].shape[1]
      tokens, scores = model.generate(inputs, max_len, ids, how.decoding, key_of(inputs))
      tokens, scores = tokens.reshape(-1, count, max_len), scores.reshape(-1, count)
      voted = ensembling.voted(tokens, scores)[:, None]
      return jnp.concatenate([tokens, *[voted] * len(ensembling.RULES)], axis=1)

    @functools.partial(jax.jit, out_shardings=whole)
    def likelihoods(arrays, batch):
      model, (inputs, ids) = split.merge(*arrays), rows(batch)
      targets = jnp.repeat(batch["decoder_target_tokens"], count, axis=0)
      scores = model.score(inputs, targets, ids).reshape(-1, count)
      mixture = jax.nn.logsumexp(scores, axis=1, keepdims=True) - jnp.log(float(count))
      return jnp.concatenate([scores, *[mixture] * len(ensembling.RULES)], axis=1)

    self._ranked, self._decoded, self._likelihoods = ranked, decoded, likelihoods
    self._tokens_of = functools.cache(lambda words: candidates(words, vocabulary))

  def answers(self, batch: Batch, task: str) -> np.ndarray:
    """Tokens [batch, contestants, length]."""
    words, placed = self._how.words(task), partitioning.shard_batch(batch, self._mesh)
    if words is None:
      return jax.device_get(self._decoded(self._arrays, placed))
    return jax.device_get(self._ranked(self._arrays, placed, self._tokens_of(tuple(words))))

  def scores(self, batch: Batch, task: str) -> np.ndarray:
    """Log-likelihoods of the targets [batch, contestants]; of the mixture for a rule."""
    del task
    placed = partitioning.shard_batch(batch, self._mesh)
    return jax.device_get(self._likelihoods(self._arrays, placed))


class Once:
  """Computes each batch once, for however many contestants ask, in the same order.

  Args:
    compute: Gives [batch, contestants, ...].
  """

  def __init__(self, compute: Compute):
    self._compute = compute
    self._found: dict[str, list[np.ndarray]] = collections.defaultdict(list)

  def of(self, contestant: int) -> Callable[[Batch, str], np.ndarray]:
    """(batch, task) -> what one contestant says."""
    asked: collections.Counter[str] = collections.Counter()

    def answer(batch: Batch, task: str) -> np.ndarray:
      number, found = asked[task], self._found[task]
      asked[task] += 1
      if number == len(found):
        found.append(self._compute(batch, task))
      return found[number][:, contestant]

    return answer
