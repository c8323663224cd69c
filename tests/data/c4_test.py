"""C4's objectives: the original's names over the real schema of the TFDS data set."""

import pytest
import seqio
import tensorflow as tf
from more_records import RECORDS, prepared

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


# From TFDS to tokens: what the targets and inputs say of the document.


def from_tfds(name, split="validation"):
  """Inputs and targets without EOS, and the tokens of the documents of a split."""
  prepared("c4/en:2.2.0")
  vocabularies.use(vocabularies.EMBEDDED)
  try:
    dataset = seqio.TaskRegistry.get(name).get_dataset(
      LENGTHS, split, shuffle=False, seed=3
    )
    rows = list(dataset.as_numpy_iterator())
  finally:
    vocabularies.use(None)
  encode = vocabularies.EMBEDDED.load().encode
  documents = [encode(row["text"]) for row in RECORDS["c4/en:2.2.0"][split]]
  assert {tuple(row) for row in rows} == {("inputs", "targets")}
  assert all(row[key].dtype == "int32" and row[key][-1] == 1 for row in rows for key in row)
  return [(row["inputs"].tolist()[:-1], row["targets"].tolist()[:-1]) for row in rows], (
    documents
  )


def spans(tokens):
  """{sentinel: what follows it}, what stands before the first under None."""
  found, key = {None: []}, None
  for token in tokens:
    if token > TOP - 100:
      key = token
      assert key not in found
      found[key] = []
    else:
      found[key].append(token)
  return found


def filled_in(inputs, targets):
  """The inputs with each sentinel replaced by what the targets say of it."""
  said = spans(targets)
  return [token for key in inputs for token in (said[key] if key > TOP - 100 else [key])]


def test_span_corruption_keeps_every_token_on_one_side():
  rows, (document,) = from_tfds("c4_v220_span_corruption")
  pieces = [filled_in(*row) for row in rows]
  assert [token for piece in pieces for token in piece] == document
  for inputs, targets in rows:
    hidden = sum(map(len, spans(targets).values()))
    assert hidden == max(1, round(0.15 * len(filled_in(inputs, targets))))
    assert list(spans(inputs))[1:] == list(spans(targets))[1 : len(spans(inputs))]


def test_prefix_lm_cuts_the_documents_once():
  rows, documents = from_tfds("c4_v220_prefix_lm", "train")
  tokens = [token for document in documents for token in document]
  pieces = [[*inputs, *targets] for inputs, targets in rows]
  assert [token for piece in pieces for token in piece] == tokens[: sum(map(len, pieces))]
  assert sum(map(len, pieces)) >= len(tokens) - 1
  assert len({len(inputs) for inputs, _ in rows}) > 3  # anywhere


@pytest.mark.parametrize("name", ["text_infilling", "token_deletion"])
def test_bart_s_targets_are_the_document_of_which_the_inputs_hide_a_part(name):
  rows, (document,) = from_tfds(f"c4_v220_bart_{name}")
  assert [token for _, targets in rows for token in targets] == document
  hidden = 0
  for inputs, targets in rows:
    rest = iter(targets)
    shown = [token for token in inputs if token <= TOP - 100]
    assert all(token in rest for token in shown)  # in this order
    hidden += len(targets) - len(shown)
    if name == "text_infilling":
      assert len(targets) - len(shown) == max(1, round(0.15 * len(targets)))
      sentinels = [token for token in inputs if token > TOP - 100]
      assert sentinels == list(range(TOP, TOP - len(sentinels), -1))
  assert 0.08 < hidden / len(document) < 0.22
