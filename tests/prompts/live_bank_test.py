"""Prompts that come and go by name: none is ever taken for another."""

import sys
import threading

import jax
import numpy as np
import pytest

from prompt_tuning import checks, partitioning
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.live_bank import LiveBank

WIDTH = 4


def constant(value, length=2):
  return np.full((length, WIDTH), value, np.float32)


def held(bank, name):
  """The prompt [prompt_len, d_model] that a name selects, without free slots."""
  (prompts, lengths, _), (place,) = bank.select([name])
  prompts, length = np.asarray(prompts), int(lengths[place])
  return prompts[place, prompts.shape[1] - length :]


@pytest.fixture
def bank():
  found = LiveBank(3, 5, WIDTH)
  found.add("first", constant(1))
  found.add("second", constant(2, 5))
  return found


@pytest.fixture
def compilations():
  """Names of what JAX traces or compiles while the test runs."""
  found = []

  def listen(event, duration, **kwargs):
    del duration, kwargs
    if event.startswith("/jax/core/compile"):
      found.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield found
  jax.monitoring.unregister_event_duration_listener(listen)


def test_it_starts_with_the_untuned_model_only():
  bank = LiveBank(3, 5, WIDTH)
  (prompts, lengths, _), places = bank.select([None, "first"])
  assert (prompts.shape, lengths.shape) == ((4, 5, WIDTH), (4,))
  assert places == [0, None]
  assert bank.names() == []
  np.testing.assert_array_equal(lengths, 0)


def test_names_select_their_prompts(bank):
  assert bank.names() == ["first", "second"]
  np.testing.assert_array_equal(held(bank, "first"), constant(1))
  np.testing.assert_array_equal(held(bank, "second"), constant(2, 5))
  arrays, places = bank.select(["second", None, "first", "third", "second"])
  assert places[1] == 0
  assert places[3] is None
  assert places[0] == places[4] != places[2]
  prompts = PromptBank(*arrays[:2]).rows(np.array([places[0], places[2]]), 2)
  np.testing.assert_array_equal(prompts[:, -1], [[2.0] * WIDTH, [1.0] * WIDTH])


def test_a_namesake_is_replaced_where_it_is(bank):
  _, before = bank.select(["first", "second"])
  bank.add("first", constant(7, 4))
  _, after = bank.select(["first", "second"])
  assert before == after
  np.testing.assert_array_equal(held(bank, "first"), constant(7, 4))
  np.testing.assert_array_equal(held(bank, "second"), constant(2, 5))
  bank.add("first", constant(8, 1))  # the shorter one leaves nothing of the longer
  np.testing.assert_array_equal(held(bank, "first"), constant(8, 1))


def test_a_removed_prompt_makes_room(bank):
  bank.add("third", constant(3, 1))
  with pytest.raises(checks.InputError, match="full with 3 prompts, expected room for 'x'"):
    bank.add("x", constant(9))
  bank.add("third", constant(4, 1))  # a namesake needs no room
  bank.remove("first")
  bank.add("x", constant(9))
  assert bank.names() == ["second", "third", "x"]
  for name, prompt in (("second", constant(2, 5)), ("third", constant(4, 1))):
    np.testing.assert_array_equal(held(bank, name), prompt)
  np.testing.assert_array_equal(held(bank, "x"), constant(9))


def test_a_batch_that_has_begun_keeps_its_prompts(bank):
  (prompts, lengths, _), (place,) = bank.select(["first"])
  bank.remove("first")
  bank.add("other", constant(9, 4))
  bank.add("second", constant(8))
  assert int(lengths[place]) == 2
  np.testing.assert_array_equal(prompts[place, 3:], constant(1))


@pytest.mark.parametrize(
  ("prompt", "message"),
  [
    (constant(1, 6), "'new' has 6 tokens, expected at most 5; start with a larger"),
    (np.zeros((2, 3), np.float32), r"'new' has shape \[2, 3\], expected \[2, 4\]"),
    (np.zeros(4, np.float32), r"'new' has shape \[4\], expected \[4, 4\]"),
    (np.zeros((1, 2, 4), np.float32), r"'new' has shape \[1, 2, 4\], expected \[1, 4\]"),
  ],
)
def test_a_prompt_that_does_not_fit_is_refused(bank, prompt, message):
  with pytest.raises(checks.InputError, match=message):
    bank.add("new", prompt)
  assert bank.names() == ["first", "second"]


