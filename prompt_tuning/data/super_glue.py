"""SuperGLUE (Wang et al. 2019) as text, from TFDS `super_glue`, and DPR.

super_glue_boolq_v102 ...                 see `variants` for what else a name may carry
super_glue_wsc_v102_simple_train, _eval   Winograd schemas, answered with the noun
super_glue_wsc_and_dev_v102_simple        the two together
dpr_v001_simple                           more schemas (Rahman & Ng 2012)
task_index_super_glue_v102_examples_proportional, ..._with_dpr_v102_...
                                          all of it, by size of the training sets
"""

from prompt_tuning.data import super_glue_benchmark as benchmark
from prompt_tuning.data import variants

_VERSION = benchmark.VERSION

for _config in benchmark.CLASSIFICATION:
  variants.add(f"super_glue_{_config}_{_VERSION}", benchmark.classification(_config))
variants.add(f"super_glue_record_{_VERSION}", benchmark.record())
variants.add(f"super_glue_wsc_{_VERSION}_simple_train", benchmark.wsc_train())
variants.add(f"super_glue_wsc_{_VERSION}_simple_eval", benchmark.wsc_eval())
variants.add("dpr_v001_simple", benchmark.dpr())
variants.add_mixture(
  f"super_glue_wsc_and_dev_{_VERSION}_simple",
  {f"super_glue_wsc_{_VERSION}_simple_{part}": 1.0 for part in ("train", "eval")},
)
variants.add_mixture(  # T5's own has DPR and the diagnostics in it
  f"super_glue_{_VERSION}",
  {**benchmark.DPR, **benchmark.RATES, **benchmark.DIAGNOSTICS},
  forms=(variants.BASE,),
  tail="_proportional",
)
variants.add_mixture(
  f"super_glue_{_VERSION}",
  {**benchmark.RATES, **benchmark.DIAGNOSTICS},
  forms=(variants.TASKLESS,),
  tail="_proportional",
)
variants.add_mixture(
  f"super_glue_{_VERSION}",
  benchmark.RATES,
  forms=(variants.TASK_INDEX,),
  tail="_proportional",
)
variants.add_mixture(
  f"super_glue_with_dpr_{_VERSION}",
  {**benchmark.RATES, **benchmark.DPR},
  forms=(variants.TASKLESS, variants.TASK_INDEX),
  tail="_proportional",
)
