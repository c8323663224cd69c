"""SuperGLUE and DPR: the exact texts of every config, its answers and what they score."""

import benchmark_records
import pytest
import seqio
from benchmark_records import answered, examples, numbers, texts

from prompt_tuning.data import label_words, super_glue

assert super_glue.benchmark.VERSION == "v102"

TEXTS = benchmark_records.table("""
boolq train
  boolq passage: Tea -- Tea is made from leaves. question: is tea made from leaves => True
  boolq passage: Whale -- Whales are mammals. question: is a whale a fish => False
boolq validation
  boolq passage: Oslo -- Oslo is the capital of Norway. question: is oslo in sweden => False
boolq test
  boolq passage: Ice -- Ice is frozen water. question: does ice float => <unk>
cb train
  cb hypothesis: the soup is cold premise: B: I think the soup is cold. => entailment
  cb hypothesis: it works premise: A: I doubt that it works. => contradiction
  cb hypothesis: they lost premise: B: Did he say that they lost? => neutral
cb test
  cb hypothesis: he called premise: If only he had called. => <unk>
copa train
  copa choice1: It froze. choice2: I ate. premise: I shivered. question: cause => choice1
  copa choice1: It sang. choice2: It broke. premise: It fell. question: effect => choice2
rte train
  rte hypothesis: The firm is in Oslo. premise: The firm of Oslo sells boats. => entailment
  rte hypothesis: The firm is rich. premise: The firm sells boats. => not_entailment
wic train
  wic sentence1: He sat on the bank. sentence2: The bank lends money. word: bank => False
  wic sentence1: She ran home. sentence2: They ran a mile. word: run => True
wic test
  wic sentence1: Ring the bell. sentence2: A gold ring. word: ring => <unk>
axb test
  rte hypothesis: The cat did not sit. premise: The cat sat on the mat. => <unk>
axg test
  rte hypothesis: Ed was well. premise: The nurse told Ed that he was well. => <unk>
""")
PARAGRAPH = (
  "paragraph: Sent 1: Anna planted beans in May. Sent 2: They were ripe in August. "
)
LABELS = {
  "boolq": ("False", "True"),
  "cb": ("entailment", "contradiction", "neutral"),
  "copa": ("choice1", "choice2"),
  "multirc": ("False", "True"),
  "record": None,
  "rte": ("entailment", "not_entailment"),
  "wic": ("False", "True"),
  "axb": ("entailment", "not_entailment"),
  "axg": ("entailment", "not_entailment"),
}
WSC = "super_glue_wsc_v102_simple"


@pytest.mark.parametrize("config", TEXTS)
def test_texts(config):
  name = f"super_glue_{config}_v102"
  assert {split: texts(name, split) for split in TEXTS[config]} == TEXTS[config]


@pytest.mark.parametrize("config", TEXTS)
def test_taskless_texts_lack_the_task_s_name(config):
  split, rows = next(iter(TEXTS[config].items()))
  bare = [(inputs[inputs.index(" ") + 1 :], targets) for inputs, targets in rows]
  assert texts(f"taskless_super_glue_{config}_v102_examples", split) == bare


def test_multirc_has_no_markup_and_knows_its_question():
  assert texts("super_glue_multirc_v102", "train") == [
    (f"multirc question: What did Anna plant? answer: Beans {PARAGRAPH}", "True")
  ]
  name = "taskless_super_glue_multirc_v102"
  assert texts(name, "validation")[1:3] == [
    (f"question: Who planted the beans? answer: August {PARAGRAPH}", "False"),
    (f"question: When were they ripe? answer: In May {PARAGRAPH}", "False"),
  ]
  assert texts(name, "test")[0][1] == "<unk>"
  row = examples(name, "validation")[2]
  numbered = {key: int(row[key]) for key in row if key.startswith("idx")}
  assert numbered == {"idx/paragraph": 7, "idx/question": 1, "idx/answer": 2}


