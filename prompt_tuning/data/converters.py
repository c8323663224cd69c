"""From the features of a task to what a model reads, with T5X's names.

A task brings one target for each input, or all candidates for a target side by side:

  inputs      [input_len]    [input_len, candidates]    encoder_input_tokens
  targets     [target_len]   [target_len, candidates]   decoder_{target, input}_tokens,
                                                        decoder_loss_weights
  is_correct                 [candidates]               is_correct

Here candidates go first, [candidates, length], and are as many as the length of is_correct
says: those that an example lacks have no tokens.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import seqio
import tensorflow as tf

from prompt_tuning import checks

PAIR = {"inputs": 1, "targets": 1}
CANDIDATES = {"inputs": 2, "targets": 2, "is_correct": 1}
_Spec = seqio.FeatureConverter.FeatureSpec


def brings_candidates(provider: Any) -> bool:
  """Whether the examples of a Task or Mixture hold all candidates for their target."""
  return "is_correct" in provider.output_features


def of(provider: Any) -> seqio.FeatureConverter:
  """What converts the examples of a Task or Mixture."""
  kind = Candidates if brings_candidates(provider) else seqio.EncDecFeatureConverter
  return kind(pack=False)


def check(name: str, provider: Any) -> None:
  """Raises `InputError` for examples that neither are pairs nor bring candidates."""
  ranks = {name: feature.rank for name, feature in provider.output_features.items()}
  if ranks != CANDIDATES and (not ranks.items() <= PAIR.items() or "targets" not in ranks):
    raise checks.InputError(
      f"the examples of {name} have {', '.join(ranks)}, expected inputs and targets, a row "
      "of tokens each, or inputs, targets and is_correct of several candidates; leave the "
      "others out"
    )


def check_read(name: str, provider: Any, features: Collection[str]) -> None:
  """Raises `InputError` unless a task brings candidates where somebody needs them.

  Args:
    name: Of the task.
    provider: The seqio Task or Mixture.
    features: What is needed; with is_correct it is candidates.
  """
  brings, needed = brings_candidates(provider), "is_correct" in features
  if brings and not needed:
    raise checks.InputError(
      f"the examples of {name} bring candidates, expected one target each for this LOSS; "
      "set LOSS = @losses.Hinge() (runs/rank_candidates.gin) or choose another task"
    )
  if needed and not brings:
    raise checks.InputError(
      f"the examples of {name} bring no candidates, expected several with their "
      "is_correct; choose a task that does, as those that end in _perceptron, or set "
      "LOSS = @losses.Loss() and leave is_correct out of TASK_FEATURE_LENGTHS"
    )


class Candidates(seqio.FeatureConverter):
  """Examples with all candidates for their target."""

  TASK_FEATURES: ClassVar = {
    "inputs": _Spec(tf.int32, rank=2),
    "targets": _Spec(tf.int32, rank=2),
    "is_correct": _Spec(tf.bool),
  }
  MODEL_FEATURES: ClassVar = {
    "encoder_input_tokens": _Spec(tf.int32, rank=2, sequence_dim=1),
    "decoder_target_tokens": _Spec(tf.int32, rank=2, sequence_dim=1),
    "decoder_input_tokens": _Spec(tf.int32, rank=2, sequence_dim=1),
    "decoder_loss_weights": _Spec(tf.int32, rank=2, sequence_dim=1),
    "is_correct": _Spec(tf.bool),
  }
  PACKING_FEATURE_DTYPES: ClassVar[dict[str, tf.DType]] = {}

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    count = task_feature_lengths["is_correct"]
    _check_count(ds.element_spec["targets"].shape[1], count)
    shapes = {name: (task_feature_lengths[name], count) for name in ("inputs", "targets")}

    def convert(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
      inputs, targets = (tf.transpose(example[name]) for name in ("inputs", "targets"))
      return {
        "encoder_input_tokens": inputs,
        "decoder_target_tokens": targets,
        "decoder_input_tokens": tf.pad(targets, [[0, 0], [1, 0]])[:, :-1],
        "decoder_loss_weights": tf.cast(targets > 0, tf.int32),
        "is_correct": example["is_correct"],
      }

    padded = seqio.utils.trim_and_pad_dataset(ds, {**shapes, "is_correct": count})
    return padded.map(convert, num_parallel_calls=tf.data.AUTOTUNE)

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> dict[str, int]:
    """{feature of the model: its length}."""
    targets = task_feature_lengths["targets"]
    return {
      "encoder_input_tokens": task_feature_lengths["inputs"],
      "decoder_target_tokens": targets,
      "decoder_input_tokens": targets,
      "decoder_loss_weights": targets,
      "is_correct": task_feature_lengths["is_correct"],
    }


def _check_count(found: int | None, room: int) -> None:
  """Raises `InputError` where all examples have more candidates than there is room for."""
  if found is not None and found > room:
    raise checks.InputError(
      f"TASK_FEATURE_LENGTHS has room for {room} candidates (is_correct) and every example "
      f"brings {found}, expected as many at least; set 'is_correct': {found}"
    )
