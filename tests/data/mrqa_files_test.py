"""MRQA's own files as a table: every question, readable, and the text of the tasks."""

import csv
import gzip
import json

import pytest

from prompt_tuning import checks
from prompt_tuning.cli.main import main
from prompt_tuning.data import mrqa_files, vocabularies
from prompt_tuning.data.table import Table

PASSAGE = {
  "context": 'The "BRCA1" gene\t(on 17q21) was found in 1990.',
  "qas": [
    {"qid": "a1", "question": "When?", "answers": ["1990", "1990.", "1990"]},
    {"qid": "a2", "question": "Where is BRCA1?", "answers": ["on 17q21"]},
  ],
}
HEADER = {"header": {"dataset": "BioASQ", "split": "dev"}}


@pytest.fixture(params=["jsonl", "jsonl.gz"])
def source(request, tmp_path):
  text = "".join(json.dumps(row) + "\n" for row in (HEADER, PASSAGE)).encode()
  path = tmp_path / f"BioASQ.{request.param}"
  path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
  return path


def test_every_question_is_a_row(source, tmp_path, capsys):
  target = tmp_path / "BioASQ.tsv"
  assert main(["mrqa", str(source), str(target)]) == 0
  assert capsys.readouterr().out == f"2 questions in {target}\n"
  context = 'The " BRCA1 " gene ( on 17q21 ) was found in 1990 .'
  with target.open(newline="") as rows:
    assert list(csv.reader(rows, delimiter="\t")) == [
      ["id", "context", "question", "answer", "answers"],
      ["a1", context, "When ?", "1990", "1990|||1990 ."],
      ["a2", context, "Where is BRCA1 ?", "on 17q21", "on 17q21"],
    ]


def test_a_table_of_it_is_the_task_of_tfds(source, tmp_path):
  target = tmp_path / "BioASQ.tsv"
  mrqa_files.convert(source, target)
  table = Table(
    name="bio_asq_of_this_test",
    validation=str(target),
    inputs="question: {question} context: {context}",
    targets="answer",
    answers="answers",
    metrics=["squad"],
  )
  table.register()
  from prompt_tuning.data import registry

  vocabularies.use(vocabularies.EMBEDDED)
  task = registry.named(table.name)
  first = next(iter(task.get_dataset(None, "validation", shuffle=False)))
  vocabularies.use(None)
  text = first["inputs_pretokenized"].numpy().decode()
  assert (
    text == 'question: When ? context: The " BRCA1 " gene ( on 17q21 ) was found in 1990 .'
  )
  (metric,) = task.metric_fns
  targets = [["1990", "1990 ."], ["on 17q21"]]
  assert metric(targets, ["1990.", "17q21"]) == pytest.approx({"em": 50.0, "f1": 250 / 3})


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("{", "cannot be read"),
    ('{"context": "x"}', "line 1 is no passage of MRQA"),
    ('{"context": "x", "qas": [{"qid": "1", "question": "?", "answers": []}]}', "line 1"),
    ("[1]", "line 1 is no passage"),
  ],
)
def test_what_is_no_passage_is_refused_with_its_line(tmp_path, text, message):
  (tmp_path / "a.jsonl").write_text(text)
  with pytest.raises(checks.InputError, match=message):
    mrqa_files.convert(tmp_path / "a.jsonl", tmp_path / "a.tsv")
  assert not (tmp_path / "a.tsv").exists()


def test_nothing_is_overwritten(source, tmp_path):
  (tmp_path / "a.tsv").write_text("mine")
  with pytest.raises(checks.InputError, match="exists"):
    mrqa_files.convert(source, tmp_path / "a.tsv")
  assert (tmp_path / "a.tsv").read_text() == "mine"
