"""SQuAD and MRQA: texts, every field, answers, scores by hand, and the shift of domain."""

import functools

import pytest
import seqio
import tensorflow as tf
from more_records import examples, texts

from prompt_tuning.data import qa, question_answering, reading

_WINTER = (
  "The winter of 1963 ( the coldest since 1740 ) froze the sea . Snow lay until March . "
)
OUT_OF_DOMAIN = {  # name -> the only example, from the test split of the data set
  "bio_asq": ("question: Which gene ? context: BRCA - 1 was found . ", "BRCA - 1"),
  "drop": ("question: How many yards ? context: He ran 42 yards . ", "42"),
  "duo_rc": ("question: Who is Roy ' s boss ? context: Roy works for Ann . ", "Ann"),
  "race": ("question: Where is Li from ? context: Li is from Wuhan . ", "Wuhan"),
  "relation_extraction": (
    "question: Who founded Acme ? context: Acme was founded by Bo . ",
    "Bo",
  ),
  "textbook_qa": ("question: What melts ? context: Ice melts at 0 C . ", "ice"),
}
IN_DOMAIN = {  # name -> of the training and of the validation split
  "news_qa": [
    ("question: Who won ? context: ( CNN ) - - Leeds won , 2 - 1 . ", "Leeds"),
    ("question: Who lost ? context: ( CNN ) - - Hull lost . ", "Hull"),
  ],
  "trivia_qa": [
    ("question: Capital of Peru ? context: [ DOC ] Lima is in Peru . ", "Lima"),
    ("question: Capital of Cuba ? context: [ DOC ] Havana , Cuba", "Havana"),
  ],
  "search_qa": [
    ("question: This bird cannot fly context: [ PAR ] The emu runs . ", "emu"),
    ("question: This bird sings context: [ PAR ] The lark sings . ", "lark"),
  ],
  "hotpot_qa": [
    ("question: Was Ada a poet ? context: [ PAR ] Ada wrote programs . ", "no"),
    ("question: Was Keats a poet ? context: [ PAR ] Keats wrote odes . ", "yes"),
  ],
  "natural_questions": [
    (
      "question: who wrote emma context: < P > Emma is by Jane Austen < / P > ",
      "Jane Austen",
    ),
    ("question: who sang hey jude context: < P > The Beatles < / P > ", "The Beatles"),
  ],
}
PREFIXES, SUFFIXES = ("", "mt5_", "byt5_"), ("", "_examples")
each_variant = pytest.mark.parametrize(
  "variant", [f"{p}{{}}{s}" for p in PREFIXES for s in SUFFIXES]
)


@each_variant
def test_squad_sets_punctuation_apart_and_asks_for_the_first_answer(variant):
  name = variant.format("squad_v010_allanswers")
  assert texts(name, "train") == [
    (f"question: When was it cold ? context: {_WINTER}", "1963")
  ]
  assert texts(name, "validation") == [
    (f"question: Until when did snow lie ? context: {_WINTER}", "March"),
    (
      "question: What did the U . S . buy ? context: The U . S . bought Alaska . ",
      "Alaska",
    ),
  ]


def test_squad_keeps_its_fields():
  (row,) = examples("squad_v010_allanswers", "train")
  assert row["id"] == b"s1"
  assert row["question"] == b"When was it cold ? "
  assert row["context"] == _WINTER.encode()
  assert row["answers"].tolist() == [b"1963", b"the winter of 1963"]
  assert row["inputs"][-1] == row["targets"][-1] == 1


@pytest.mark.parametrize("name", OUT_OF_DOMAIN)
def test_what_is_evaluated_only_has_the_test_split_as_validation(name):
  task = seqio.TaskRegistry.get(f"mrqa_{name}_v100")
  assert set(task.splits) == {"validation"}
  assert texts(f"mrqa_{name}_v100_examples", "validation") == [OUT_OF_DOMAIN[name]]


@pytest.mark.parametrize("name", IN_DOMAIN)
def test_what_is_trained_on_has_both_splits(name):
  assert set(seqio.TaskRegistry.get(f"mrqa_{name}_v100").splits) == {"train", "validation"}
  found = [texts(f"mrqa_{name}_v100", split) for split in ("train", "validation")]
  assert found == [[row] for row in IN_DOMAIN[name]]


