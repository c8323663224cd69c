"""Logical axes and the mesh axes they are split over: T5X's rules (contract, section 5.1).

Every array names its axes ("embed", "mlp", ...). Rules say, in order of priority, over
which axis of the mesh a logical axis may be split:

  kernel (embed, mlp)    1-D parameters      (-, model)
                         2-D parameters      (data, model)    a part on every device
"""

from collections.abc import Sequence

from jax.sharding import PartitionSpec

from prompt_tuning import checks

MeshAxis = str | tuple[str, ...] | None
Rules = tuple[tuple[str, MeshAxis], ...]

_WHOLE = (
  "relpos_buckets",
  "abspos_buckets",
  "length",
  "layers",
  "stack",
  "mlp_activations",
)
_SPLIT_EMBED: dict[tuple[int, int], tuple[MeshAxis, ...]] = {
  (1, 1): (None,),
  (2, 1): ("model",),
  (1, 2): ("data",),
  (2, 2): ("model", "data"),
}


def standard_logical_axis_rules(
  activation_partitioning_dims: int = 1,
  parameter_partitioning_dims: int = 1,
  additional_rules: Sequence[Sequence] = (),
) -> Rules:
  """T5X's four sets of rules.

  Args:
    activation_partitioning_dims: 1 splits activations over `data`, 2 also their `embed`
      over `model`.
    parameter_partitioning_dims: 1 splits weights over `model`, 2 also over `data`, so that
      every device holds a part of each (fully sharded data parallelism).
    additional_rules: Pairs (logical axis, mesh axis or None) with least priority.

  Raises:
    InputError: Another number of dimensions, or a rule that is no pair.
  """
  found = []
  for macro, dims in (
    ("ACTIVATION_PARTITIONING_DIMS", activation_partitioning_dims),
    ("PARAMETER_PARTITIONING_DIMS", parameter_partitioning_dims),
  ):
    if dims not in (1, 2):
      raise checks.InputError(f"{macro} is {dims!r}, expected 1 or 2; choose one")
    found.append(dims)
  embed = _SPLIT_EMBED[found[0], found[1]]
  rules: list[tuple[str, MeshAxis]] = [("batch", "data"), ("vocab", "model")]
  rules += [(name, "model") for name in ("mlp", "heads", "joined_kv")]
  rules += [("kv", None), *(("embed", axis) for axis in embed)]
  rules += [(name, None) for name in _WHOLE]
  return (*rules, *map(_pair, additional_rules))


def checked(rules: Sequence[Sequence], mesh_axes: Sequence[str]) -> Rules:
  """The rules of a config.

  Raises:
    InputError: A rule is no pair, or names an axis that the mesh does not have.
  """
  found = tuple(map(_pair, rules))
  for name, axis in found:
    if unknown := _parts(axis).difference(mesh_axes):
      raise checks.InputError(
        f"the axis rule {(name, axis)!r} splits over {min(unknown)!r}, expected "
        f"{checks.one_of([*mesh_axes, None])}; correct AXIS_RULES"
      )
  return found


def _pair(rule: Sequence) -> tuple[str, MeshAxis]:
  if isinstance(rule, str) or len(rule) != 2 or not isinstance(rule[0], str):
    raise checks.InputError(
      f"the axis rule {rule!r} is no pair, expected (logical axis, mesh axis or None), "
      "e.g. ('prompt', None); correct AXIS_RULES"
    )
  return rule[0], tuple(rule[1]) if isinstance(rule[1], list) else rule[1]


def spec(axes: Sequence[str | None], rules: Rules) -> PartitionSpec:
  """How an array with these logical axes is split.

  The first rule wins whose logical axis is not yet assigned and whose mesh axes are not
  yet used by this array; axes without a rule stay whole.
  """
  found: dict[str, MeshAxis] = {}
  used: set[str] = set()
  for name, mesh_axis in rules:
    parts = _parts(mesh_axis)
    if name in axes and name not in found and not used & parts:
      found[name] = mesh_axis
      used |= parts
  return PartitionSpec(*(found.get(name) if name else None for name in axes))


def _parts(axis: MeshAxis) -> set[str]:
  if axis is None:
    return set()
  return {axis} if isinstance(axis, str) else set(axis)
