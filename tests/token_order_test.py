"""The order of tokens: a bijection with pad at 0 and EOS at 1; which pad that is."""

import itertools
import json

import numpy as np
import pytest
from etils import epath

from prompt_tuning import checks, special_tokens
from prompt_tuning.special_tokens import SpecialTokens
from prompt_tuning.token_order import TokenOrder

PAIRS = list(itertools.product(range(5), repeat=2))


@pytest.mark.parametrize(("pad", "eos"), PAIRS)
def test_it_goes_there_and_back_with_eos_at_1_and_pad_at_0(pad, eos):
  order = TokenOrder(pad, eos)
  theirs, ours = order.theirs(5), order.ours(5)
  assert sorted(theirs) == list(range(5))
  np.testing.assert_array_equal(theirs[ours], np.arange(5))
  np.testing.assert_array_equal(ours[theirs], np.arange(5))
  assert theirs[1] == eos
  assert theirs[0] == pad or pad == eos


def test_few_tokens_move_and_tables_move_with_them():
  order = TokenOrder(9, 2)
  assert order.theirs(10).tolist() == [9, 2, 1, 3, 4, 5, 6, 7, 8, 0]
  table = np.arange(20).reshape(10, 2)
  np.testing.assert_array_equal(order.arranged(table)[:3], [[18, 19], [4, 5], [2, 3]])
  np.testing.assert_array_equal(order.arranged(table.T, 1), order.arranged(table).T)


@pytest.mark.parametrize(
  ("special", "pad"),
  [
    ({"reserved": {0, 1, 2}, "bos": 1, "eos": 2, "pad": 2}, 0),  # SmolLM2, Llama 2
    ({"reserved": {0, 7, 9}, "eos": 0, "bos": 0, "pad": 7}, 7),  # 0 ends a text
    ({"reserved": {5, 7, 9}, "eos": 7, "pad": 5}, 5),  # Qwen2
    ({"reserved": {5, 7, 9}, "eos": 7, "pad": 7}, 9),
    ({"reserved": {5, 7, 9}, "eos": 7, "pad": 3}, 9),  # 3 is an ordinary token
    ({"reserved": {5, 7, 9}, "eos": 9, "bos": 7}, 5),  # Llama 3
  ],
)
def test_pad_is_a_token_that_nothing_needs(special, pad):
  special = {**special, "reserved": frozenset(special["reserved"])}
  order = SpecialTokens("x", count=10, **special).order()
  assert order == TokenOrder(pad, special["eos"])


@pytest.mark.parametrize(
  ("special", "message"),
  [
    ({"reserved": frozenset({3, 4}), "bos": 3, "eos": 4}, "no special token besides"),
    ({"reserved": frozenset({3, 4})}, "names no end of a text"),
    ({"reserved": frozenset({3, 4}), "eos": 10}, "ends a text with token 10"),
  ],
)
def test_without_a_pad_or_an_eos_there_is_no_order(special, message):
  with pytest.raises(checks.InputError, match=message):
    SpecialTokens("x", count=10, **special).order()


def folder_with(path, **contents):
  for name, content in contents.items():
    (path / f"{name}.json").write_text(json.dumps(content))
  return epath.Path(path)


TOKENIZER = {
  "model": {"vocab": {"a": 0, "b": 1, "<s>": 2, "</s>": 3}},
  "added_tokens": [
    {"id": 2, "content": "<s>", "special": True},
    {"id": 3, "content": "</s>", "special": True},
    {"id": 4, "content": "<pad>", "special": True},
    {"id": 5, "content": "<tool>", "special": False},
  ],
}


def test_a_folder_without_a_tokenizer_keeps_its_0(tmp_path):
  folder = folder_with(tmp_path, config={"eos_token_id": [7, 8]})
  assert special_tokens.of_folder(folder).order() == TokenOrder(0, 7)
  folder_with(tmp_path, generation_config={"eos_token_id": 9})
  assert special_tokens.of_folder(folder).order() == TokenOrder(0, 9)


def test_a_tokenizer_s_own_eos_wins(tmp_path):
  folder = folder_with(
    tmp_path,
    config={"eos_token_id": 1},
    tokenizer=TOKENIZER,
    tokenizer_config={"bos_token": "<s>", "eos_token": {"content": "</s>"}},
  )
  found = special_tokens.of(folder)
  assert found == special_tokens.of(folder / "tokenizer.json")
  assert (found.count, found.bos, found.reserved) == (6, 2, frozenset({2, 3, 4}))
  assert found.order() == TokenOrder(4, 3)
  (tmp_path / "tokenizer_config.json").rename(tmp_path / "special_tokens_map.json")
  assert special_tokens.of(folder) == found
  (tmp_path / "special_tokens_map.json").unlink()
  assert special_tokens.of(folder).eos == 1


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("tokenizer", "{"),
    ("tokenizer", "[]"),
    ("tokenizer", '{"model": 3}'),
    ("tokenizer", '{"model": {"vocab": {}}}'),
    ("tokenizer", '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}'),
    ("tokenizer", '{"model": {"vocab": {"a": "b"}}}'),
    ("tokenizer", '{"model": {"vocab": {"a": 1099511627776}}}'),
    ("tokenizer", '{"model": {"vocab": {"a": -1}}}'),
    ("tokenizer_config", "nothing"),
    ("config", "\0"),
  ],
)
def test_damaged_files_are_named(tmp_path, name, content):
  folder = folder_with(tmp_path, tokenizer=TOKENIZER)
  (tmp_path / f"{name}.json").write_text(content)
  with pytest.raises(checks.InputError, match=rf"{name}\.json cannot be read"):
    special_tokens.of_folder(folder)


def test_nothing_is_told_from_a_tokenizer(tmp_path):
  with pytest.raises(checks.InputError, match="there is no tokenizer at"):
    special_tokens.of(epath.Path(tmp_path))
