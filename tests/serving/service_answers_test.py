"""Answers over HTTP are the predictor's own, whoever else asks."""

import concurrent.futures

import numpy as np
import pytest

TEXTS = ["a fine film", "dull", "the plot is thin but the cast is good", "so long and slow"]
QUESTIONS = [
  ("predict", {"texts": TEXTS, "prompt": "mood"}),
  ("predict", {"texts": TEXTS[:2], "prompt": ["size", "free"]}),
  ("predict", {"texts": TEXTS[1:2]}),
  ("predict", {"texts": TEXTS[:3], "prompt": ["free", None, "mood"]}),
  ("rank", {"texts": TEXTS[:2], "labels": ["bad", "good"], "prompt": "free"}),
  ("rank", {"texts": TEXTS[:2], "labels": [["a", "b"], ["red", "green", "blue"]]}),
  ("rank", {"texts": TEXTS, "labels": ["x y", "w"], "length_normalized": True}),
  ("score", {"texts": TEXTS[:2], "targets": ["good", "bad"], "prompt": [None, "mood"]}),
  ("score", {"texts": TEXTS[2:], "targets": ["so so", "a"], "length_normalized": True}),
]


def check(predictor, kind: str, body: dict, found: dict) -> None:
  """Compares the answers of a response with those of the predictor alone."""
  expected = getattr(predictor, kind)(**body)
  assert len(found["answers"]) == len(expected)
  for got, own in zip(found["answers"], expected, strict=True):
    assert got["text"] == own.text and got["tokens"] == own.tokens
    np.testing.assert_allclose(got["score"], own.score, atol=1e-5)
    np.testing.assert_allclose([x["score"] for x in got["scores"]], own.scores, atol=1e-5)


@pytest.mark.parametrize(("kind", "body"), QUESTIONS)
def test_an_answer_is_the_predictor_s(client, predictor, kind, body):
  response = client.post(kind, **body)
  assert response.status_code == 200, response.text
  check(predictor, kind, body, response.json())


def test_scores_say_the_label_they_are_of(client):
  (answer,) = client.post("predict", texts=["dull"], prompt="size").json()["answers"]
  assert [row["label"] for row in answer["scores"]] == ["small", "large", "huge"]
  best = max(answer["scores"], key=lambda row: row["score"])
  assert best == {"label": answer["text"], "score": answer["score"]}


def test_sixteen_clients_at_once_get_their_own_answers(client, predictor):
  work = [QUESTIONS[i % len(QUESTIONS)] for i in range(16 * 8)]
  before = client.metric("prompt_tuning_batch_rows_count")

  def ask(question):
    return client.post(question[0], **question[1])

  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    responses = list(pool.map(ask, work))
  for (kind, body), response in zip(work, responses, strict=True):
    assert response.status_code == 200, response.text
    check(predictor, kind, body, response.json())
  passes = client.metric("prompt_tuning_batch_rows_count") - before
  assert passes < len(work)  # several requests shared a pass


def test_metrics_count_what_was_asked(client):
  names = ("rows_total", "tokens_total", "batch_rows_sum", "request_seconds_count")
  before = {name: client.metric(f"prompt_tuning_{name}") for name in names}
  (answer,) = client.post("predict", texts=["dull"], prompt="mood").json()["answers"]
  after = {name: client.metric(f"prompt_tuning_{name}") for name in names}
  grown = {name: after[name] - before[name] for name in names}
  assert grown["rows_total"] == grown["batch_rows_sum"] == 1
  assert grown["tokens_total"] == answer["tokens"]
  assert client.metric("prompt_tuning_prompts") == 3
  assert client.metric("prompt_tuning_queue_rows") == 0
  text = client.call("GET", "/metrics").text
  assert 'prompt_tuning_requests_total{route="/v1/predict",status="200"}' in text


def test_the_prompts_are_listed(client):
  found = client.call("GET", "/v1/prompts").json()["prompts"]
  assert [(row["name"], row["length"], row["labels"]) for row in found] == [
    ("mood", 3, ["negative", "positive"]),
    ("size", 5, ["small", "large", "huge"]),
    ("free", 2, None),
  ]