def test_mrqa_keeps_its_fields():
  (row,) = examples("mrqa_bio_asq_v100", "validation")
  assert row["id"] == b"b1"
  assert row["question"] == b"Which gene ? "
  assert row["context"] == b"BRCA - 1 was found . "
  assert row["answers"].tolist() == [b"BRCA - 1", b"BRCA1"]


def test_the_domains_are_mrqa_s():
  assert set(question_answering.OUT_OF_DOMAIN) == set(OUT_OF_DOMAIN)
  assert set(question_answering.IN_DOMAIN) == set(IN_DOMAIN)


def scores(name, split, answers):
  """The metrics of a task for some answers, by seqio's way from text to metric."""
  task, rows = seqio.TaskRegistry.get(name), examples(name, split)
  post = task.postprocess_fn
  targets = [
    post(row["targets_pretokenized"].decode(), example=row, is_target=True) for row in rows
  ]
  found = [
    post(answer, example=row, is_target=False)
    for row, answer in zip(rows, answers, strict=True)
  ]
  return targets, found, [metric(targets, found) for metric in task.metric_fns]


def test_the_best_of_several_answers_counts():
  targets, found, (values,) = scores(
    "squad_v010_allanswers", "validation", ["Until, the march!", "the state of Alaska"]
  )
  assert targets == [["March", "until March", "March"], ["Alaska"]]
  assert found == ["Until, the march!", "the state of Alaska"]
  # "until march" is the second answer: 1 and 1. "state of alaska" against "alaska" shares
  # 1 of 3 and 1 words: 0 and 2 * 1 / (3 + 1) = 0.5.
  assert values == {"em": pytest.approx(50.0), "f1": pytest.approx(75.0)}


def test_with_examples_the_scores_are_the_same_and_texts_are_shown():
  name = "squad_v010_allanswers_examples"
  _, found, values = scores(name, "validation", ["March", "a boat"])
  assert found[1] == {
    "prediction": "a boat",
    "prediction_pretokenized": "a boat",
    "inputs_pretokenized": (
      "question: What did the U . S . buy ? context: The U . S . bought Alaska . "
    ),
    "targets_pretokenized": "Alaska",
  }
  assert values[0] == {"em": 50.0, "f1": 50.0}
  assert set(values[1]) == {f"{name} samples", f"{name} negative samples"}
  wrong = values[1][f"{name} negative samples"].textdata
  assert "a boat" in wrong and "Until when" not in wrong
  assert "**target**: March, until March" in values[1][f"{name} samples"].textdata


@pytest.mark.parametrize(
  ("right", "answer", "em", "f1"),
  [
    (["the Danube"], "Danube.", 100.0, 100.0),  # articles and punctuation do not count
    (["red blue blue"], "blue blue blue", 0.0, 200 / 3),  # 2 words shared of 3 and 3
    (["1963", "the winter of 1963"], "winter 1963", 0.0, 80.0),  # 2 of 3 and 2
    (["Ann"], "", 0.0, 0.0),
  ],
)
def test_em_and_f1_by_hand(right, answer, em, f1):
  (metric,) = seqio.TaskRegistry.get("mrqa_drop_v100").metric_fns
  assert metric([right], [answer]) == {"em": em, "f1": pytest.approx(f1)}


MIXTURES = {
  **{f"squad_to_{name}": [f"mrqa_{name}_v100"] for name in OUT_OF_DOMAIN},
  "squad_to_mrqa": [f"mrqa_{name}_v100" for name in OUT_OF_DOMAIN],
}


@each_variant
@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_are_squad_and_what_it_is_evaluated_on(variant, name):
  members = [qa.SQUAD, *MIXTURES[name]]
  mixture = seqio.MixtureRegistry.get(variant.format(name))
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  assert rates == {variant.format(member): 1.0 for member in members}
  trained_on = [task.name for task in mixture.tasks if "train" in task.splits]
  assert trained_on == [variant.format(qa.SQUAD)]


def test_one_domain_s_name_may_stand_in_front():
  named = functools.partial(reading.mrqa, name="race")
  record = {"qid": "1", "context": "A.", "question": "B?", "answers": ["C"]}
  (row,) = named(tf.data.Dataset.from_tensors(record)).as_numpy_iterator()
  assert row["inputs"] == b"race question: B ? context: A . "
