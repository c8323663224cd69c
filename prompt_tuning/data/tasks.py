"""All built-in families of tasks at once; a run that names none of them finds them here."""

from prompt_tuning.data import (  # noqa: F401  importing them registers their tasks
  c4,
  glue,
  glue_transfer,
  movie_reviews,
  perceptron,
  qa,
  recycling,
  spot,
  summarization,
  super_glue,
)