def test_record_asks_once_per_answer_and_makes_sentences_of_highlights():
  inputs = (
    "query: The boat had left @placeholder on Sunday. "
    "entities: Crete, Nikos Pappas, Athens "
    "passage: A ferry ran aground off Crete on Monday. Nikos Pappas, the captain, said: "
    '"Nobody was hurt" The ship was bound for Athens. Divers are on their way'
  )
  expected = [(f"record {inputs}", "Athens"), (f"record {inputs}", "Crete")]
  assert texts("super_glue_record_v102", "train") == expected
  taskless = [(inputs, "Athens"), (inputs, "Crete")]
  assert texts("taskless_super_glue_record_v102_examples", "train") == taskless


def test_record_keeps_its_numbers_and_all_answers():
  first, second, third = examples("super_glue_record_v102", "validation")
  for row in (first, second):
    assert row["answers"].tolist() == [b"Lena Berg", b"Berg"]
    assert (row["idx/passage"], row["idx/query"]) == (0, 0)
  assert (third["idx/passage"], third["idx/query"]) == (0, 1)
  assert texts("super_glue_record_v102", "test") == [
    ("record query: @placeholder smiled. entities: Ann, Bo passage: Ann met Bo.", "<unk>")
  ]


def test_wsc_learns_from_right_nouns_and_mends_two_records():
  assert texts(f"{WSC}_train_examples", "train") == [
    ("wsc: Mitchell asked Tom if *he* could lend some money.", "Tom"),
    (
      "wsc: The boy continued to whip the pony , and eventually the pony threw him over. "
      'John laughed out quite loud. "Good for *him* ," he said.',
      "John",
    ),
    (
      "wsc: When they had eventually calmed down a bit , and had gotten home, Mr. Farley "
      "put the magic pebble in an iron safe . Some day they might want to use *it* , but "
      "really for now, what more could they wish for?",
      "the magic pebble",
    ),
  ]


def test_wsc_is_evaluated_on_right_and_wrong_nouns():
  text = "The dog chased the cat until *it* hid."
  expected = [(text, "the cat"), (text, "The dog")]
  assert texts(f"taskless_{WSC}_eval", "validation") == expected
  rows = examples(f"taskless_{WSC}_eval", "validation")
  assert [(int(row["idx"]), int(row["label"])) for row in rows] == [(0, 1), (1, 0)]
  assert texts(f"{WSC}_eval", "test") == [
    ("wsc: Jo thanked Kim as *she* had helped.", "Kim")
  ]


def test_dpr_marks_the_first_pronoun():
  assert texts("dpr_v001_simple_examples", "test") == [
    ("wsc: Ann saw Eve, and *she* waved, so she stopped.", "Eve"),
    ("wsc: The lid would not fit the jar, so we bent *it*.", "lid"),
  ]
  assert texts("taskless_dpr_v001_simple", "train") == [
    ("Bees left the hive as *they* were hungry.", "Bees")
  ]


@pytest.mark.parametrize(("config", "labels"), LABELS.items())
def test_label_words_and_their_classes(config, labels):
  name = f"task_index_super_glue_{config}_v102_examples"
  assert label_words.of(name) == label_words.of(f"super_glue_{config}_v102") == labels
  if labels is not None and config != "multirc":
    post = seqio.TaskRegistry.get(f"super_glue_{config}_v102").postprocess_fn
    found = [post(word, example={}) for word in (*labels, labels[0].upper(), "")]
    assert found == [*range(len(labels)), -1, -1]


SCORES = {  # targets, answers, what they score by hand
  "boolq": (["True", "False", "True"], ["True", "True", "true"], {"accuracy": 33.333333}),
  # F1 of entailment 2/(2+1+0), of contradiction 2/(2+0+1), of neutral 0
  "cb": (
    ["entailment", "contradiction", "contradiction", "neutral"],
    ["entailment", "contradiction", "entailment", "who knows"],
    {"mean_3class_f1": 100 * (2 / 3 + 2 / 3 + 0) / 3, "accuracy": 50.0},
  ),
  "copa": (["choice1", "choice2"], ["choice1", "choice1"], {"accuracy": 50.0}),
  "rte": (["entailment"] * 4, [*["entailment"] * 3, ""], {"accuracy": 75.0}),
  "wic": (["True", "False"], ["yes", "no"], {"accuracy": 0.0}),
  "axb": (["entailment"], ["entailment"], {}),
  "axg": (["entailment"], ["entailment"], {}),
}