def test_an_unknown_name_cannot_be_removed(bank):
  with pytest.raises(
    checks.InputError, match=r"unknown prompt 'frist'; the nearest .*first"
  ):
    bank.remove("frist")


def test_nothing_compiles_while_prompts_come_and_go(compilations):
  bank = LiveBank(4, 5, WIDTH)
  bank.add("once", constant(0))
  rows = jax.jit(lambda arrays, ids: PromptBank(*arrays[:2]).rows(ids, 2))
  rows(bank.select([])[0], np.zeros(2, np.int32))
  assert compilations  # it is heard
  compilations.clear()
  bank.remove("once")
  for turn in range(3):
    for i in range(4):
      bank.add(f"prompt {i}", constant(i, 1 + (i + turn) % 5))
      arrays, places = bank.select([f"prompt {i}", None])
      rows(arrays, np.asarray(places, np.int32))
    for i in range(4):
      bank.remove(f"prompt {i}")
  assert compilations == []


def test_prompts_lie_where_they_are_told():
  mesh = partitioning.Partitioner().mesh(8)
  bank = LiveBank(2, 5, WIDTH, partitioning.replicated(mesh))
  for name in ("first", "second"):
    bank.add(name, constant(3))
    (prompts, lengths, _), _ = bank.select([])
    for array in (prompts, lengths):
      assert array.sharding.is_equivalent_to(partitioning.replicated(mesh), array.ndim)


@pytest.fixture
def impatient():
  """Threads that take turns all the time, so that what can interleave does."""
  before = sys.getswitchinterval()
  sys.setswitchinterval(1e-5)
  yield
  sys.setswitchinterval(before)


class Interrupted(str):
  """A name at whose first look-up another thread has its turn, as may happen."""

  def during(self, *work):
    """Gives the other thread its work."""
    self.thread = threading.Thread(target=lambda: [each() for each in work])
    return self

  def __hash__(self):
    if self.thread.ident is None:
      self.thread.start()
      self.thread.join(0.3)  # it may have to wait for us
    return super().__hash__()


def test_places_and_arrays_are_of_one_moment(bank):
  bank.add("third", constant(3))
  name = Interrupted("first").during(
    lambda: bank.remove("first"),
    lambda: bank.add("other", constant(9)),  # in the place of the first
    lambda: bank.add("second", constant(8)),
  )
  (prompts, _, _), (place, second) = bank.select([name, "second"])
  name.thread.join()
  np.testing.assert_array_equal(prompts[place, 3:], constant(1))
  np.testing.assert_array_equal(prompts[second], constant(2, 5))
  assert bank.names() == ["second", "third", "other"]


def test_threads_never_see_the_prompt_of_another_name(impatient):
  bank = LiveBank(3, 5, WIDTH)  # too small for all, so that places change hands
  wrong, errors, seen = [], [], []
  stop = threading.Event()

  def guarded(work):
    try:
      while not stop.is_set():
        work()
    except Exception as error:
      errors.append(error)
      stop.set()

  def change(number):
    name = f"prompt {number}"
    try:
      bank.add(name, constant(number, 1 + number % 5))
      bank.remove(name)
    except checks.InputError as error:
      assert "full" in str(error)

  def look():
    names = [f"prompt {number}" for number in range(1, 5)]
    (prompts, lengths, _), places = bank.select(names)
    prompts, lengths = np.asarray(prompts), np.asarray(lengths)
    for number, place in enumerate(places, 1):
      if place is None:
        continue
      seen.append(number)
      length = 1 + number % 5
      if lengths[place] != length or np.any(prompts[place, 5 - length :] != number):
        wrong.append((number, lengths[place], prompts[place]))
    if np.any(prompts[0]) or lengths[0]:
      wrong.append("untuned")

  works = [lambda n=n: change(n) for n in range(1, 5)] + [look, look]
  threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
  for thread in threads:
    thread.start()
  stop.wait(2)
  stop.set()
  for thread in threads:
    thread.join()
  assert errors == []
  assert wrong == []
  assert set(seen) == {1, 2, 3, 4}
