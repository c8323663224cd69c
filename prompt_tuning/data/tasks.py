"""All built-in families of tasks at once; a run that names none of them finds them here."""

from prompt_tuning.data import (
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

FAMILIES = (
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
