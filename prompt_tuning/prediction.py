"""What a prompted model says about a batch: tokens, or the score of given targets."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx

from prompt_tuning import checks, partitioning
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.decoding.greedy import greedy
from prompt_tuning.decoding.ranking import rank
from prompt_tuning.training.state import Split
from prompt_tuning.types import Array

Batch = dict[str, np.ndarray]
Params = dict[str, Array]
_EOS, _UNKNOWN = 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
  """How a model answers.

  Attributes:
    labels: The strings to choose from (rank classification); None decodes greedily.
    max_len: Most tokens of a decoded answer; None takes the targets' length.
  """

  labels: Sequence[str] | None = None
  max_len: int | None = None

  def candidates(self, vocabulary: Vocabulary) -> np.ndarray | None:
    """The labels as tokens [num_labels, target_len] int32, or None.

    Raises:
      InputError: The vocabulary cannot encode a label.
    """
    if self.labels is None:
      return None
    rows = [list(vocabulary.load().encode(label)) for label in self.labels]
    for label, row in zip(self.labels, rows, strict=True):
      if not row or _UNKNOWN in row:
        raise checks.InputError(
          f"the label {label!r} becomes {row} in the vocabulary, expected known pieces "
          "only; choose another label word"
        )
    out = np.zeros((len(rows), max(map(len, rows)) + 1), np.int32)
    for i, row in enumerate(rows):
      out[i, : len(row) + 1] = [*row, _EOS]
    return out


@dataclasses.dataclass(frozen=True)
class Answers:
  """Jitted answers of one model for batches of numpy arrays.

  Attributes:
    predict: (params, batch) -> tokens [batch, length].
    score: (params, batch) -> log-likelihood of the batch's targets [batch].
  """

  predict: Callable[[Params, Batch], np.ndarray]
  score: Callable[[Params, Batch], np.ndarray]


def answers(
  split: Split,
  frozen: nnx.State,
  how: Prediction,
  vocabulary: Vocabulary,
  mesh: jax.sharding.Mesh,
) -> Answers:
  """Compiles how a model answers.

  Args:
    split: The model's structure; its tunable values are arguments of the answers.
    frozen: Its frozen weights, on the mesh.
    how: Decode or rank.
    vocabulary: Encodes the labels.
    mesh: Where batches go.
  """
  candidates = how.candidates(vocabulary)

  @jax.jit
  def predict(params, frozen, batch):
    model = split.merge(params, frozen)
    inputs, ids = batch["encoder_input_tokens"], batch.get("prompt_ids")
    if candidates is not None:
      encoded, real = model.encode(inputs, ids)
      return rank(
        lambda targets: model.score_encoded(encoded, real, targets),
        jax.numpy.asarray(candidates),
        inputs.shape[0],
      )[0]
    max_len = how.max_len or batch["decoder_target_tokens"].shape[1]
    cache = model.start(inputs, max_len, ids)
    return greedy(model.step, cache, inputs.shape[0], max_len)[0]

  @jax.jit
  def score(params, frozen, batch):
    model = split.merge(params, frozen)
    targets = batch["decoder_target_tokens"]
    inputs, ids = batch["encoder_input_tokens"], batch.get("prompt_ids")
    return model.score(inputs, targets, ids)

  def on_host(function):
    return lambda params, batch: jax.device_get(
      function(params, frozen, partitioning.shard_batch(batch, mesh))
    )

  return Answers(on_host(predict), on_host(score))
