"""Finding tasks: what is wrong is said by name, with what was probably meant."""

import dataclasses

import pytest
import seqio

from prompt_tuning import checks
from prompt_tuning.data import registry, vocabularies
from prompt_tuning.data.table import Table


def find(config, vocabulary=vocabularies.EMBEDDED):
  return registry.find(config, vocabulary)


def test_a_task_is_found_by_name(dataset_config, numbers):
  assert find(dataset_config()) is numbers


def test_the_demo_task_needs_no_module(dataset_config):
  config = dataset_config(mixture_or_task_name="movie_reviews_sentiment")
  assert find(config).name == "movie_reviews_sentiment"


def test_a_user_s_module_registers_its_task(dataset_config, tmp_path, monkeypatch):
  (tmp_path / "tasks_of_a_user.py").write_text(
    "import seqio\n"
    "from prompt_tuning.data import features, vocabularies\n"
    "def dataset(split, shuffle_files, seed=None): ...\n"
    "seqio.TaskRegistry.add(\n"
    "  'task_of_a_user',\n"
    "  source=seqio.FunctionDataSource(dataset, splits=('train',)),\n"
    "  preprocessors=[],\n"
    "  output_features=features.text_to_text(vocabularies.T5),\n"
    ")\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  config = dataset_config(mixture_or_task_name="task_of_a_user")
  with pytest.raises(checks.InputError, match="unknown task or mixture"):
    find(config)
  config = dataset_config(mixture_or_task_name="task_of_a_user", module="tasks_of_a_user")
  found = find(config)
  # The run's vocabulary, not the module's default, which lies in a bucket.
  assert found.output_features["targets"].vocabulary == vocabularies.EMBEDDED.load()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"mixture_or_task_name": "movie_review_sentiment"}, "movie_reviews_sentiment"),
    ({"split": "validatoin"}, "the nearest known: validation"),
    ({"module": "no_such_module"}, "there is no module 'no_such_module'"),
    ({"module": "prompt_tuning.data.no_such"}, "'prompt_tuning.data.no_such'"),
  ],
)
def test_unknown_names_are_refused(dataset_config, numbers, changes, message):
  with pytest.raises(checks.InputError, match=message):
    find(dataset_config(**changes))


def test_a_dependency_that_a_module_lacks_is_not_taken_for_the_module(
  dataset_config, tmp_path, monkeypatch
):
  (tmp_path / "zzmissing_tasks.py").write_text("import zzmissing\n")
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(Exception, match="zzmissing") as error:
    find(dataset_config(module="zzmissing_tasks"))
  assert "there is no module" not in str(error.value)


def test_a_task_of_another_vocabulary_is_refused(dataset_config, numbers):
  other = vocabularies.SentencePiece(
    sentencepiece_model_file=vocabularies.EMBEDDED.sentencepiece_model_file, extra_ids=7
  )
  with pytest.raises(checks.InputError, match="'inputs' of numbers_of_the_data_tests"):
    find(dataset_config(), other)


@pytest.fixture
def table():
  """Makes a table of two rows under one name, registered."""

  def make(*texts):
    found = Table(
      name="table_of_the_registry_tests",
      train={"text": [*texts, "good"], "label": ["no", *["yes"] * len(texts)]},
      validation={"text": ["good"], "label": ["yes"]},
      inputs="{text}",
      targets="label",
      labels=["no", "yes"],
    )
    found.register()
    return found

  return make


def test_a_mixture_with_tables_has_their_rows_and_their_identity(dataset_config, table):
  first = table("bad")
  name = "mixture_of_the_registry_tests"
  if name not in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.add(name, [(first.name, 1.0)])
  config = dataset_config(
    mixture_or_task_name=name, task_feature_lengths={"inputs": 4, "targets": 4}
  )
  find(config)
  (before,) = registry.identity(config).values()
  assert registry.cut(config) == []
  table("a very long and very bad text")
  find(config)
  assert list(registry.identity(config).values()) != [before]
  assert "1 of 2 inputs is longer than 4 tokens" in registry.cut(config)[0]
  (task,) = registry.named(name).tasks
  texts = [row["inputs_pretokenized"] for row in task.get_dataset(None, "train")]
  assert b"a very long and very bad text" in [text.numpy() for text in texts]
  assert registry.identity(None) == {}
  vocabularies.use(None)


def test_only_the_rows_that_a_run_reads_make_its_identity(table):
  found = table("bad")
  with_test = dataclasses.replace(found, test={"text": ["x"], "label": ["no"]})
  for split in ("train", "validation"):
    assert with_test.identity([split]) == found.identity([split])
  assert with_test.identity() != found.identity()


def test_empty_batches_are_refused(dataset_config):
  with pytest.raises(checks.InputError, match="BATCH_SIZE is 0"):
    dataset_config(batch_size=0)
