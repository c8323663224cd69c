"""Examples shown beside the metrics, right ones and wrong ones."""

import benchmark_records
import pytest
import seqio

from prompt_tuning.data import example_metrics, glue, metrics, vocabularies

assert "sst2" in glue.benchmark.CLASSIFICATION


def said(prediction, number=0, text=None, right="positive"):
  return {
    "prediction": prediction,
    "prediction_pretokenized": text or f"answer {prediction}",
    "inputs_pretokenized": f"sentence: film {number}",
    "targets_pretokenized": right,
  }


def shown(targets, predictions, **kwargs):
  """{title without the task: its examples}."""
  found = example_metrics.text_examples(targets, predictions, task="films", **kwargs)
  assert all(isinstance(text, seqio.metrics.Text) for text in found.values())
  return {
    title.removeprefix("films "): text.textdata.split("\n\n---\n\n")
    for title, text in found.items()
  }


def test_a_metric_sees_the_answers_alone():
  found = example_metrics.unwrapped([1, 0], [said(1), said(1)], metric=metrics.accuracy)
  assert found == {"accuracy": 50.0}


def test_an_example_is_its_inputs_its_target_and_the_answer():
  (found,) = shown([1], [said(0, text="negative")])["samples"]
  assert found == (
    "**inputs**: sentence: film 0\n\n**target**: positive\n\n**prediction**: negative"
  )


def test_a_target_without_text_is_shown_as_it_is():
  (found,) = shown([7], [said(7, right=None)])["samples"]
  assert "**target**: 7" in found


def test_wrong_answers_are_shown_by_themselves():
  answers = [said(1, 0), said(0, 1), said(-1, 2)]
  found = shown([1, 1, 1], answers)
  assert found.keys() == {"samples", "negative samples"}
  assert len(found["samples"]) == 3
  wrong = sorted(text.splitlines()[0] for text in found["negative samples"])
  assert wrong == ["**inputs**: sentence: film 1", "**inputs**: sentence: film 2"]
  assert shown([1, 0, -1], answers).keys() == {"samples"}
  assert shown([1, 1, 1], answers, find_negative=False).keys() == {"samples"}


@pytest.mark.parametrize(
  ("target", "prediction", "wrong"),
  [
    (["Oslo", "the city"], "the city", False),
    (["Oslo"], "oslo", True),
    ({"value": 1, "group": 4}, {"value": 1}, False),
    ({"value": 1, "group": 4}, {"value": 0}, True),
    ({"value": ["Ann", "Bo"], "group": (0, 1)}, {"value": "Bo"}, False),
    ({"value": ["Ann", "Bo"], "group": (0, 1)}, {"value": "Eve"}, True),
  ],
)
def test_one_of_several_right_answers_is_right(target, prediction, wrong):
  assert ("negative samples" in shown([target], [said(prediction)])) == wrong


@pytest.mark.parametrize(("count", "expected"), [(None, 8), (3, 3), (50, 20)])
def test_so_many_are_drawn_and_none_twice(count, expected):
  answers = [said(0, i) for i in range(20)]
  kwargs = {} if count is None else {"num_examples": count}
  for examples in shown([1] * 20, answers, **kwargs).values():
    assert len(examples) == len(set(examples)) == expected


def test_the_seed_decides_what_is_drawn_and_is_always_the_same_unless_given():
  answers = [said(0, i) for i in range(100)]
  first = shown([1] * 100, answers, seed=3)
  assert first == shown([1] * 100, answers, seed=3)
  assert first != shown([1] * 100, answers, seed=4)
  assert shown([1] * 100, answers) == shown([1] * 100, answers, seed=0)


def test_a_question_is_shown_with_its_answers_once_and_in_order():
  answer = said("Oslo", right="Oslo")
  (found,) = shown(
    [["Oslo", "Bergen", "Oslo"]], [answer], shown=example_metrics.answers_shown
  )["samples"]
  assert "**target**: Bergen, Oslo\n" in found


def test_seqio_shows_them_beside_the_numbers():
  name = "taskless_glue_sst2_v200_examples"
  benchmark_records.prepared("glue/sst2:2.0.0")
  vocabularies.use(vocabularies.EMBEDDED)
  try:
    evaluator = seqio.Evaluator(
      name,
      seqio.EncDecFeatureConverter(pack=False),
      eval_split="train",
      sequence_length={"inputs": 32, "targets": 4},
      logger_cls=(),
      async_compute_metrics=False,
    )
    answer = [*vocabularies.EMBEDDED.load().encode("positive"), 1, 0]
    answers = [(0, answer), (1, answer)]
    found, _ = evaluator.evaluate(compute_metrics=True, predict_fn=lambda dataset: answers)
  finally:
    vocabularies.use(None)
  values = dict(found.result()[name])
  assert values.pop("accuracy") == 50.0
  assert values.pop(f"{name} negative samples").textdata == (
    "**inputs**: sentence: tedious from start to finish\n\n"
    "**target**: negative\n\n**prediction**: positive"
  )
  assert values.pop(f"{name} samples").textdata.count("**prediction**: positive") == 2
  assert not values
