"""A tiny predictor and a service over it, which tests share."""

from collections.abc import Iterator

import pytest
from live import Client, Held, ready, running, tiny_predictor

from prompt_tuning.predictor import Predictor


@pytest.fixture(scope="session")
def predictor() -> Predictor:
  """Warmed up; tests leave its prompts as they were."""
  made = tiny_predictor()
  made.warm_up()
  return made


@pytest.fixture(scope="session")
def client(predictor, tmp_path_factory) -> Iterator[Client]:
  """A service that tests leave as it was."""
  with running(lambda: predictor, prompt_dir=tmp_path_factory.mktemp("prompts")) as found:
    yield ready(found)


@pytest.fixture
def held(predictor) -> Iterator[Held]:
  """The predictor, whose passes wait when `go` is cleared."""
  made = Held(predictor)
  yield made
  made.go.set()
