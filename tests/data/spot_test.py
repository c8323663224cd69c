"""SPoT's source tasks: the task's name stands in front, exact texts, scores by hand."""

import pytest
import seqio
from more_records import RECORDS, examples, texts

from prompt_tuning.data import glue, spot

_ANLI = {
  "train": [
    ("hypothesis: Ida writes verse. context: Ida Lind (born 1950) is a poet.", 0),
    ("hypothesis: The lake is deep. context: The lake is in Chile.", 1),
    ("hypothesis: The shop is open. context: The shop shut in 1990.", 2),
  ],
  "validation": [("hypothesis: Rome hosted the games. context: Oslo hosted the games.", 2)],
  "test": [("hypothesis: He plays a game. context: He plays chess.", 0)],
}
_NLI = ("entailment", "neutral", "contradiction", "<unk>")  # the last is class -1
# name -> word in front, label words, inputs and classes of every split
NLI = {
  **{
    f"spot_anli_{part}_v010": (f"anli_{part}", _NLI, _ANLI) for part in ("r1", "r2", "r3")
  },
  "spot_doc_nli_v100": (
    "doc_nli",
    ("not_entailment", "entailment"),
    {
      "train": [
        (
          "hypothesis: Roads were shut. premise: Two roads in Kent were shut by a storm.",
          1,
        ),
        ("hypothesis: The bridge fell. premise: The bridge opened.", 0),
      ],
      "validation": [("hypothesis: It was dry. premise: Rain fell all day.", 0)],
      "test": [("hypothesis: Leeds did not lose. premise: Leeds won.", 1)],
    },
  ),
  "spot_snli_v110": (
    "snli",
    _NLI,
    {
      "train": [
        ("hypothesis: A man is outdoors. premise: A man rides a horse.", 1),
        ("hypothesis: Kids are playing. premise: Kids play ball.", 0),
        ("hypothesis: A woman runs. premise: A woman sleeps.", 2),
        ("hypothesis: The dogs are hungry. premise: Two dogs wait.", -1),
      ],
      "validation": [("hypothesis: A boy has a book. premise: A boy reads.", 0)],
      "test": [("hypothesis: A girl is silent. premise: A girl sings.", 2)],
    },
  ),
}


@pytest.mark.parametrize("name", NLI)
def test_nli_has_single_spaces_and_unk_for_no_label(name):
  word, labels, splits = NLI[name]
  for split, rows in splits.items():
    expected = [(f"{word} {text}", labels[label]) for text, label in rows]
    assert texts(name, split) == expected


def test_nli_is_judged_by_the_raw_words():
  task = seqio.TaskRegistry.get("spot_snli_v110")
  rows = examples("spot_snli_v110", "train")
  found = ["neutral", "Entailment", "contradiction", "neutral"]
  targets = [row["targets_pretokenized"].decode() for row in rows]
  if task.postprocess_fn:
    targets = [task.postprocess_fn(text, is_target=True) for text in targets]
    found = [task.postprocess_fn(text, is_target=False) for text in found]
  (metric,) = task.metric_fns
  assert metric(targets, found) == {"accuracy": 50.0}  # a capital counts, so does <unk>


