"""GLUE: the exact texts of every config, its answers and what they score."""

import benchmark_records
import pytest
import seqio

from prompt_tuning.data import glue, label_words

assert glue.benchmark.VERSIONS == {"v002": "1.0.0", "v200": "2.0.0"}

TEXTS = benchmark_records.table("""
cola train
  cola sentence: The boats sailed past the lighthouse. => acceptable
  cola sentence: Sailed the boats lighthouse past. => unacceptable
cola validation
  cola sentence: Mary wondered which picture he liked. => acceptable
cola test
  cola sentence: The gardener water the roses. => <unk>
sst2 train
  sst2 sentence: tedious from start to finish => negative
  sst2 sentence: a joy to watch => positive
sst2 validation
  sst2 sentence: it 's charming => positive
sst2 test
  sst2 sentence: uneasy mishmash => <unk>
mrpc train
  mrpc sentence1: Profit rose 4 percent . sentence2: Profit was up 4 percent . => equivalent
  mrpc sentence1: Two airports closed on Friday . sentence2: Two were hurt on Friday . => \
not_equivalent
mrpc validation
  mrpc sentence1: He resigned on Monday . sentence2: On Monday , he stepped down . => \
equivalent
mrpc test
  mrpc sentence1: Shares fell . sentence2: Shares of the bank fell . => <unk>
qqp train
  qqp question1: How do I swim? question2: How can I learn to swim? => duplicate
  qqp question1: Why is the sky blue? question2: Why is the sea salty? => not_duplicate
qqp validation
  qqp question1: How old is the Earth? question2: What is the age of the Earth? => duplicate
qqp test
  qqp question1: What is tea? question2: What is coffee? => <unk>
stsb train
  stsb sentence1: A man plays a guitar. sentence2: A man plays a flute. => 2.4
  stsb sentence1: A dog runs on grass. sentence2: A dog runs in a field. => 3.2
stsb validation
  stsb sentence1: A child eats. sentence2: A child is eating. => 5.0
stsb test
  stsb sentence1: Birds fly. sentence2: Fish swim. => -1.0
mnli train
  mnli hypothesis: Someone is asleep. premise: The baby fell asleep at once. => entailment
  mnli hypothesis: The shop is shut. premise: The shop sells tea. => neutral
  mnli hypothesis: Nobody came. premise: Forty guests came. => contradiction
mnli validation_matched
  mnli hypothesis: He owns a car. premise: He parked his car outside. => entailment
mnli validation_mismatched
  mnli hypothesis: It never rains. premise: It rained all week. => contradiction
mnli test_matched
  mnli hypothesis: The train is late. premise: We still wait for the train. => <unk>
mnli test_mismatched
  mnli hypothesis: The train is late. premise: We still wait for the train. => <unk>
mnli_matched validation
  mnli hypothesis: He owns a car. premise: He parked his car outside. => entailment
mnli_matched test
  mnli hypothesis: The train is late. premise: We still wait for the train. => <unk>
mnli_mismatched validation
  mnli hypothesis: It never rains. premise: It rained all week. => contradiction
qnli train
  qnli question: Who wrote the letter? sentence: The letter is by Ada. => entailment
  qnli question: When did he die? sentence: He was born in Leeds. => not_entailment
qnli test
  qnli question: What is it made of? sentence: It is made of oak. => <unk>
rte train
  rte sentence1: The firm of Oslo sells boats. sentence2: The firm is in Oslo. => entailment
  rte sentence1: The firm sells boats. sentence2: The firm is rich. => not_entailment
rte validation
  rte sentence1: Ann met Bo in Rome. sentence2: Bo was in Rome. => entailment
wnli train
  wnli sentence1: The cup fell as it was full. sentence2: The cup was full. => entailment
  wnli sentence1: The cup fell off as it was round. sentence2: The shelf was round. => \
not_entailment
ax test
  mnli hypothesis: The cat did not sit on the mat. premise: The cat sat on the mat. => <unk>
""")
LABELS = {
  "cola": ("unacceptable", "acceptable"),
  "sst2": ("negative", "positive"),
  "mrpc": ("not_equivalent", "equivalent"),
  "qqp": ("not_duplicate", "duplicate"),
  "stsb": None,
  "mnli": ("entailment", "neutral", "contradiction"),
  "mnli_matched": ("entailment", "neutral", "contradiction"),
  "mnli_mismatched": ("entailment", "neutral", "contradiction"),
  "qnli": ("entailment", "not_entailment"),
  "rte": ("entailment", "not_entailment"),
  "wnli": ("not_entailment", "entailment"),
  "ax": ("entailment", "neutral", "contradiction"),
}
assert TEXTS.keys() == LABELS.keys() == benchmark_records.GLUE.keys()


