"""Metrics of texts, against values worked out by hand."""

import math

import pytest

from prompt_tuning.data import text_metrics


def test_exact_match_minds_every_character():
  targets = ["Paris", "Paris", "Paris", "Paris"]
  predictions = ["Paris", "paris", "Paris ", ""]
  assert text_metrics.exact_match(targets, predictions) == {"exact_match": 25.0}


@pytest.mark.parametrize(
  ("answer", "bare"),
  [
    ("The Eiffel Tower", "eiffel tower"),
    ("an  apple, a day.", "apple day"),
    ("U.S.A.", "usa"),
    ("Anthem of the Theatre", "anthem of theatre"),
    ("it's", "its"),
    ("\u201cThe\u201d cat", "\u201c \u201d cat"),
    ("the", ""),
    ("", ""),
  ],
)
def test_squad_s_answers_without_case_marks_and_articles(answer, bare):
  assert text_metrics.squad_normalized(answer) == bare


@pytest.mark.parametrize(
  ("answers", "prediction", "em", "f1"),
  [
    (["the Eiffel Tower"], "Eiffel tower.", 100.0, 100.0),
    (["in 1889", "1889"], "1889", 100.0, 100.0),
    # 2 words shared, of 2 and 4: 2 * 2 / 6
    (["eiffel tower"], "a big Eiffel tower here", 0.0, 100 * 4 / 6),
    # the better of 1 of 1 + 3 words and 2 of 3 + 3
    (["tower", "old iron tower"], "tall iron tower", 0.0, 100 * 4 / 6),
    # "no" is shared once: 2 * 1 / (1 + 3)
    (["no"], "no no no", 0.0, 50.0),
    (["Paris"], "", 0.0, 0.0),
    (["Paris"], "the", 0.0, 0.0),
    (["Paris"], "London", 0.0, 0.0),
  ],
)
def test_squad_is_the_best_over_the_answers(answers, prediction, em, f1):
  found = text_metrics.squad([answers], [prediction])
  assert found == pytest.approx({"em": em, "f1": f1})


def test_squad_is_a_mean_over_questions():
  found = text_metrics.squad([["one"], ["two b"], ["three"]], ["one", "two", ""])
  assert found == pytest.approx({"em": 100 / 3, "f1": 100 * (1 + 2 / 3 + 0) / 3})


@pytest.mark.parametrize(
  ("target", "prediction", "one", "two", "longest"),
  [
    # "the cat" of "the cat sat" and "the cat ran": 2 of 3 words, 1 of 2 pairs
    ("the cat sat", "The cat ran!", 2 / 3, 1 / 2, 2 / 3),
    # all words; pairs ab bc cd and cd da ab; sentence by sentence nothing is moved
    ("a b . c d", "c d . a b", 1.0, 2 / 3, 1.0),
    # without a mark between spaces it is one sentence: longest "a b" of 4
    ("a b c d", "c d a b", 1.0, 2 / 3, 1 / 2),
    # precision 1/1, recall 1/3
    ("one two three", "three", 1 / 2, 0.0, 1 / 2),
    ("one two", "", 0.0, 0.0, 0.0),
  ],
)
def test_rouge(target, prediction, one, two, longest):
  found = text_metrics.rouge([target], [prediction])
  expected = {"rouge1": 100 * one, "rouge2": 100 * two, "rougeLsum": 100 * longest}
  assert found == pytest.approx(expected)


def test_rouge_is_a_mean_over_summaries():
  found = text_metrics.rouge(["a b", "c"], ["a b", "d"])
  assert found == {"rouge1": 50.0, "rouge2": 50.0, "rougeLsum": 50.0}


def test_bleu():
  target = "the cat sat on the mat today"
  assert text_metrics.bleu([target], [target])["bleu"] == pytest.approx(100.0)
  # 6 of 7 words, 5 of 6 pairs, 4 of 5 and 3 of 4: the fourth root of 3 / 7
  found = text_metrics.bleu([target], ["the cat sat on the mat now"])
  assert found["bleu"] == pytest.approx(100 * (3 / 7) ** 0.25)
  # everything is right and a word is missing: exp(1 - 7 / 6)
  found = text_metrics.bleu([target], ["the cat sat on the mat"])
  assert found["bleu"] == pytest.approx(100 * math.exp(1 - 7 / 6))
  assert text_metrics.bleu([target], [""])["bleu"] == 0.0


def test_bleu_splits_marks_off_and_counts_over_the_whole_set():
  assert text_metrics.bleu(["He came, then left."], ["He came , then left ."])[
    "bleu"
  ] == pytest.approx(100.0)
  # 4 + 3 of 4 + 4 words, 3 + 2 of 6 pairs, 2 + 1 of 4, 1 + 0 of 2
  found = text_metrics.bleu(["a b c d", "e f g h"], ["a b c d", "e f g x"])
  expected = (7 / 8 * 5 / 6 * 3 / 4 * 1 / 2) ** 0.25
  assert found["bleu"] == pytest.approx(100 * expected)


def test_a_prediction_too_few_is_an_error():
  for metric in (text_metrics.exact_match, text_metrics.squad, text_metrics.rouge):
    with pytest.raises(ValueError, match="shorter"):
      metric(["a", "b"], ["a"])
