"""C4's objectives: the original's names over the real schema of the TFDS data set."""

import pytest
import seqio
import tensorflow as tf

from prompt_tuning.data import c4, vocabularies

LENGTHS = {"inputs": 64, "targets": 64}
TOP = 4095  # first sentinel of the embedded vocabulary
TEXT = "the film was fine and the cast was better , said the critic of the paper . " * 20


def examples(name):
  """A task's own preprocessors over a document of C4's schema."""
  task = seqio.TaskRegistry.get(name)
  features = {
    key: seqio.Feature(vocabularies.EMBEDDED.load(), add_eos=True)
    for key in ("inputs", "targets")
  }
  document = {"text": TEXT, "url": "a", "timestamp": "b"}
  dataset = tf.data.Dataset.from_tensors(document)
  with seqio.map_seed_manager(initial_seed=0):
    for step in task.preprocessors:
      if isinstance(step, seqio.CacheDatasetPlaceholder):
        continue
      known = {"sequence_length": LENGTHS, "output_features": features}
      names = seqio.utils.inspect.signature(step).parameters
      dataset = step(dataset, **{k: v for k, v in known.items() if k in names})
  return list(dataset.as_numpy_iterator())


def test_the_original_s_names_are_there():
  assert {"c4_v220_bart_text_infilling", "c4_v220_bart_token_deletion"} <= set(c4.TASKS)
  for name in c4.TASKS:
    task = seqio.TaskRegistry.get(name)
    assert task.source.tfds_dataset.name == "c4/en:2.2.0"
    assert not task.metric_fns


@pytest.mark.parametrize("name", list(c4.TASKS))
def test_each_makes_its_kind_of_example(name):
  found = examples(name)
  assert len(found) > 3
  for example in found:
    inputs, targets = example["inputs"].tolist(), example["targets"].tolist()
    assert inputs[-1] == targets[-1] == 1
    assert max(len(inputs), len(targets)) <= 64
    in_inputs = [t for t in inputs if t > TOP - 100]
    in_targets = [t for t in targets if t > TOP - 100]
    assert bool(in_inputs) == (name.endswith(("corruption", "infilling")))
    assert bool(in_targets) == name.endswith("corruption")
    if "bart" in name:
      assert len(inputs) < len(targets)  # something is hidden, the targets are whole
