"""The predictor: each text is answered as its prompt alone would, whatever is beside it."""

import re
import sys
import threading
import time

import jax
import numpy as np
import pytest

from prompt_tuning import checks, config
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.data import vocabularies
from prompt_tuning.decoding.beam import Beam
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.predictor import Predictor
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.queries import Query

LENGTHS = {"mood": 3, "topic": 5, "free": 1}  # of the prompts, in tokens
LABELS = {"mood": ("good", "bad"), "topic": ("art", "science", "sports")}
LIMITS = {"max_input_len": 48, "max_output_len": 10, "batch_size": 4}
TEXTS = [
  "a fine film",
  "dull",
  "the longest of all texts, over 32 tokens",
  "x y",
  "no, no!",
]


@pytest.fixture(scope="module")
def model(byte_t5):
  return byte_t5


@pytest.fixture(scope="module")
def prompts():
  rng = np.random.default_rng(5)
  return {
    name: rng.normal(size=(length, 16)).astype(np.float32)
    for name, length in LENGTHS.items()
  }


@pytest.fixture(scope="module")
def make(model, prompts):
  """A predictor of its own, for tests that change or refuse it."""

  def make(**other):
    given = {"prompts": prompts, "labels": LABELS, "vocabulary": vocabularies.BYT5}
    return Predictor(model, **{**given, **LIMITS, **other})

  return make


@pytest.fixture(scope="module")
def predictor(make):
  """One that no test changes."""
  return make()


@pytest.fixture
def changing(predictor):
  """The same one; whatever a test adds goes again."""
  yield predictor
  for name in predictor.prompts().keys() - LENGTHS.keys():
    predictor.remove(name)


@pytest.fixture(scope="module")
def by_hand(model, prompts):
  """The same model without a predictor: one text, one prompt, nothing beside it."""
  score = jax.jit(lambda bank, *asked: PromptedT5(model, bank).score(*asked))
  decode = jax.jit(lambda bank, tokens: PromptedT5(model, bank).generate(tokens, 10))

  def encoded(text, length):
    tokens = [byte + 3 for byte in text.encode()]
    return np.array([[*tokens, 1] + [0] * (length - len(tokens) - 1)], np.int32)

  def answer(text, name=None, candidates=None):
    """(score of the decoded tokens, them), or the score of each candidate."""
    bank = None if name is None else PromptBank(prompts[name])
    tokens = encoded(text, 48)
    if candidates is None:
      found, likelihood = decode(bank, tokens)
      return float(likelihood[0]), np.asarray(found[0])
    return [float(score(bank, tokens, encoded(each, 12))[0]) for each in candidates]

  return answer


