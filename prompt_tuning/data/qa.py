"""Question answering and its shift of domain (Lester et al. 2021, section 5).

squad_v010_allanswers        SQuAD 1.1
mrqa_news_qa_v100 ...        MRQA 2019, the domains of its training sets
mrqa_bio_asq_v100 ...        and those that are evaluated only, as "validation"
squad_to_bio_asq ...         SQuAD to train on, one or all of those to evaluate
"""

from prompt_tuning.data import question_answering as benchmark
from prompt_tuning.data import variants

SQUAD = "squad_v010_allanswers"

variants.add(SQUAD, benchmark.squad(), forms=(variants.BASE,))
for _name in benchmark.IN_DOMAIN:
  _task = benchmark.mrqa(_name, ("train", "validation"))
  variants.add(f"mrqa_{_name}_v100", _task, forms=(variants.BASE,))
for _name in benchmark.OUT_OF_DOMAIN:
  _task = benchmark.mrqa(_name, {"validation": "test"})
  variants.add(f"mrqa_{_name}_v100", _task, forms=(variants.BASE,))
  variants.add_mixture(
    f"squad_to_{_name}",
    {SQUAD: 1.0, f"mrqa_{_name}_v100": 1.0},
    forms=(variants.BASE,),
  )
variants.add_mixture(
  "squad_to_mrqa",
  {SQUAD: 1.0, **{f"mrqa_{name}_v100": 1.0 for name in benchmark.OUT_OF_DOMAIN}},
  forms=(variants.BASE,),
)
