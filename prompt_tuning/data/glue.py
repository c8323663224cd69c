"""GLUE (Wang et al. 2018) as text, from TFDS `glue`.

glue_cola_v002 ... glue_ax_v200           see `variants` for what else a name may carry
glue_mnli_and_dev_v200                    MNLI and its two validation sets
glue_v200_proportional                    all of it, by size of the training sets
"""

from prompt_tuning.data import glue_benchmark as benchmark
from prompt_tuning.data import variants

for _version in benchmark.VERSIONS:
  for _config in benchmark.CLASSIFICATION:
    variants.add(f"glue_{_config}_{_version}", benchmark.classification(_config, _version))
  variants.add(f"glue_stsb_{_version}", benchmark.stsb(_version))
  variants.add_mixture(
    f"glue_mnli_and_dev_{_version}",
    {f"glue_{config}_{_version}": 1.0 for config in benchmark.MNLI_AND_DEV},
  )
  variants.add_mixture(
    f"glue_{_version}",
    {f"glue_{config}_{_version}": size for config, size in benchmark.RATES.items()},
    tail="_proportional",
  )