def assert_is(answer, text, score, scores=()):
  assert answer.text == text
  np.testing.assert_allclose(answer.score, score, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(answer.scores, scores, rtol=1e-5, atol=1e-5)


def assert_same(found, expected):
  assert len(found) == len(expected)
  for one, other in zip(found, expected, strict=True):
    assert_is(one, other.text, other.score, other.scores)
    assert one.tokens == other.tokens


@pytest.mark.parametrize("name", LABELS)
def test_it_predicts_the_best_label_of_a_prompt(predictor, by_hand, name):
  for text, answer in zip(TEXTS, predictor.predict(TEXTS, prompt=name), strict=True):
    scores = by_hand(text, name, LABELS[name])
    best = int(np.argmax(scores))
    assert_is(answer, LABELS[name][best], scores[best], scores)
    written = sum(len(label) + 1 for label in LABELS[name])
    assert answer.tokens == len(text.encode()) + 1 + written


@pytest.mark.parametrize("name", ["free", None])
def test_it_decodes_where_there_are_no_labels(predictor, by_hand, name):
  for text, answer in zip(TEXTS, predictor.predict(TEXTS, prompt=name), strict=True):
    score, tokens = by_hand(text, name)
    written = [int(token) for token in tokens if token > 0]
    assert_is(answer, vocabularies.BYT5.load().decode(written), score)
    assert answer.tokens == len(text.encode()) + 1 + len(written)


def test_it_ranks_labels_of_each_text(predictor, by_hand):
  labels = [("one", "two"), ("one",), ("a", "b", "c"), ("three", "one"), ("x", "y")]
  names = ["mood", None, "free", "topic", "mood"]
  found = predictor.rank(TEXTS, labels, prompt=names)
  for text, words, name, answer in zip(TEXTS, labels, names, found, strict=True):
    scores = by_hand(text, name, words)
    best = int(np.argmax(scores))
    assert_is(answer, words[best], scores[best], scores)
  # The same for all texts: a list of words.
  alike = predictor.rank(TEXTS[:2], ["one", "two"], prompt="mood")
  assert_same(alike[:1], found[:1])


def test_it_scores_a_target_of_each_text(predictor, by_hand):
  targets = ["one", "seventeen", "one", "x", "y"]
  found = predictor.score(TEXTS, targets, prompt="mood")
  normalized = predictor.score(TEXTS, targets, "mood", length_normalized=True)
  for text, target, one, other in zip(TEXTS, targets, found, normalized, strict=True):
    (score,) = by_hand(text, "mood", [target])
    assert_is(one, target, score, [score])
    assert_is(other, target, score / (len(target) + 1), [score / (len(target) + 1)])


MIXED = [
  Query(text="a fine film", prompt="mood", candidates=("good", "bad")),
  Query(text="the longest of all texts, over 32 tokens", prompt="free"),
  Query(text="b", prompt="topic", candidates=("art", "science", "sports")),
  Query(text="a fine film"),
  Query(text="c", candidates=("u", "v"), length_normalized=True),
  Query(text="a fine film", prompt="free", candidates=("x",)),
  Query(text="dull", prompt="mood", candidates=("good", "bad")),
  Query(text="dull", prompt="mood", candidates=("bad", "good")),
  Query(text="d", prompt="topic"),
  Query(text="the longest of all texts, over 32 tokens!", prompt="mood"),
  Query(text="e e", prompt="mood", candidates=("good", "bad")),
  Query(text="f f f", prompt="free", candidates=("good", "bad")),
  Query(text="g", prompt="topic", candidates=("good", "bad")),
]


def test_a_mixture_is_answered_as_each_text_alone(predictor):
  prepared = [predictor.prepare(query) for query in MIXED]
  together = predictor.answer(prepared)
  alone = [predictor.answer([each])[0] for each in prepared]
  assert_same(together, alone)
  # Two of them ask for the same words in another order.
  assert len({answer.score for answer in together}) == len(MIXED) - 1
  order = np.random.default_rng(0).permutation(len(MIXED))
  shuffled = predictor.answer([prepared[row] for row in order])
  assert_same(shuffled, [together[row] for row in order])


def test_any_number_of_texts_is_answered_in_order(predictor):
  texts = [f"{'word ' * (i % 5)}number {i}" for i in range(11)]  # batches hold 4
  found = predictor.predict(texts, prompt="mood")
  assert_same(found[-1:], predictor.predict(texts[-1:], prompt="mood"))
  assert_same(found[::-1], predictor.predict(texts[::-1], prompt="mood"))
  assert predictor.predict([]) == []


def test_eight_devices_answer_as_one(make, predictor):
  mesh = Partitioner().mesh(8)
  eight = make(batch_size=8, mesh=mesh)
  some = [0, 4, 5, 2]  # candidates only: decoding on devices is tested with the passes
  found = eight.answer([eight.prepare(MIXED[row]) for row in some])
  assert_same(found, predictor.answer([predictor.prepare(MIXED[row]) for row in some]))


@pytest.mark.parametrize(
  ("asked", "message"),
  [
    ({"texts": [""]}, "text 0: the text is empty"),
    (
      {"texts": ["a", "b" * 48]},
      "text 1: the text has 49 tokens with EOS, expected at most",
    ),
    (
      {"texts": ["a"], "prompt": "moood"},
      "unknown prompt 'moood'; the nearest known: mood",
    ),
    ({"texts": ["a"], "prompt": ["mood", "mood"]}, "there are 2 and 1 texts, expected one"),
  ],
)
def test_what_cannot_be_predicted_is_refused(predictor, asked, message):
  with pytest.raises(checks.InputError, match=re.escape(message)):
    predictor.predict(**asked)


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    (["x", "x"], "text 0: the labels 'x' and 'x' are the same"),
    ([["x"], ["y"]], "there are 2 and 1 texts, expected one list of labels for each text"),
    ([], "there are no candidates"),
    (["x", " "], "the candidate ' ' is empty"),
    (["longer than ten"], "the candidate 'longer than ten' has 16 tokens with EOS"),
  ],
)
def test_labels_that_cannot_be_ranked_are_refused(predictor, labels, message):
  with pytest.raises(checks.InputError, match=re.escape(message)):
    predictor.rank(["a"], labels)


