"""What a run reads to train, and how much of it."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from prompt_tuning.data import vocabularies
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.packing import Packing
from prompt_tuning.feed import Feed


@pytest.mark.parametrize("pack", [False, True])
def test_it_counts_the_examples_of_a_batch_and_not_its_rows(pack, tmp_path):
  dataset = DatasetConfig(
    mixture_or_task_name="movie_reviews_sentiment",
    task_feature_lengths={"inputs": 256, "targets": 32},
    split="train",
    batch_size=4,
    seed=0,
    pack=pack,
  )
  mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
  feed = Feed(dataset, vocabularies.EMBEDDED, mesh, Packing(prompt_len=3, combine="prefix"))
  feed.open(0, tmp_path)
  for _ in range(3):
    targets = next(feed)["decoder_target_tokens"]
    assert feed.held == np.sum(targets == 1)  # each answer ends with one EOS
    assert (feed.held > len(targets)) == pack
