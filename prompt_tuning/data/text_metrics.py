"""Metrics that compare texts, in percent."""

import collections
import re
import string
from collections.abc import Sequence

import numpy as np
import sacrebleu
from rouge_score import rouge_scorer

_ROUGE = ("rouge1", "rouge2", "rougeLsum")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
  """Share of predictions that are the target, character for character."""
  same = [t == p for t, p in zip(targets, predictions, strict=True)]
  return {"exact_match": 100.0 * float(np.mean(same))}


def squad(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
  """SQuAD's exact match and word F1, each the best over an example's right answers.

  Both sides lose case, punctuation and articles first (Rajpurkar et al. 2016, section 6).
  """
  matches, overlaps = [], []
  for answers, prediction in zip(targets, predictions, strict=True):
    found = squad_normalized(prediction)
    right = [squad_normalized(answer) for answer in answers]
    matches.append(max(found == answer for answer in right))
    overlaps.append(max(_word_f1(answer, found) for answer in right))
  return {"em": 100.0 * float(np.mean(matches)), "f1": 100.0 * float(np.mean(overlaps))}


def squad_normalized(answer: str) -> str:
  """An answer without case, punctuation, articles and superfluous space."""
  bare = _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION))
  return " ".join(bare.split())


def _word_f1(answer: str, prediction: str) -> float:
  words, found = answer.split(), prediction.split()
  shared = sum((collections.Counter(words) & collections.Counter(found)).values())
  return 2 * shared / (len(words) + len(found)) if shared else 0.0


def rouge(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
  """ROUGE-1, -2 and -Lsum (Lin 2004): the mean F over the examples.

  T5 reports the middle of a bootstrap instead, which is this mean up to the resampling.
  """
  scorer = rouge_scorer.RougeScorer(_ROUGE)
  scores = [
    scorer.score(target=_lines(target), prediction=_lines(prediction))
    for target, prediction in zip(targets, predictions, strict=True)
  ]
  return {
    name: 100.0 * float(np.mean([score[name].fmeasure for score in scores]))
    for name in _ROUGE
  }


def _lines(summary: str) -> str:
  """One sentence a line, which is what ROUGE-Lsum takes apart."""
  return summary.replace(" . ", " .\n")


def bleu(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
  """BLEU of the whole set (Post 2018, with the "intl" tokenizer, as T5)."""
  score = sacrebleu.corpus_bleu(list(predictions), [list(targets)], tokenize="intl")
  return {"bleu": score.score}
