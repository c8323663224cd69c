"""Relative position buckets (Raffel et al. 2020, section 2.1)."""

import numpy as np

from prompt_tuning.models.attention import relative_buckets


def test_short_distances_have_a_bucket_each():
  behind = -np.arange(16)
  np.testing.assert_array_equal(relative_buckets(behind, 32, 128, False), np.arange(16))


def test_far_distances_share_the_last_bucket():
  far = np.array([-128, -500, -10_000])
  assert set(relative_buckets(far, 32, 128, False)) == {31}


def test_a_causal_tower_has_no_buckets_for_keys_ahead():
  assert set(relative_buckets(np.arange(0, 300), 32, 128, False)) == {0}


def test_a_bidirectional_tower_splits_its_buckets():
  distances = np.arange(-300, 301)
  buckets = relative_buckets(distances, 32, 128, True)
  assert buckets[distances <= 0].max() == 15
  assert buckets[distances > 0].min() == 17  # 16 would be distance 0
  assert buckets.max() == 31
  grows = relative_buckets(np.arange(1, 300), 32, 128, True)
  assert (np.diff(grows) >= 0).all()
