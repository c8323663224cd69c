"""The two features of a text-to-text task."""

import seqio

from prompt_tuning.data import vocabularies
from prompt_tuning.data.run_vocabulary import RunVocabulary


def text_to_text(default: vocabularies.Vocabulary) -> dict[str, seqio.Feature]:
  """Inputs and targets in the run's vocabulary, EOS appended to both.

  Args:
    default: The vocabulary where no run has chosen one.
  """
  inputs = RunVocabulary(default, vocabularies.inputs)
  return {
    "inputs": seqio.Feature(inputs, add_eos=True, required=False),
    "targets": seqio.Feature(RunVocabulary(default), add_eos=True),
  }
