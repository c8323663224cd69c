"""Padded lengths: few, climbing, never below what is padded."""

from prompt_tuning.data.ladder import fitting, input_lens, ladder


def test_sizes_climb_to_the_limit():
  assert ladder(1, 32, 4) == [1, 4, 16, 32]
  assert ladder(32, 512, 2) == [32, 64, 128, 256, 512]
  assert ladder(32, 100, 2) == [32, 64, 100]
  assert ladder(32, 20, 2) == [20]
  assert ladder(8, 8, 4) == [8]


def test_the_smallest_that_holds_a_size_is_taken():
  assert [fitting(size, [1, 4, 16]) for size in (1, 2, 4, 5, 16)] == [1, 4, 4, 16, 16]


def test_inputs_have_few_lengths():
  assert input_lens(512) == [32, 64, 128, 256, 512]
  assert input_lens(300) == [32, 64, 128, 256, 300]