def test_there_is_a_target_for_each_text(predictor):
  refusal = "there are 1 and 2 texts, expected one target for each text"
  with pytest.raises(checks.InputError, match=refusal):
    predictor.score(["a", "b"], ["x"])


def test_all_that_is_wrong_is_said_at_once(predictor):
  texts, names = ["", "fine", "b" * 60, "ok"], ["mood", "mood", "topic", "tropic"]
  with pytest.raises(checks.InputError, match="3 of 4 texts cannot be answered") as caught:
    predictor.rank(texts, ["x", "y"], prompt=names)
  lines = str(caught.value).splitlines()[1:]
  assert [line.split(":")[0].strip() for line in lines] == ["text 0", "text 2", "text 3"]
  assert "topic" in lines[2]


def test_unknown_prompts_are_said_with_all_else(predictor):
  with pytest.raises(checks.InputError, match="2 of 3 texts cannot be answered"):
    predictor.predict(["", "fine", "ok"], prompt=["mood", "mood", "tropic"])


@pytest.mark.parametrize("ask", ["predict", "rank", "score", "add"])
def test_one_string_is_no_list_of_strings(changing, ask):
  asked = {
    "predict": lambda: changing.predict("text", prompt="mood"),
    "rank": lambda: changing.rank(["text"], "abc"),
    "score": lambda: changing.score(["a", "b"], "xy"),
    "add": lambda: changing.add("new", np.ones((2, 16), np.float32), labels="abc"),
  }
  with pytest.raises(checks.InputError):
    asked[ask]()


@pytest.mark.parametrize("change", ["add", "remove"])
def test_the_untuned_model_is_no_prompt_that_changes(make, change):
  predictor = make()
  with pytest.raises(checks.InputError):
    if change == "add":
      predictor.add(None, np.ones((2, 16), np.float32))
    else:
      predictor.remove(None)


def test_a_prompt_removed_meanwhile_is_missed_in_its_rows_only(changing, prompts):
  changing.add("gone", prompts["mood"], labels=["good", "bad"])
  asked = [Query(text="a"), Query(text="b", prompt="gone"), MIXED[0]]
  prepared = [changing.prepare(query) for query in asked]
  before = changing.answer(prepared)
  changing.remove("gone")
  after = changing.answer(prepared)
  assert_same([after[0], after[2]], [before[0], before[2]])
  assert isinstance(after[1], checks.InputError)
  assert "the prompt 'gone' was removed" in str(after[1])
  with pytest.raises(checks.InputError, match="unknown prompt 'gone'"):
    changing.predict(["b"], prompt="gone")


def test_a_prompt_that_is_replaced_answers_anew(changing, prompts):
  changing.add("new", prompts["mood"], labels=["good", "bad"])
  assert_same(
    changing.predict(["a b"], prompt="new"), changing.predict(["a b"], prompt="mood")
  )
  changing.add("new", prompts["topic"], labels=LABELS["topic"])
  assert_same(
    changing.predict(["a b"], prompt="new"), changing.predict(["a b"], prompt="topic")
  )


def test_it_tells_its_prompts(predictor):
  assert list(predictor.prompts()) == list(LENGTHS)
  expected = {"length": 3, "labels": ("good", "bad"), "metadata": {}}
  assert predictor.prompts()["mood"] == expected
  assert predictor.labels("topic") == LABELS["topic"]
  assert predictor.labels("free") is predictor.labels(None) is None


