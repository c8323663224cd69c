"""Metrics and the postprocessors in front of them."""

import numpy as np
import pytest

from prompt_tuning.data import metrics, postprocessors


@pytest.mark.parametrize(
  ("targets", "predictions", "percent"),
  [([1, 0, 1], [1, 0, 1], 100.0), ([1, 0, 1, 1], [1, 1, -1, 1], 50.0), ([0], [-1], 0.0)],
)
def test_accuracy_is_the_share_of_exact_matches(targets, predictions, percent):
  assert metrics.accuracy(targets, predictions) == {"accuracy": percent}
  assert metrics.accuracy(np.array(targets), np.array(predictions))["accuracy"] == percent


@pytest.mark.parametrize(
  ("text", "found"), [("negative", 0), ("positive", 1), ("Positive", -1), ("", -1)]
)
def test_label_words_become_their_index(text, found):
  classes = ("negative", "positive")
  assert postprocessors.string_label_to_class_id(text, classes) == found
  # seqio hands over the example as well.
  again = postprocessors.string_label_to_class_id(text, classes, example={}, is_target=True)
  assert again == found


def test_the_default_can_be_chosen():
  found = postprocessors.string_label_to_class_id("maybe", ("no", "yes"), default=7)
  assert found == 7
