"""Records of SuperGLUE and DPR, as TFDS `super_glue` has them."""

from typing import Any

from glue_records import rows, split
from tfds_records import Records

_PAIR = "sentence1 sentence2"
_SCHOOL = (
  "<b>Sent 1: </b>Anna planted beans in May.<br>"
  "<b>Sent 2: </b>They were ripe in August.<br>"
)


def _multirc(*values: tuple[int, int, str, str, int]) -> list[dict[str, Any]]:
  return [
    {
      "paragraph": _SCHOOL,
      "question": question,
      "answer": answer,
      "label": label,
      "idx": {"paragraph": 7, "question": number, "answer": i},
    }
    for number, i, question, answer, label in values
  ]


def _record(
  passage: int, query: int, text: str, asked: str, entities: list[str], right: list[str]
) -> dict[str, Any]:
  idx = {"passage": passage, "query": query}
  return {
    "passage": text,
    "query": asked,
    "entities": entities,
    "answers": right,
    "idx": idx,
  }


_FERRY = (
  "A ferry ran aground off Crete on Monday.\n@highlight\nNikos Pappas, the captain, "
  'said: "Nobody was hurt"\n@highlight\nThe ship was bound for Athens'
  "\n@highlight\nDivers are on their way"
)
_FERRY_NAMES = ["Crete", "Nikos Pappas", "Athens"]
_PONY = (
  "The boy continued to whip the pony , and eventually the pony threw him over. John "
  'laughed out quite loud. "Good for him," he said. '
)
_PEBBLE = (
  "When they had eventually calmed down a bit , and had gotten home, Mr. Farley put the "
  "magic pebble in an iron safe . Some day they might want to use it , but really for "
  "now, what more could they wish for?"
)
_LOAN = "Mitchell asked Tom if he could lend some money."
_WSC = "text span1_index span1_text span2_index span2_text"
_WIC = "sentence1 sentence2 word start1 end1 start2 end2"

SUPER_GLUE: dict[str, Records] = {
  "boolq": split(
    "passage question",
    [
      ("Tea -- Tea is made from leaves.", "is tea made from leaves", 1),
      ("Whale -- Whales are mammals.", "is a whale a fish", 0),
    ],
    [("Oslo -- Oslo is the capital of Norway.", "is oslo in sweden", 0)],
    [("Ice -- Ice is frozen water.", "does ice float", -1)],
  ),
  "cb": split(
    "premise hypothesis",
    [
      ("B: I think the soup is cold.", "the soup is cold", 0),
      ("A: I doubt that it works.", "it works", 1),
      ("B: Did he say that they lost?", "they lost", 2),
    ],
    [("Jean knew the road was shut.", "the road was shut", 0)],
    [("If only he had called.", "he called", -1)],
  ),
  "copa": split(
    "premise choice1 choice2 question",
    [
      ("I shivered.", "It froze.", "I ate.", "cause", 0),
      ("It fell.", "It sang.", "It broke.", "effect", 1),
    ],
    [("It went dark.", "I slept.", "It burnt out.", "cause", 1)],
    [("It rained.", "I got wet.", "I got rich.", "effect", -1)],
  ),
  "multirc": {
    "train": _multirc((3, 0, "What did Anna plant?", "Beans", 1)),
    "validation": _multirc(
      (0, 0, "Who planted the beans?", "Anna", 1),
      (0, 1, "Who planted the beans?", "August", 0),
      (1, 2, "When were they ripe?", "In May", 0),
      (1, 3, "When were they ripe?", "In August", 1),
    ),
    "test": _multirc((2, 0, "Were there peas?", "No", -1)),
  },
  "record": {
    "train": [
      _record(
        4,
        9,
        _FERRY,
        "The boat had left @placeholder on Sunday.",
        _FERRY_NAMES,
        ["Athens", "Crete"],
      )
    ],
    "validation": [
      _record(
        0,
        0,
        "Lena Berg won in Oslo.",
        "@placeholder beat them all.",
        ["Lena Berg", "Oslo", "Berg"],
        ["Lena Berg", "Berg"],
      ),
      _record(
        0,
        1,
        "Lena Berg won in Oslo.",
        "It snowed in @placeholder.",
        ["Lena Berg", "Oslo"],
        ["Oslo"],
      ),
    ],
    "test": [
      _record(1, 2, "Ann met Bo.", "@placeholder smiled.", ["Ann", "Bo"], []),
    ],
  },
  "rte": split(
    "premise hypothesis",
    [
      ("The firm of Oslo sells boats.", "The firm is in Oslo.", 0),
      ("The firm sells boats.", "The firm is rich.", 1),
    ],
    [("Ann met Bo in Rome.", "Bo was in Rome.", 0)],
    [("The court agreed.", "The court met.", -1)],
  ),
  "wic": split(
    _WIC,
    [
      ("He sat on the bank.", "The bank lends money.", "bank", 14, 18, 4, 8, 0),
      ("She ran home.", "They ran a mile.", "run", 4, 7, 5, 8, 1),
    ],
    [("A cold day.", "Cold soup.", "cold", 2, 6, 0, 4, 1)],
    [("Ring the bell.", "A gold ring.", "ring", 0, 4, 7, 11, -1)],
  ),
  "wsc.fixed": split(
    _WSC,
    [
      (_LOAN, 2, "Tom", 4, "he", 1),
      (_LOAN, 0, "Mitchell", 4, "he", 0),
      (_PONY, 15, "John", 22, "him", 1),
      (_PEBBLE, 16, "the magic pebble", 30, "it", 1),
    ],
    [
      ("The dog chased the cat until it hid.", 3, "the cat", 6, "it", 1),
      ("The dog chased the cat until it hid.", 0, "The dog", 6, "it", 0),
    ],
    [("Jo thanked Kim as she had helped.", 2, "Kim", 4, "she", -1)],
  ),
  "axb": {"test": rows(_PAIR, ("The cat sat on the mat.", "The cat did not sit.", -1))},
  "axg": {
    "test": rows(
      "premise hypothesis", ("The nurse told Ed that he was well.", "Ed was well.", -1)
    )
  },
}

DPR: Records = {
  part: [
    dict(zip(("sentence", "pronoun", "candidates", "label"), row, strict=True))
    for row in found
  ]
  for part, found in {
    "train": [("Bees left the hive as they were hungry.", "they", ["Bees", "hive"], 0)],
    "test": [
      ("Ann saw Eve, and she waved, so she stopped.", "she", ["Ann", "Eve"], 1),
      ("The lid would not fit the jar, so we bent it.", "it", ["lid", "jar"], 0),
    ],
  }.items()
}