def test_labels_are_the_file_s_unless_others_are_given(changing, prompts, tmp_path):
  path = tmp_path / "prompt.safetensors"
  facts = {"labels": ["good", "bad"], "base_fingerprint": changing.base.fingerprint}
  prompt_files.save_prompt(str(path), prompts["mood"], facts)
  changing.add("file", path)
  assert changing.prompts()["file"]["labels"] == ("good", "bad")
  assert changing.prompts()["file"]["metadata"]["prompt_length"] == 3
  assert_same(changing.predict(TEXTS, "file"), changing.predict(TEXTS, "mood"))
  changing.add("file", str(path), labels=["bad", "good"])
  assert changing.predict(["a"], "file")[0].scores[0] == pytest.approx(
    changing.predict(["a"], "mood")[0].scores[1], rel=1e-5
  )


@pytest.mark.parametrize(
  "facts", [{"base_fingerprint": "0" * 16}, {"vocabulary": "another"}], ids=str
)
def test_a_prompt_of_another_model_is_refused(changing, prompts, tmp_path, facts):
  path = str(tmp_path / "prompt.safetensors")
  prompt_files.save_prompt(path, prompts["mood"], facts)
  with pytest.raises(checks.InputError, match="trained on another model or vocabulary"):
    changing.add("other", path)
  assert "other" not in changing.prompts()


@pytest.mark.parametrize(
  ("prompt", "labels", "message"),
  [
    (np.ones((6, 16), np.float32), None, "has 6 tokens, expected at most 5"),
    (np.ones((2, 8), np.float32), None, "has shape [2, 8], expected [2, 16]"),
    (np.ones((2, 16), np.int32), None, "it holds [2, 16] of int32"),
    (np.ones((2, 3, 16), np.float32), None, "a bank of 2 prompts, not one"),
    (np.ones((2, 16), np.float32), ["x", "x"], "the same to the vocabulary"),
    (np.ones((2, 16), np.float32), ["much too long"], "expected at most 10; shorten it"),
    ("nowhere.safetensors", None, "there is no prompt at nowhere.safetensors"),
  ],
)
def test_a_prompt_that_cannot_be_used_is_refused(changing, prompt, labels, message):
  with pytest.raises(checks.InputError, match=re.escape(message)):
    changing.add("new", prompt, labels)
  assert "new" not in changing.prompts()


def test_labels_of_a_prompt_that_is_not_given_are_refused(make):
  with pytest.raises(checks.InputError, match="unknown prompt in the labels 'moood'"):
    make(labels={"moood": ["good", "bad"]})


def test_a_bank_of_one_prompt_is_as_long_as_the_prompt(make, prompts):
  assert make(prompts={"one": prompts["mood"][None]}, labels={}).prompts()["one"]


def test_it_is_as_large_as_told(make, prompts):
  predictor = make(capacity=4)
  predictor.add("fourth", prompts["mood"])
  with pytest.raises(checks.InputError, match="the bank is full with 4 prompts"):
    predictor.add("fifth", prompts["mood"])
  predictor.remove("mood")
  predictor.add("fifth", prompts["mood"])
  assert list(predictor.prompts()) == ["topic", "free", "fourth", "fifth"]
  make(capacity=1)  # those given have room in any case


@pytest.fixture
def compilations():
  """Names of what JAX traces or compiles while the test runs."""
  found = []

  def listen(event, duration, **kwargs):
    del duration, kwargs
    if event.startswith("/jax/core/compile"):
      found.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield found
  jax.monitoring.unregister_event_duration_listener(listen)


def test_after_the_warm_up_nothing_compiles(make, prompts, compilations):
  # Were the two asked together, they would need a third shape: four long labels.
  labels = {"mood": ["very good", "bad"], "topic": ["a", "b", "c"]}
  predictor = make(labels=labels, max_input_len=32)
  predictor.warm_up()
  assert compilations  # it is heard
  compilations.clear()
  texts = ["a", "b b", "a fine film"]
  for count in (1, 2, 3, 7):
    asked = (texts * 3)[:count]
    names = ([*LENGTHS, "mood"] * 3)[:count]
    predictor.predict(asked, prompt=names)
  predictor.predict(texts)
  for i in range(13):
    predictor.add(f"new {i}", prompts["topic"][: 1 + i % 5], labels["mood"])
    predictor.predict(texts, prompt=f"new {i}")
  predictor.remove("mood")
  predictor.predict(texts, prompt="new 0")
  assert compilations == []


