"""Questions about a passage: SQuAD, MRQA and ReCoRD as text."""

import seqio
import tensorflow as tf

from prompt_tuning.data.preprocessors import UNKNOWN

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def squad(example: Example) -> Example:
  """SQuAD: "question: Q context: C" with every punctuation mark set apart."""
  return _question_answering(example, example["answers"]["text"], example["id"])


@seqio.map_over_dataset
def mrqa(example: Example, name: str = "") -> Example:
  """MRQA: as SQuAD, perhaps behind the name of the data set."""
  return _question_answering(example, example["answers"], example["qid"], name)


def _question_answering(
  example: Example, answers: tf.Tensor, number: tf.Tensor, name: str = ""
) -> Example:
  question, context = spaced(example["question"]), spaced(example["context"])
  answers = spaced(answers)
  words = [name] if name else []
  parts = [*words, "question:", question, "context:", context]
  return {
    "inputs": _single_spaced(tf.strings.join(parts, separator=" ")),
    "targets": answers[0],
    "id": number,
    "context": context,
    "question": question,
    "answers": answers,
  }


def spaced(text: tf.Tensor) -> tf.Tensor:
  """A space on both sides of every punctuation mark."""
  return _single_spaced(tf.strings.regex_replace(text, r"([[:punct:]])", r" \1 "))


def _single_spaced(text: tf.Tensor) -> tf.Tensor:
  return tf.strings.regex_replace(text, r"\s+", " ")


def record(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """ReCoRD: a query with a gap, one example for each of its right answers."""

  def one_per_answer(example: Example) -> tf.data.Dataset:
    answers = example["answers"]
    targets = tf.cond(tf.size(answers) > 0, lambda: answers, lambda: tf.constant([UNKNOWN]))
    found = {**record_text(example), "answers": answers}
    return tf.data.Dataset.from_tensor_slices(targets).map(
      lambda target: {**found, "targets": target}
    )

  return dataset.flat_map(one_per_answer)


def record_text(example: Example) -> Example:
  """The inputs of a ReCoRD query and its indices."""
  parts = [
    "record query:",
    example["query"],
    "entities:",
    tf.strings.reduce_join(example["entities"], separator=", "),
    "passage:",
    _without_highlights(example["passage"]),
  ]
  return {
    "inputs": tf.strings.join(parts, separator=" "),
    "idx/passage": example["idx"]["passage"],
    "idx/query": example["idx"]["query"],
  }


def _without_highlights(passage: tf.Tensor) -> tf.Tensor:
  """Makes sentences of the highlights of an article."""
  mark = "\n@highlight\n"
  passage = tf.strings.regex_replace(passage, rf"([.?!\"']){mark}", r"\1 ")
  return tf.strings.regex_replace(passage, mark, ". ")