@pytest.mark.parametrize("config", SCORES)
@pytest.mark.parametrize("suffix", ["", "_examples"])
def test_scores(config, suffix):
  targets, answers, expected = SCORES[config]
  name = f"taskless_super_glue_{config}_v102{suffix}"
  found = answered(name, targets, answers)
  assert numbers(found) == pytest.approx(expected)
  shown = {f"{name} samples", f"{name} negative samples"} if suffix and expected else set()
  assert found.keys() - expected.keys() == shown


# The targets are True False of one question and False True of another. In the first row
# "maybe" counts as True: 2 found, none missed, 2 too many, F1 4 / (4 + 0 + 2); in the
# second one is too many, F1 4 / (4 + 0 + 1), and one question of two is all right.
@pytest.mark.parametrize(
  ("answers", "f1", "exact_match"),
  [
    (["True", "maybe", "True", "True"], 200 / 3, 0.0),
    (["True", "False", "True", "True"], 80.0, 50.0),
    (["True", "False", "False", "True"], 100.0, 100.0),
    (["", "", "", ""], 0.0, 0.0),
  ],
)
@pytest.mark.parametrize("suffix", ["", "_examples"])
def test_multirc_scores_answers_and_questions(answers, f1, exact_match, suffix):
  name = f"taskless_super_glue_multirc_v102{suffix}"
  found = numbers(answered(name, examples(name, "validation"), answers))
  assert found == pytest.approx({"f1": f1, "exact_match": exact_match})


# The first query stands twice and its first answer counts. "in Oslo" for "Oslo" is not
# exact and shares 1 of 2 + 1 words: F1 2 / 3.
@pytest.mark.parametrize(
  ("answers", "em", "f1"),
  [
    (["the Berg!", "nobody", "in Oslo"], 50.0, 100 * (1 + 2 / 3) / 2),
    (["nobody", "Berg", "oslo"], 50.0, 50.0),
    (["", "", ""], 0.0, 0.0),
  ],
)
@pytest.mark.parametrize("suffix", ["", "_examples"])
def test_record_scores_a_query_once(answers, em, f1, suffix):
  name = f"super_glue_record_v102{suffix}"
  found = numbers(answered(name, examples(name, "validation"), answers))
  assert found == pytest.approx({"em": em, "f1": f1})


@pytest.mark.parametrize("suffix", ["", "_examples"])
def test_wsc_and_dpr_score(suffix):
  wsc = f"task_index_{WSC}_eval{suffix}"
  rows = examples(wsc, "validation")  # "the cat" is right, "The dog" is not
  for answers, accuracy in ((["Cat", "cat"], 100.0), (["cat", "dog"], 50.0)):
    assert numbers(answered(wsc, rows, answers)) == {"accuracy": accuracy}
  dpr = f"taskless_dpr_v001_simple{suffix}"
  found = answered(dpr, examples(dpr, "test"), ["Eve", "Lid"])
  assert numbers(found) == {"accuracy": 50.0}
  assert (f"{dpr} negative samples" in found) == bool(suffix)
  assert not seqio.TaskRegistry.get(f"{WSC}_train{suffix}").metric_fns


@pytest.mark.parametrize("suffix", ["", "_examples"])
def test_test_sets_without_answers_have_no_score(suffix):
  for config in ("boolq_v102", "multirc_v102", "record_v102", "wsc_v102_simple_eval"):
    name = f"super_glue_{config}{suffix}"
    rows = examples(name, "test")
    assert numbers(answered(name, rows, ["True"] * len(rows))) == {}
