"""Learning to rank the label words instead of generating them.

  glue_cola_v200_perceptron_train, _test, glue_cola_v200_perceptron     see `candidates`
  glue_cola_v200_generation_train, _test, glue_cola_v200_generation     to compare with
  glue_cola_v200_rank_classification_validation, _test                  scored

The end of the training split is "validation" of `_train`; what the benchmark calls
validation is the "validation" of `_test`.
"""

import functools

import seqio

from prompt_tuning.data import (
  candidates,
  example_metrics,
  glue_benchmark,
  label_words,
  preprocessors,
  super_glue_benchmark,
  variants,
  vocabularies,
)

HELD_OUT = {  # examples of the training split
  "glue_cola_v200": 500,
  "glue_sst2_v200": 2000,
  "glue_mrpc_v200": 200,
  "glue_qqp_v200": 5000,
  "glue_qnli_v200": 3000,
  "glue_rte_v200": 200,
  "super_glue_boolq_v102": 400,
  "super_glue_cb_v102": 50,
  "super_glue_copa_v102": 50,
  "super_glue_rte_v102": 200,
  "super_glue_wic_v102": 400,
}
MIXTURES = {
  "perceptron": ("perceptron_train", "perceptron_test"),
  "generation": (
    "rank_classification_validation",
    "rank_classification_test",
    "generation_train",
    "generation_test",
  ),
}
TEST = ("validation",)


def benchmark_task(name: str) -> variants.Description:
  """The task of GLUE or SuperGLUE that a name of `HELD_OUT` means."""
  benchmark, config, version = name.rsplit("_", 2)
  if benchmark == "glue":
    return glue_benchmark.classification(config, version)
  return super_glue_benchmark.classification(config)


def add_perceptron(name: str, task: variants.Description) -> None:
  """Registers a task whose examples hold all label words at once."""
  assert task.labels and task.postprocess
  label_words.declare(name, task.labels)
  its_metrics = [
    functools.partial(example_metrics.unwrapped, metric=metric) for metric in task.metrics
  ]
  seqio.TaskRegistry.add(
    name,
    source=task.source,
    preprocessors=[
      *task.preprocessors,
      preprocessors.remove_first_text_token,
      *candidates.side_by_side(task.labels),
    ],
    postprocess_fn=functools.partial(
      candidates.of_right_candidate, postprocess=task.postprocess
    ),
    metric_fns=[
      *its_metrics,
      functools.partial(example_metrics.text_examples, task=name),
    ],
    output_features=candidates.output_features(vocabularies.T5),
  )


def _add_all(name: str, held_out: int) -> None:
  task = benchmark_task(name)
  train = variants.with_splits(task, variants.held_out(held_out))
  test = variants.with_splits(task, TEST)
  validation = variants.with_splits(task, {"validation": f"train[-{held_out}:]"})
  form, suffix = variants.TASKLESS, variants.EXAMPLES
  add_perceptron(f"{name}_perceptron_train", train)
  add_perceptron(f"{name}_perceptron_test", test)
  variants.register(f"{name}_generation_train", train, form, suffix)
  variants.register(f"{name}_generation_test", test, form, suffix)
  ranked = f"{name}_rank_classification"
  variants.register(f"{ranked}_validation", candidates.scored(validation), form)
  variants.register(f"{ranked}_test", candidates.scored(test), form)
  for mixture, parts in MIXTURES.items():
    members = {f"{name}_{part}": 1.0 for part in parts}
    variants.register_mixture(f"{name}_{mixture}", members)


for _name, _held_out in HELD_OUT.items():
  _add_all(_name, _held_out)
