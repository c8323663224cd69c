"""The list of the original's names, as rules with their counts; none is missing here."""

import itertools

import pytest
import seqio

from prompt_tuning.data import tasks


def product(*parts):
  """All texts made of one word of each part; "a|b" is a or b."""
  return {"".join(words) for words in itertools.product(*(p.split("|") for p in parts))}


PX, FORM, EX = "|mt5_|byt5_", "taskless_|task_index_", "|_examples"
GLUE = "cola|sst2|mrpc|qqp|stsb|mnli|qnli|rte|wnli|mnli_matched|mnli_mismatched|ax"
SUPER_GLUE = "boolq|cb|copa|multirc|record|rte|wic|axb|axg"
TRANSFERS = "glue_mrpc_from_qqp_|glue_qqp_from_mrpc_"
ELSEWHERE = "bio_asq|drop|duo_rc|race|relation_extraction|textbook_qa"
IN_DOMAIN = "news_qa|trivia_qa|search_qa|hotpot_qa|natural_questions"
RANKED = product("glue_", "cola|sst2|mrpc|qqp|qnli|rte", "_v200") | product(
  "super_glue_", "boolq|cb|copa|rte|wic", "_v102"
)
QQP_WORDS = "not_duplicate_duplicate|0_1|unique_duplicate|not_spc_duplicate_duplicate"
IMDB = product("pr:imdb_v100_", "0_1|negative_positive", "_verbalizers")
QQP = product("pr:glue_qqp_v200_", QQP_WORDS, "_verbalizers")
RECYCLED = {"pr:glue_sst2_v200", "pr:super_glue_record_v102", *IMDB, *QQP}


def of_each(names, *parts):
  return product("|".join(sorted(names)), *parts)


TASKS = {  # section of the original -> names, how many
  "glue": (
    product(PX, "glue_", GLUE, "_v002|_v200", "_examples")
    | product(PX, FORM, "glue_", GLUE, "_v002|_v200", EX),
    360,
  ),
  "super_glue": (
    product(PX, "super_glue_", SUPER_GLUE, "_v102_examples")
    | product(PX, FORM, "super_glue_", SUPER_GLUE, "_v102", EX),
    135,
  ),
  "dpr": (product(PX, FORM, "dpr_v001_simple", EX), 12),
  "wsc": (
    product(PX, "super_glue_wsc_v102_simple_eval_examples")
    | product(PX, FORM, "super_glue_wsc_v102_simple_", "train|eval", EX),
    27,
  ),
  "transfer": (product(PX, f"|{FORM}", TRANSFERS, "v002", EX), 36),
  "qa": (
    product(PX, "squad_v010_allanswers_examples")
    | product(PX, "mrqa_", f"{ELSEWHERE}|{IN_DOMAIN}", "_v100_examples"),
    36,
  ),
  "summaries": (product(PX, "xsum_v110|cnn_dailymail_v310", "_examples"), 6),
  "c4": (product("c4_v220_bart_", "text_infilling|token_deletion"), 2),
  "perceptron": (
    of_each(RANKED, "_perceptron|_generation", "_train|_test")
    | of_each(RANKED, "_rank_classification", "_validation|_test"),
    66,
  ),
  "recycling": (
    of_each({"pr:glue_sst2_v200", *IMDB}, "_train|_test|_test_rc")
    | of_each(QQP, "_training|_test|_rc|_rc_normed")
    | product("pr:super_glue_record_v102", "_training|_test|_rc")
    | {"c4_v220_random_positive_negative_targets"},
    29,
  ),
  "spot": (
    product("spot_glue_", "cola|sst2|mrpc|qqp|stsb|qnli|rte|wnli|mnli_train", "_v200")
    | product("spot_glue_mnli_validation_", "matched|mismatched", "_v200")
    | product("spot_mrqa_", f"squad|{IN_DOMAIN}", "_v100")
    | product("spot_anli_", "r1|r2|r3", "_v010")
    | product("spot_", "doc_nli|aeslc|multi_news|samsum|newsroom", "_v100")
    | {"spot_snli_v110", "spot_billsum_v300", "spot_gigaword_v120"}
    | {"spot_cnn_dailymail_v320"},
    29,
  ),
  "t5": (  # what the package t5 registers and the original's own names build on
    product("glue_", GLUE, "_v002")
    | product("super_glue_", SUPER_GLUE, "_v102")
    | product("super_glue_wsc_v102_simple_", "train|eval")
    | {"dpr_v001_simple", "squad_v010_allanswers"}
    | product("c4_v220_", "span_corruption|prefix_lm"),
    27,
  ),
}
MIXTURES = {
  "glue": (product(PX, f"|{FORM}", "glue_mnli_and_dev_", "v002|v200", "_examples"), 18),
  "wsc": (
    product(PX, "super_glue_wsc_and_dev_v102_simple_examples")
    | product(PX, FORM, "super_glue_wsc_and_dev_v102_simple", EX),
    15,
  ),
  "proportional": (
    product("task_index_super_glue_", "|with_dpr_", "v102_examples_proportional"),
    2,
  ),
  "transfer": (product(PX, f"|{FORM}", TRANSFERS, "zeroshot_v002", EX), 36),
  "qa": (product(PX, "squad_to_", f"{ELSEWHERE}|mrqa", "_examples"), 21),
  "perceptron": (of_each(RANKED, "_perceptron|_generation"), 22),
  "recycling": (of_each(RECYCLED, "|_eval"), 16),
  "spot": ({"spot_glue_mnli_and_dev_v200"}, 1),
  "t5": (
    {"glue_mnli_and_dev_v002", "glue_v002_proportional", "super_glue_v102_proportional"},
    3,
  ),
}


@pytest.mark.parametrize("section", TASKS)
def test_no_task_of_the_original_is_missing(section):
  names, count = TASKS[section]
  assert len(names) == count
  assert not names - set(seqio.TaskRegistry.names())


@pytest.mark.parametrize("section", MIXTURES)
def test_no_mixture_of_the_original_is_missing(section):
  names, count = MIXTURES[section]
  assert len(names) == count
  assert not names - set(seqio.MixtureRegistry.names())


def test_how_many_names_the_original_has():
  own = [section for section in TASKS if section != "t5"]
  assert len(set().union(*(TASKS[section][0] for section in own))) == 738
  own = [section for section in MIXTURES if section != "t5"]
  assert len(set().union(*(MIXTURES[section][0] for section in own))) == 131
  assert tasks.spot and tasks.recycling  # imported for their names