def test_the_warm_up_thinks_of_the_untuned_model(make, prompts, compilations):
  predictor = make(
    prompts={"mood": prompts["mood"]},
    labels={"mood": LABELS["mood"]},
    max_input_len=32,
    batch_size=1,
  )
  predictor.warm_up()
  compilations.clear()
  predictor.predict(["a"])
  assert compilations == []


@pytest.fixture
def impatient():
  """Threads that take turns all the time, so that what can interleave does."""
  before = sys.getswitchinterval()
  sys.setswitchinterval(1e-5)
  yield
  sys.setswitchinterval(before)


def in_threads(works, seconds):
  """Repeats each of `works` in a thread of its own; returns what they raised."""
  stop, errors = threading.Event(), []

  def repeat(work):
    try:
      while not stop.is_set():
        work()
    except Exception as error:
      errors.append(error)
      stop.set()

  threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
  for thread in threads:
    thread.start()
  stop.wait(seconds)
  stop.set()
  for thread in threads:
    thread.join()
  return errors


def test_threads_get_the_answers_of_their_prompt(make, prompts, impatient):
  predictor = make(capacity=4, max_input_len=32, labels={})
  words = ["good", "bad"]
  sources = {"first": "mood", "second": "topic", "third": "free"}
  expected = {
    name: predictor.rank(["a b"], words, prompt=source)[0].scores
    for name, source in sources.items()
  }
  for name in LENGTHS:
    predictor.remove(name)
  answered, lost = dict.fromkeys(sources, 0), []

  def ask(name):
    try:
      (answer,) = predictor.predict(["a b"], prompt=name)
    except checks.InputError as error:
      assert "unknown prompt" in str(error) or "was removed" in str(error)
      return
    answered[name] += 1
    if not np.allclose(answer.scores, expected[name], rtol=1e-5):
      lost.append((name, answer))

  def change(name):
    predictor.add(name, prompts[sources[name]], words)
    predictor.prompts()
    predictor.remove(name)

  works = [lambda name=name: ask(name) for name in sources]
  works += [lambda name=name: change(name) for name in sources]
  assert in_threads(works, 3) == []
  assert lost == []
  assert all(answered.values())


def test_threads_that_change_one_prompt_leave_no_ghost(make, prompts):
  predictor = make(prompts={}, labels={}, capacity=1, max_prompt_len=5)
  for moment in range(8):
    lookups = 0
    other = threading.Thread(target=predictor.add, args=("shared", prompts["mood"]))

    class Name(str):
      """A name at one of whose look-ups another thread has its turn, as may happen."""

      def __hash__(self):
        nonlocal lookups
        lookups += 1
        if lookups == moment + 1:  # noqa: B023, it is used up in this turn of the loop
          other.start()  # noqa: B023
          other.join(0.3)  # noqa: B023, it may have to wait for us
        return super().__hash__()

    predictor.add("shared", prompts["topic"])
    predictor.remove(Name("shared"))
    if other.ident is not None:
      other.join()
    for name in predictor.prompts():
      assert predictor.predict(["a"], prompt=name)
      predictor.remove(name)
    predictor.add("next", prompts["free"])  # nothing is left that takes its place
    predictor.remove("next")


