"""Question answering and its shift of domain (Lester et al. 2021, section 5).

  squad_v010_allanswers        SQuAD 1.1
  mrqa_news_qa_v100 ...        MRQA 2019, the domains of its training sets
  mrqa_bio_asq_v100 ...        and those that are evaluated only, as "validation"
  squad_to_bio_asq ...         SQuAD to train on, one or all of those to evaluate
"""

from prompt_tuning.data import (
  example_metrics,
  postprocessors,
  reading,
  text_metrics,
  variants,
)

SQUAD = "squad_v010_allanswers"
IN_DOMAIN = ("news_qa", "trivia_qa", "search_qa", "hotpot_qa", "natural_questions")
OUT_OF_DOMAIN = (
  "bio_asq",
  "drop",
  "duo_rc",
  "race",
  "relation_extraction",
  "textbook_qa",
)


def answered(source, text) -> variants.Description:
  """A data set of questions whose answers are spans of a passage."""
  return variants.Description(
    source=source,
    preprocessors=[text],
    postprocess=postprocessors.qa,
    metrics=[text_metrics.squad],
    shown=example_metrics.answers_shown,
    find_negative=False,
  )


def mrqa(name: str, splits) -> variants.Description:
  """A data set of MRQA."""
  return answered(variants.tfds(f"mrqa/{name}:1.0.0", splits), reading.mrqa)


_squad = variants.tfds("squad/v1.1:3.0.0", ("train", "validation"))
variants.add(SQUAD, answered(_squad, reading.squad), forms=(variants.BASE,))
for _name in IN_DOMAIN:
  _task = mrqa(_name, ("train", "validation"))
  variants.add(f"mrqa_{_name}_v100", _task, forms=(variants.BASE,))
for _name in OUT_OF_DOMAIN:
  _task = mrqa(_name, {"validation": "test"})
  variants.add(f"mrqa_{_name}_v100", _task, forms=(variants.BASE,))
  variants.add_mixture(
    f"squad_to_{_name}",
    {SQUAD: 1.0, f"mrqa_{_name}_v100": 1.0},
    forms=(variants.BASE,),
  )
variants.add_mixture(
  "squad_to_mrqa",
  {SQUAD: 1.0, **{f"mrqa_{name}_v100": 1.0 for name in OUT_OF_DOMAIN}},
  forms=(variants.BASE,),
)
