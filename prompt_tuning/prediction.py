"""What a prompted model says about a batch: tokens, or the score of given targets."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from prompt_tuning import checks, partitioning
from prompt_tuning.data import label_words
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.ranking import rank
from prompt_tuning.decoding.step import Algorithm, key_of
from prompt_tuning.training.candidate_losses import as_rows
from prompt_tuning.training.state import Split
from prompt_tuning.types import Array

Batch = dict[str, np.ndarray]
Params = dict[str, Array]
Words = Sequence[str]
OF_THE_TASK = "task"
_EOS = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
  """How a model answers.

  Attributes:
    labels: The strings to choose from (rank classification); "task" for the label words
      of each task, greedy where a task has none; None decodes greedily.
    max_len: Most tokens of a decoded answer; None takes the targets' length.
    decoding: How answers are decoded.
    length_normalized: Whether candidates are compared by likelihood per token.
    return_all_decodes: Whether inference with scores gives all answers, best last.
  """

  labels: Words | str | None = None
  max_len: int | None = None
  decoding: Algorithm = Greedy()
  length_normalized: bool = False
  return_all_decodes: bool = False

  def words(self, task: str) -> Words | None:
    """What is chosen from for a task, or None to decode.

    Raises:
      InputError: `labels` is a word other than "task".
    """
    if isinstance(self.labels, str):
      checks.choice("value of LABELS", self.labels, [OF_THE_TASK])
      return label_words.of(task)
    return self.labels

  def check(self, tasks: Iterable[str], vocabulary: Vocabulary) -> None:
    """Raises `InputError` where the vocabulary cannot encode what is chosen from."""
    given = self.labels if isinstance(self.labels, list | tuple) else None
    for words in (given, *map(self.words, tasks)):
      if words is not None:
        candidates(words, vocabulary)


def candidates(words: Words, vocabulary: Vocabulary) -> np.ndarray:
  """Label words as tokens [num_labels, target_len] int32, EOS behind each.

  Raises:
    InputError: The vocabulary cannot encode a word.
  """
  if not words:
    raise checks.InputError("there are no labels, expected at least one; name some")
  loaded = vocabulary.load()
  rows = [[*loaded.encode(word), _EOS] for word in words]
  for word, row in zip(words, rows, strict=True):
    if len(row) == 1 or loaded.unk_id in row:
      raise checks.InputError(
        f"the label {word!r} becomes {row[:-1]} in the vocabulary, expected known pieces "
        "only; choose another label word"
      )
  check_distinct(words, rows)
  return padded(rows)


def check_distinct(words: Words, rows: Sequence[Sequence[int] | np.ndarray]) -> None:
  """Raises `InputError` where two words become the same tokens."""
  seen: dict[tuple[int, ...], str] = {}
  for word, row in zip(words, rows, strict=True):
    key = tuple(map(int, row))
    if key in seen:
      raise checks.InputError(
        f"the labels {seen[key]!r} and {word!r} are the same to the vocabulary, expected "
        "words that it tells apart; choose another label word"
      )
    seen[key] = word


def padded(rows: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
  """Rows of tokens as one array [rows, longest] int32, 0 behind the shorter ones."""
  out = np.zeros((len(rows), max(map(len, rows))), np.int32)
  for place, row in zip(out, rows, strict=True):
    place[: len(row)] = row
  return out


@dataclasses.dataclass(frozen=True)
class Answers:
  """Jitted answers of one model for batches of numpy arrays.

  Attributes:
    predict: (params, batch, task) -> tokens [batch, length].
    all_answers: (params, batch, task) -> tokens [batch, n, length] and their scores
      [batch, n], best last: all decodes, or all candidates; those that the batch brings,
      where it brings some.
    score: (params, batch, task) -> log-likelihood of the batch's targets [batch].
  """

  predict: Callable[[Params, Batch, str], np.ndarray]
  all_answers: Callable[[Params, Batch, str], tuple[np.ndarray, np.ndarray]]
  score: Callable[[Params, Batch, str], np.ndarray]


def answers(
  split: Split,
  frozen: nnx.State,
  how: Prediction,
  vocabulary: Vocabulary,
  mesh: jax.sharding.Mesh,
  places: Mapping[str, int] | None = None,
) -> Answers:
  """Compiles how a model answers.

  Args:
    split: The model's structure; its tunable values are arguments of the answers.
    frozen: Its frozen weights, on the mesh.
    how: Decode or rank.
    vocabulary: Encodes the labels.
    mesh: Where batches go.
    places: The prompt of each task in the bank; None where one answers for all.
  """
  sentinel = nnx.merge(split.graph, split.tunable, split.frozen).steering.sentinel
  tokens_of = functools.cache(lambda words: candidates(words, vocabulary))
  whole = partitioning.replicated(mesh)  # every process reads all answers

  @functools.partial(jax.jit, out_shardings=whole)
  def choose(params, frozen, batch, words):
    model = split.merge(params, frozen)
    inputs, ids = batch["encoder_input_tokens"], batch.get("prompt_ids")
    words = jnp.broadcast_to(words, (inputs.shape[0], *words.shape))
    return best_last(
      lambda candidates: model.score_candidates(inputs, candidates, ids), words
    )

  @functools.partial(jax.jit, out_shardings=whole)
  def choose_given(params, frozen, batch):
    model, rows = split.merge(params, frozen), as_rows(batch)
    inputs, ids = rows["encoder_input_tokens"], rows.get("prompt_ids")
    scores = model.score(inputs, rows["decoder_target_tokens"], ids)
    return best_last(
      lambda words: scores.reshape(words.shape[:2]), batch["decoder_target_tokens"]
    )

  def best_last(score: Callable[[Array], Array], words: Array) -> tuple[Array, Array]:
    _, scores = rank(score, words, how.length_normalized)
    # Of equals the first candidate wins, so it comes last.
    order = words.shape[1] - 1 - jnp.argsort(jnp.flip(scores, axis=1), axis=1)
    tokens = jnp.take_along_axis(words, order[..., None], axis=1)
    return tokens, jnp.take_along_axis(scores, order, axis=1)

  @functools.partial(jax.jit, out_shardings=whole)
  def decode(params, frozen, batch):
    model = split.merge(params, frozen)
    inputs, ids = batch["encoder_input_tokens"], batch.get("prompt_ids")
    max_len = how.max_len or batch["decoder_target_tokens"].shape[1]
    key = key_of(inputs)
    return model.generate_all(inputs, max_len, ids, how.decoding, key)

  @functools.partial(jax.jit, out_shardings=whole)
  def likelihood(params, frozen, batch):
    model = split.merge(params, frozen)
    targets = batch["decoder_target_tokens"]
    inputs, ids = batch["encoder_input_tokens"], batch.get("prompt_ids")
    return model.score(inputs, targets, ids)

  def of_task(batch: Batch, task: str) -> dict[str, Array]:
    if sentinel is not None:
      sentinel.check(batch["encoder_input_tokens"])
    if places is not None:
      rows = len(batch["encoder_input_tokens"])
      batch = {**batch, "prompt_ids": np.full(rows, places[task], np.int32)}
    return partitioning.shard_batch(batch, mesh)

  def predict(params: Params, batch: Batch, task: str) -> np.ndarray:
    return all_answers(params, batch, task)[0][:, -1]

  def all_answers(params: Params, batch: Batch, task: str) -> tuple[np.ndarray, np.ndarray]:
    words, placed = how.words(task), of_task(batch, task)
    if "is_correct" in placed:
      return jax.device_get(choose_given(params, frozen, placed))
    if words is None:
      return jax.device_get(decode(params, frozen, placed))
    return jax.device_get(choose(params, frozen, placed, tokens_of(tuple(words))))

  def score(params: Params, batch: Batch, task: str) -> np.ndarray:
    if "is_correct" in batch:
      raise checks.InputError(
        f"the scores of the targets of {task} are asked for, which brings candidates, "
        "expected one target each; infer with mode = 'predict_with_aux'"
      )
    return jax.device_get(likelihood(params, frozen, of_task(batch, task)))

  return Answers(predict, all_answers, score)