QUESTIONS = {  # name of the data set -> first training example
  "squad": (
    "squad question: When was it cold ? context: The winter of 1963 ( the coldest since "
    "1740 ) froze the sea . Snow lay until March . ",
    "1963",
  ),
  "news_qa": (
    "news_qa question: Who won ? context: ( CNN ) - - Leeds won , 2 - 1 . ",
    "Leeds",
  ),
  "trivia_qa": (
    "trivia_qa question: Capital of Peru ? context: [ DOC ] Lima is in Peru . ",
    "Lima",
  ),
  "search_qa": (
    "search_qa question: This bird cannot fly context: [ PAR ] The emu runs . ",
    "emu",
  ),
  "hotpot_qa": (
    "hotpot_qa question: Was Ada a poet ? context: [ PAR ] Ada wrote programs . ",
    "no",
  ),
  "natural_questions": (
    "natural_questions question: who wrote emma context: < P > Emma is by Jane Austen < "
    "/ P > ",
    "Jane Austen",
  ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_mrqa_begins_with_the_data_set(name):
  full = f"spot_mrqa_{name}_v100"
  assert texts(full, "train") == [QUESTIONS[name]]
  assert examples(full, "validation")[0]["targets"][-1] == 1


def test_every_source_task_is_in_a_table_here():
  assert {f"spot_{name}" for name in spot.NLI} == set(NLI)
  assert set(spot.MRQA) == set(QUESTIONS)
  assert set(spot.SUMMARIES) == set(SUMMARIES)
  assert {*spot.GLUE, "mnli"} == set(GLUE)


def test_mrqa_takes_any_right_answer():
  name = "spot_mrqa_trivia_qa_v100"
  task, (row,) = seqio.TaskRegistry.get(name), examples(name, "train")
  targets = [task.postprocess_fn("Lima", example=row, is_target=True)]
  assert targets == [["Lima", "lima"]]
  (metric,) = task.metric_fns
  assert metric(targets, ["lima, Peru"]) == {"em": 0.0, "f1": pytest.approx(200 / 3)}


SUMMARIES = {  # data set -> version in the task's name, version of TFDS
  "aeslc": ("v100", "1.0.0"),
  "billsum": ("v300", "3.0.0"),
  "gigaword": ("v120", "1.2.0"),
  "cnn_dailymail": ("v320", "3.2.0"),
  "multi_news": ("v100", "1.0.0"),
  "samsum": ("v100", "1.0.0"),
  "newsroom": ("v100", "1.0.0"),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_summaries_begin_with_the_data_set_and_what_is_asked(name):
  ours, tfds_s = SUMMARIES[name]
  full = f"spot_{name}_{ours}"
  task = seqio.TaskRegistry.get(full)
  assert task.source.tfds_dataset.name == f"{name}:{tfds_s}"
  assert texts(full, "train") == [
    (f"{name} summarize: A storm hit Kent. Two roads were shut.", "Storm shuts roads"),
    (f"{name} summarize: Leeds beat Hull 2-1.", "Leeds beat Hull"),
  ]
  assert texts(full, "validation") == [
    (f"{name} summarize: The bridge over the Tay\nopened today.", "Tay bridge opens .")
  ]
  assert texts(full, "test") == [(f"{name} summarize: Rain fell all day .", "It rained .")]
  (metric,) = task.metric_fns
  # Of 3 words 2 are found, of 2 pairs 1.
  values = metric(["Tay bridge opens ."], ["Tay bridge shut ."])
  assert values == pytest.approx({"rouge1": 200 / 3, "rouge2": 50.0, "rougeLsum": 200 / 3})


_PAIR = "sentence1: {sentence1} sentence2: {sentence2}"
_ENTAILED = ("entailment", "not_entailment")
GLUE = {  # config -> inputs of a record behind the name, label words in class order
  "cola": ("sentence: {sentence}", ("unacceptable", "acceptable")),
  "sst2": ("sentence: {sentence}", ("negative", "positive")),
  "mrpc": (_PAIR, ("not_equivalent", "equivalent")),
  "qqp": (
    "question1: {question1} question2: {question2}",
    ("not_duplicate", "duplicate"),
  ),
  "qnli": ("question: {question} sentence: {sentence}", _ENTAILED),
  "rte": (_PAIR, _ENTAILED),
  "wnli": (_PAIR, ("not_entailment", "entailment")),
  "mnli": ("hypothesis: {hypothesis} premise: {premise}", _NLI),
}
MNLI = {  # part -> its only split, that of the data set
  "train": ("train", "train"),
  "validation_matched": ("validation", "validation_matched"),
  "validation_mismatched": ("validation", "validation_mismatched"),
}


def of_glue(config, split):
  """What the records of a split become."""
  text, labels = GLUE[config]
  return [
    (
      f"{config} {text.format(**row)}",
      "<unk>" if row["label"] < 0 else labels[row["label"]],
    )
    for row in RECORDS[f"glue/{config}:2.0.0"][split]
  ]


@pytest.mark.parametrize("config", [config for config in GLUE if config != "mnli"])
def test_glue_begins_with_the_task(config):
  name = f"spot_glue_{config}_v200"
  assert seqio.TaskRegistry.get(name).source.tfds_dataset.name == f"glue/{config}:2.0.0"
  for split in ("train", "validation", "test"):
    assert texts(name, split) == of_glue(config, split)


def test_similarity_is_a_number_in_steps_of_a_fifth():
  found = texts("spot_glue_stsb_v200", "train")
  rows = RECORDS["glue/stsb:2.0.0"]["train"]
  assert [text for text, _ in found] == [f"stsb {_PAIR.format(**row)}" for row in rows]
  assert [target for _, target in found] == [
    f"{round(row['label'] * 5) / 5:.1f}" for row in rows
  ]


@pytest.mark.parametrize("part", MNLI)
def test_mnli_s_parts_have_one_split_each(part):
  name, (split, theirs) = f"spot_glue_mnli_{part}_v200", MNLI[part]
  assert set(seqio.TaskRegistry.get(name).splits) == {split}
  assert texts(name, split) == of_glue("mnli", theirs)


def test_mnli_as_a_whole_is_its_parts():
  mixture = seqio.MixtureRegistry.get("spot_glue_mnli_and_dev_v200")
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  assert rates == {f"spot_glue_mnli_{part}_v200": 1.0 for part in MNLI}


FAMILIES = {  # mixture -> its tasks but for GLUE's, of GLUE's those with training examples
  "glue": (set(), {"cola", "sst2", "mrpc", "qqp", "stsb", "qnli", "rte", "mnli_train"}),
  "mrqa": ({f"spot_mrqa_{name}_v100" for name in QUESTIONS}, set()),
  "nli": (set(NLI), {"qnli", "rte", "mnli_train"}),
  "summarization": (
    {f"spot_{name}_{ours}" for name, (ours, _) in SUMMARIES.items()},
    set(),
  ),
}


def rates_of(name):
  mixture = seqio.MixtureRegistry.get(name)
  return {task.name: mixture.get_rate(task) for task in mixture.tasks}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixture_has_its_family(family):
  others, of_glue = FAMILIES[family]
  rates = rates_of(f"spot_{family}_mixture")
  trained = {f"spot_glue_{config}_v200" for config in of_glue}
  assert {name for name, rate in rates.items() if rate} == others | trained
  if of_glue:  # what is judged of MNLI
    assert {f"spot_glue_mnli_{part}_v200" for part in MNLI} <= rates.keys()


def test_all_is_every_source_task_at_the_rate_of_its_family():
  everything = rates_of("spot_all_mixture")
  tasks = {name for name in seqio.TaskRegistry.names() if name.startswith("spot_")}
  assert everything.keys() == tasks and len(tasks) == 29
  for family in FAMILIES:
    assert rates_of(f"spot_{family}_mixture").items() <= everything.items()


def test_rates_are_training_examples_up_to_t5_s_limit():
  rates = rates_of("spot_all_mixture")
  assert spot.LIMIT == 524288
  assert max(rates.values()) == 524288
  assert {name for name, rate in rates.items() if rate == spot.LIMIT} == {
    "spot_doc_nli_v100",
    "spot_snli_v110",
    "spot_gigaword_v120",
    "spot_newsroom_v100",
  }
  assert rates["spot_glue_mnli_train_v200"] == 392702
  anli = [rates[f"spot_anli_{part}_v010"] for part in ("r1", "r2", "r3")]
  assert sum(anli) == 162865  # Nie et al. 2020, table 2
  assert glue  # imported for its names
  t5 = rates_of("glue_v200_proportional")
  for config in (*spot.GLUE, "stsb"):
    assert rates[f"spot_glue_{config}_v200"] == t5[f"glue_{config}_v200"]


def test_a_mixture_of_one_s_own_counts_tasks_up_to_the_limit():
  name = "spot_test_mixture"
  spot.add_mixture(name, {"spot_snli_v110": 550152, "glue_rte_v200": 2490})
  assert rates_of(name) == {"spot_snli_v110": 524288.0, "glue_rte_v200": 2490.0}
