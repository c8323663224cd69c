"""The two features of a text-to-text task."""

import seqio

from prompt_tuning import files
from prompt_tuning.data import vocabularies


def text_to_text(default: vocabularies.SentencePiece) -> dict[str, seqio.Feature]:
  """Inputs and targets in the run's vocabulary, EOS appended to both.

  Args:
    default: The vocabulary where no run has chosen one.
  """
  chosen = vocabularies.current(default)
  vocabulary = seqio.SentencePieceVocabulary(
    str(files.path(chosen.sentencepiece_model_file)), chosen.extra_ids
  )
  return {
    "inputs": seqio.Feature(vocabulary, add_eos=True, required=False),
    "targets": seqio.Feature(vocabulary, add_eos=True),
  }