def test_a_predictor_comes_from_gin(tmp_path):
  path = str(tmp_path / "prompt.safetensors")
  array = np.random.default_rng(0).normal(size=(4, 256)).astype(np.float32)
  prompt_files.save_prompt(path, array, {"labels": ["bad", "fair"]})
  bindings = [
    f"PROMPT_FILES = {{'movies': {path!r}, 'plain': {path!r}}}",
    "PROMPT_LABELS = {'movies': ['negative', 'positive']}",
    "BEAM_SIZE = 3",
    "BATCH_SIZE = 2",
    "MAX_OUTPUT_LEN = 4",
  ]
  files = ["models/decoding/beam_search.gin", "experiments/movie_reviews_predictor.gin"]
  settings, _ = config.load("predictor.predictor", files, bindings)
  assert settings.decoding == Beam(num_decodes=3)
  predictor = settings.load()
  assert predictor.labels("movies") == ("negative", "positive")
  assert predictor.labels("plain") == ("bad", "fair")
  answers = predictor.predict(["a fine film", "dull"], prompt="movies")
  assert {answer.text for answer in answers} <= {"negative", "positive"}
  (answer,) = predictor.predict(["a fine film"])

  model = PromptedT5(predictor.base.model)
  tokens = [*vocabularies.EMBEDDED.load().encode("a fine film"), 1]
  inputs = np.array([tokens], np.int32)
  expected = jax.jit(lambda tokens: model.generate(tokens, 4, None, Beam(num_decodes=3)))
  np.testing.assert_allclose(answer.score, expected(inputs)[1][0], rtol=1e-4)


def test_settings_that_make_no_sense_are_refused():
  files = ["experiments/movie_reviews_predictor.gin"]
  settings, _ = config.load("predictor.predictor", files, ["BATCH_SIZE = 0"])
  with pytest.raises(
    checks.InputError, match="batch_size is 0, expected a whole number from 1"
  ):
    settings.load()


@pytest.mark.parametrize(
  ("prompt", "labels", "said"),
  [
    (np.full((2, 16), np.nan, np.float32), None, "not finite"),
    (np.zeros((2, 16), np.float32), 5, r"labels of 'new' are 5, expected a list"),
    (np.zeros((2, 16), np.float32), [1, 2], "label 1 is no text"),
  ],
)
def test_what_would_fail_later_is_refused_when_it_is_added(predictor, prompt, labels, said):
  with pytest.raises(checks.InputError, match=said):
    predictor.add("new", prompt, labels)
  assert "new" not in predictor.prompts()


@pytest.mark.parametrize("text", [7, None, b"bytes"])
def test_a_text_that_is_none_is_refused(predictor, text):
  with pytest.raises(checks.InputError, match="expected a string"):
    predictor.predict([text])


def test_labels_are_those_of_the_prompt_that_answers(predictor):
  """Another thread replaces the prompt between the two halves of a question."""
  query = Query(text="good film", prompt="changing", own_labels=True)
  first, second = np.zeros((3, 16), np.float32), np.full((2, 16), 3.0, np.float32)
  predictor.add("changing", first, ["yes", "no"])
  prepared = predictor.prepare(query)
  assert prepared.query.candidates == ("yes", "no")
  predictor.add("changing", second, ["art", "science", "sport"])
  (found,) = predictor.answer([prepared])
  assert found.candidates == ("art", "science", "sport")
  assert found == predictor.predict(["good film"], "changing")[0]
  predictor.add("changing", second, None)
  (found,) = predictor.answer([prepared])
  assert found.candidates == () and found.scores == ()
  predictor.remove("changing")


@pytest.mark.parametrize("labels", [[], {"a": 1}, ["a", ""], ["\ud800", "a"], ["a\0", "b"]])
def test_labels_that_nobody_can_choose_are_refused(predictor, labels):
  with pytest.raises(checks.InputError):
    predictor.add("new", np.zeros((2, 16), np.float32), labels)


def test_many_labels_are_read_in_time_that_grows_with_their_number(predictor):
  words = [f"w{i}" for i in range(20_000)]
  began = time.monotonic()
  predictor.check_labels(words)
  assert time.monotonic() - began < 8  # when each was compared with all: longer


@pytest.mark.parametrize(
  "limit", ["capacity", "max_prompt_len", "max_input_len", "max_output_len", "batch_size"]
)
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_limits_are_whole_numbers(predictor, limit, value):
  with pytest.raises(checks.InputError, match=f"{limit} is {value}, expected a whole"):
    Predictor(predictor.base, **{limit: value})