@pytest.mark.parametrize("config", TEXTS)
def test_texts(config):
  found = {s: benchmark_records.texts(f"glue_{config}_v200", s) for s in TEXTS[config]}
  assert found == TEXTS[config]


@pytest.mark.parametrize("config", TEXTS)
def test_the_first_version_reads_its_own_data_and_says_the_same(config):
  split, rows = next(iter(TEXTS[config].items()))
  assert benchmark_records.texts(f"glue_{config}_v002_examples", split) == rows
  task = seqio.TaskRegistry.get(f"glue_{config}_v002_examples")
  assert task.source.tfds_dataset.name == f"glue/{config}:1.0.0"


@pytest.mark.parametrize("config", TEXTS)
@pytest.mark.parametrize("suffix", ["", "_examples"])
def test_taskless_texts_lack_the_task_s_name(config, suffix):
  split, rows = list(TEXTS[config].items())[-1]
  bare = [(inputs[inputs.index(" ") + 1 :], targets) for inputs, targets in rows]
  assert benchmark_records.texts(f"taskless_glue_{config}_v200{suffix}", split) == bare


def test_taskless_texts_word_by_word():
  assert benchmark_records.texts("taskless_glue_sst2_v200", "validation") == [
    ("sentence: it 's charming", "positive")
  ]
  assert benchmark_records.texts("taskless_glue_stsb_v002", "validation") == [
    ("sentence1: A child eats. sentence2: A child is eating.", "5.0")
  ]


@pytest.mark.parametrize("config", ["cola", "stsb"])
def test_the_number_of_a_record_stays_for_submissions(config):
  rows = benchmark_records.examples(f"taskless_glue_{config}_v200", "train")
  assert [int(row["idx"]) for row in rows] == [0, 1]


def test_tokens_are_t5_s_with_eos(fixtures):
  vocabulary = benchmark_records.t5(fixtures)
  (row,) = benchmark_records.examples("taskless_glue_sst2_v200", "validation", vocabulary)
  assert row["inputs"].tolist() == [7142, 10, 34, 3, 31, 7, 12216, 1]
  assert row["targets"].tolist() == [1465, 1]
  (row,) = benchmark_records.examples("taskless_glue_sst2_v200", "test", vocabulary)
  assert row["targets"].tolist() == [3, 2, 6513, 3155, 1]  # "<unk>" is text like any other


def test_long_inputs_are_cut_so_that_eos_fits(fixtures):
  lengths = {"inputs": 4, "targets": 8}
  vocabulary = benchmark_records.t5(fixtures)
  name = "taskless_glue_sst2_v200"
  (row,) = benchmark_records.examples(name, "validation", vocabulary, lengths)
  assert row["inputs"].tolist() == [7142, 10, 34, 1]


@pytest.mark.parametrize(("config", "labels"), LABELS.items())
def test_label_words_are_known_in_every_variant(config, labels):
  assert label_words.of(f"glue_{config}_v002") == labels
  assert label_words.of(f"mt5_task_index_glue_{config}_v200_examples") == labels


@pytest.mark.parametrize(("config", "labels"), LABELS.items())
def test_predictions_become_classes(config, labels):
  task = seqio.TaskRegistry.get(f"taskless_glue_{config}_v200")
  if labels is None:
    answers = {"3.2": 3.2, "5": 5.0, "very": -1.0, "": -1.0}
  else:
    answers = {word: i for i, word in enumerate(labels)}
    answers |= {"": -1, labels[0].upper(): -1, f" {labels[1]}": -1}
  assert {text: task.postprocess_fn(text, example={}) for text in answers} == answers


