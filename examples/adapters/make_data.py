#!/usr/bin/env python3
"""make_data.py FOLDER: prompts for two fine-tunes of the embedded model, in the format of kvtune.

  short.train.jsonl short.test.jsonl     a question about a text, answered in a few of its words
  record.train.jsonl record.test.jsonl   a text, and what it says as a record of fixed fields
  short.profile.jsonl record.profile.jsonl   more of what the tests are of, for kvdiff-layers --profile

Every text is put together here from sentences of our own, about buildings and things that do not
exist. Test and training share nothing but the sentences' frames: other kinds of thing, other
people, places, materials and numbers (training's are odd, test's even), so that a model cannot
know an answer from training. The same seed gives the same files on every machine.
"""

import json
import random
import sys
from pathlib import Path

SEED = 7
KINDS = {
    "train": ["lighthouse", "bridge", "library", "windmill", "observatory", "theatre", "chapel",
              "boathouse", "granary", "bakery"],
    "test": ["museum", "railway station", "water tower", "school"],
}
PLACES = {
    "train": ["Alder Bay", "Quenby", "Saltmarsh", "Torrel", "Upper Wick", "Merrin", "Stanholm",
              "Brackley Moor", "Fenwater", "Oxley", "Carrow", "Lindale"],
    "test": ["Penhallow", "Dunmere", "West Harling", "Skelby", "Ravensey", "Thornbury"],
}
NAMES = {
    "train": ["Harrow", "Gannet", "Old Mercy", "Corbel", "Silver Lane", "Northgate", "Ambrose",
              "Cutler", "Bellweather", "Rowan Hill", "Pilgrim", "Three Oaks"],
    "test": ["Kestrel", "Foundry", "Saint Odile", "Lantern Street", "Marigold", "Blackthorn"],
}
MAKERS = {
    "train": ["Thomas Aldous", "Edith Marlow", "Joseph Brand", "Clara Nesbit", "Henry Voss",
              "Ruth Pelham", "Samuel Orde", "Anna Thirlby", "Peter Kell", "Martha Quill"],
    "test": ["Walter Finch", "Agnes Doyle", "Robert Lisle", "Helen Sarratt", "Arthur Penn"],
}
MATERIALS = {
    "train": ["granite", "red brick", "oak", "sandstone", "cast iron", "flint", "limestone"],
    "test": ["slate", "marble", "yellow brick", "larch", "concrete"],
}
OWNERS = {
    "train": ["the parish council", "a trust of fishermen", "the county", "the Marlow family",
              "a society of friends", "the coastal trust", "the guild of carpenters"],
    "test": ["the town", "a company of weavers", "the university", "the Finch family"],
}
MONTHS = {
    "train": ["January", "March", "May", "July", "September", "November"],
    "test": ["February", "April", "June", "August", "October", "December"],
}
# Of each fact: sentences, questions, and the answer's form.
FACTS = {
    "built": (["The {it} was completed in {built}.", "Work on it ended in {built}.",
               "It has stood there since {built}."],
              ["When was the {it} completed?", "In which year was the {it} finished?"], "{built}"),
    "maker": (["It was designed by {maker}.", "The plans were drawn by {maker}.",
               "Its architect was {maker}."],
              ["Who designed the {it}?", "Who drew the plans of the {it}?"], "{maker}"),
    "place": (["It stands at the edge of {place}.", "You find it in {place}, near the market.",
               "The people of {place} are proud of it."],
              ["Where does the {it} stand?", "In which place is the {it}?"], "{place}"),
    "material": (["Its walls are of {material}.", "It is built of {material}.",
                  "Most of it is {material}."],
                 ["What are the walls of the {it} made of?", "What is the {it} built of?"],
                 "{material}"),
    "height": (["It is {height} metres high.", "Its roof reaches {height} metres.",
                "From the ground to the top it measures {height} metres."],
               ["How high is the {it}?", "How many metres does the {it} measure?"],
               "{height} metres"),
    "owner": (["It belongs to {owner}.", "Today its owner is {owner}.",
               "It was given to {owner} long ago."],
              ["Who owns the {it}?", "To whom does the {it} belong?"], "{owner}"),
    "month": (["Visitors are let in from {month} on.", "Its doors open in {month}.",
               "The season begins in {month}."],
              ["When do the doors of the {it} open?", "In which month does the season begin?"],
              "{month}"),
    "cost": (["The last repair cost {cost} crowns.", "Mending the roof took {cost} crowns.",
              "A new floor was laid for {cost} crowns."],
             ["How many crowns did the last repair of the {it} cost?",
              "What did the last repair cost?"], "{cost} crowns"),
}
FILLERS = ["Rain comes in by the north window.", "The stairs are steep and worn.",
           "Children are fond of it.", "A painting of it hangs in the hall.",
           "Nobody knows who planted the trees around it.", "In winter the paths are icy.",
           "There is a bench beside the door.", "Swallows nest under the eaves."]
RECORD = ["kind", "built", "maker", "place", "material", "height", "owner"]


def document(draw, split):
    """Facts and the text that says them."""
    kind = draw.choice(KINDS[split])
    odd = 1 if split == "train" else 0
    facts = {
        "kind": kind,
        "it": f"{draw.choice(NAMES[split])} {kind}",
        "built": str(2 * draw.randrange(850, 985) + odd),
        "maker": draw.choice(MAKERS[split]),
        "place": draw.choice(PLACES[split]),
        "material": draw.choice(MATERIALS[split]),
        "height": str(2 * draw.randrange(5, 48) + odd),
        "owner": draw.choice(OWNERS[split]),
        "month": draw.choice(MONTHS[split]),
        "cost": str(2 * draw.randrange(100, 4900) + odd),
    }
    order = [fact for fact in FACTS if fact != "built"]
    draw.shuffle(order)
    sentences = [draw.choice(FACTS[fact][0]) for fact in order]
    for filler in draw.sample(FILLERS, 3):
        sentences.insert(draw.randrange(1, len(sentences) + 1), filler)
    sentences.insert(0, "The {it} was completed in {built}.")
    return facts, " ".join(sentences).format(**facts) + "\n"


def short(draw, split, documents, questions):
    """Questions about one text each."""
    for _ in range(documents):
        facts, text = document(draw, split)
        for fact in draw.sample(list(FACTS), questions):
            question = draw.choice(FACTS[fact][1]).format(**facts)
            yield {"prompt": [text, f"Question: {question}\nAnswer:"],
                   "completion": " " + FACTS[fact][2].format(**facts), "group": facts["kind"]}


def record(draw, split, documents):
    """All facts of a text in one line."""
    for _ in range(documents):
        facts, text = document(draw, split)
        line = "; ".join(f"{field}={facts[field]}" for field in RECORD)
        yield {"prompt": [text, "Record:"], "completion": " " + line, "group": facts["kind"]}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (
            ("short.train", short(random.Random(SEED), "train", 240, 2)),
            ("short.test", short(random.Random(SEED + 1), "test", 48, 1)),
            ("record.train", record(random.Random(SEED + 2), "train", 360)),
            ("record.test", record(random.Random(SEED + 3), "test", 48)),
            ("short.profile", short(random.Random(SEED + 4), "test", 96, 1)),
            ("record.profile", record(random.Random(SEED + 5), "test", 96))):
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
