"""Summaries of news: "summarize: TEXT".

xsum_v110             XSum (Narayan et al. 2018)
cnn_dailymail_v310    CNN / Daily Mail (Hermann et al. 2015)
"""

from prompt_tuning.data import summaries, variants

# name -> TFDS dataset, field of the text, field of the summary
TASKS = {
  "xsum_v110": ("xsum:1.1.0", "document", "summary"),
  "cnn_dailymail_v310": ("cnn_dailymail:3.1.0", "article", "highlights"),
}

for _name, _row in TASKS.items():
  variants.add(_name, summaries.described(*_row), forms=(variants.BASE,))