# Answers to targets, and what they score by hand.
SCORES = {
  # 2 true positives, 1 false negative, 1 true negative: 2*1 / sqrt(2*3*1*2) = 0.57735
  "cola": (
    ["acceptable", "acceptable", "acceptable", "unacceptable"],
    ["acceptable", "acceptable", "unacceptable", "unacceptable"],
    {"matthews_corrcoef": 57.735027},
  ),
  "sst2": (
    ["positive", "negative", "negative", "positive"],
    ["positive", "negative", "positive", "good"],
    {"accuracy": 50.0},
  ),
  # "maybe" is the wrong class of both: 2 found, 1 missed, 1 too many: 4 / (4 + 1 + 1)
  "mrpc": (
    ["equivalent", "equivalent", "equivalent", "not_equivalent", "not_equivalent"],
    ["equivalent", "equivalent", "maybe", "not_equivalent", "maybe"],
    {"f1": 66.666667, "accuracy": 60.0},
  ),
  # 1 found, 0 missed, 2 too many: 2 / (2 + 0 + 2)
  "qqp": (
    ["duplicate", "not_duplicate", "not_duplicate", "not_duplicate"],
    ["duplicate", "duplicate", "duplicate", "not_duplicate"],
    {"f1": 50.0, "accuracy": 50.0},
  ),
  # "two" is -1: deviations -1 0 1 and -0.2 -2.4 2.6, 2.8 / sqrt(2 * 12.56);
  # ranks 1 2 3 and 2 1 3, 1 - 6 * (1 + 1) / (3 * 8) = 0.5
  "stsb": (
    ["1.0", "2.0", "3.0"],
    ["1.2", "two", "4.0"],
    {"pearson_corrcoef": 100 * 2.8 / 25.12**0.5, "spearman_corrcoef": 50.0},
  ),
  "mnli": (
    ["entailment", "neutral", "contradiction", "neutral"],
    ["entailment", "neutral", "contradiction", "contradiction"],
    {"accuracy": 75.0},
  ),
  "mnli_matched": (["neutral"], ["neutral"], {"accuracy": 100.0}),
  "mnli_mismatched": (["neutral"], ["Neutral"], {"accuracy": 0.0}),
  "qnli": (
    ["entailment", "not_entailment", "entailment"],
    ["entailment", "entailment", "entailment"],
    {"accuracy": 66.666667},
  ),
  "rte": (
    ["not_entailment", "not_entailment"],
    ["not_entailment", "no"],
    {"accuracy": 50.0},
  ),
  "wnli": (["entailment", "not_entailment"], ["", ""], {"accuracy": 0.0}),
  "ax": (["entailment"], ["entailment"], {}),
}


@pytest.mark.parametrize("config", SCORES)
@pytest.mark.parametrize("suffix", ["", "_examples"])
def test_scores(config, suffix):
  targets, answers, expected = SCORES[config]
  name = f"taskless_glue_{config}_v200{suffix}"
  found = benchmark_records.answered(name, targets, answers)
  assert benchmark_records.numbers(found) == pytest.approx(expected)
  shown = {f"{name} samples"} if suffix and expected else set()
  if shown and targets != answers:
    shown.add(f"{name} negative samples")
  assert found.keys() - expected.keys() == shown


def test_examples_without_a_label_do_not_count():
  name = "glue_cola_v200"
  rows = [*benchmark_records.examples(name, "train"), "<unk>"]
  found = benchmark_records.answered(name, rows, ["acceptable", "unacceptable", "no"])
  assert found == pytest.approx({"matthews_corrcoef": 100.0})
  name = "glue_stsb_v200_examples"
  rows = benchmark_records.examples(name, "test")
  assert benchmark_records.numbers(benchmark_records.answered(name, rows, ["2.0"])) == {}
