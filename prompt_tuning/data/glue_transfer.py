"""From QQP to MRPC and back without training (Lester et al. 2021, section 5).

glue_mrpc_from_qqp_v002            MRPC, answered in the words of QQP
glue_mrpc_from_qqp_zeroshot_v002   QQP to train on, and that
"""

import dataclasses
import functools

from prompt_tuning.data import glue_benchmark, postprocessors, variants

VERSION = "v002"
SAME = {"qqp": "duplicate", "mrpc": "equivalent"}  # the word for "they say the same"
TRANSFERS = (("qqp", "mrpc"), ("mrpc", "qqp"))  # (trained on, evaluated on)


def transferred(source: str, target: str) -> variants.Description:
  """The validation split of `target`, for a model that answers as in `source`."""
  task = glue_benchmark.classification(target, VERSION)
  theirs, ours = SAME[source], SAME[target]
  assert task.labels and task.postprocess
  return dataclasses.replace(
    task,
    source=variants.tfds(
      f"glue/{target}:{glue_benchmark.VERSIONS[VERSION]}", ("validation",)
    ),
    postprocess=functools.partial(
      postprocessors.replacing,
      replacements={theirs: ours},
      postprocess=task.postprocess,
    ),
    labels=tuple(label.replace(ours, theirs) for label in task.labels),
  )


for _source, _target in TRANSFERS:
  _name = f"glue_{_target}_from_{_source}_{VERSION}"
  variants.add(f"glue_{_source}_{VERSION}", glue_benchmark.classification(_source, VERSION))
  variants.add(_name, transferred(_source, _target))
  variants.add_mixture(
    f"glue_{_target}_from_{_source}_zeroshot_{VERSION}",
    {f"glue_{_source}_{VERSION}": 1.0, _name: 1.0},
  )
