"""Nine small tasks in the spirit of GLUE's, made from the word lists below."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

# A group holds words that mean the same; a paraphrase takes another word of the group.
PEOPLE = (
    ("doctor", "physician"),
    ("lawyer", "attorney"),
    ("teacher", "tutor"),
    ("farmer", "grower"),
    ("sailor", "seaman"),
    ("singer", "vocalist"),
    ("writer", "author"),
    ("guard", "sentry"),
)
THINGS = (
    ("boat", "ship"),
    ("stone", "rock"),
    ("coat", "jacket"),
    ("picture", "image"),
    ("bag", "sack"),
    ("cup", "mug"),
    ("lamp", "lantern"),
    ("chair", "seat"),
)
ACTIONS = (
    ("bought", "purchased"),
    ("found", "discovered"),
    ("repaired", "fixed"),
    ("hid", "concealed"),
    ("cleaned", "washed"),
    ("broke", "smashed"),
    ("lifted", "raised"),
    ("dropped", "released"),
)
PLACES = (
    ("forest", "wood"),
    ("harbour", "port"),
    ("village", "hamlet"),
    ("valley", "dale"),
    ("garden", "yard"),
    ("castle", "fortress"),
    ("road", "street"),
    ("shop", "store"),
)
DAYS = (("monday",), ("tuesday",), ("wednesday",), ("thursday",), ("friday",), ("sunday",))

# The second genre of mnli: nouns that its training split never shows.
OTHER_PEOPLE = (
    ("robot", "machine"),
    ("pilot", "flyer"),
    ("captain", "chief"),
    ("alien", "stranger"),
)
OTHER_THINGS = (
    ("rocket", "missile"),
    ("engine", "motor"),
    ("cable", "wire"),
    ("screen", "display"),
)
OTHER_PLACES = (("orbit", "space"), ("crater", "pit"), ("base", "camp"), ("tunnel", "shaft"))

GOOD = ("brilliant", "charming", "funny", "moving", "superb", "clever", "warm", "lovely")
BAD = ("boring", "clumsy", "awful", "stale", "dreadful", "empty", "silly", "bleak")
FILM_PARTS = ("film", "plot", "story", "music", "cast", "ending", "script", "acting")
DEGREES = ("very", "quite", "really", "rather")

PLURALS = ("dogs", "cats", "birds", "horses", "girls", "boys")
SINGULARS = ("dog", "cat", "bird", "horse", "girl", "boy")
COLOURS = ("red", "green", "blue", "old", "young", "small")
PLURAL_VERBS = ("see", "follow", "like", "hear", "chase", "watch")
SINGULAR_VERBS = ("sees", "follows", "likes", "hears", "chases", "watches")

MOTIVES = ("because of a promise", "for a friend", "to win a bet", "out of boredom")
# For wnli: what one person did to the other, and whether a reason speaks of the first person.
TRAIN_SCHEMES = (
    ("thanked", (("was grateful", True), ("had helped", False))),
    ("called", (("needed advice", True), ("knew the answer", False))),
    ("envied", (("had failed", True), ("had succeeded", False))),
)
OTHER_SCHEMES = (
    ("feared", (("was timid", True), ("was cruel", False))),
    ("paid", (("owed money", True), ("did the work", False))),
    ("passed", (("ran fast", True), ("ran slowly", False))),
)

# How often a label is wrong, and how far a score may be off: people who annotate disagree, too.
LABEL_ERRORS = 0.04
SCORE_ERROR = 0.4

Texts = tuple[str, ...]
Example = tuple[Texts, float]  # the texts and their label


@dataclass(frozen=True)
class Words:
    """The groups that a fact takes its words from."""

    person: tuple = PEOPLE
    action: tuple = ACTIONS
    thing: tuple = THINGS
    place: tuple = PLACES
    day: tuple = DAYS


WORDS = Words()
OTHER_WORDS = Words(person=OTHER_PEOPLE, thing=OTHER_THINGS, place=OTHER_PLACES)
SLOTS = ("person", "action", "thing", "place", "day")


@dataclass(frozen=True)
class Fact:
    """Who did what, to which thing, where and when: one group of words each."""

    person: tuple[str, ...]
    action: tuple[str, ...]
    thing: tuple[str, ...]
    place: tuple[str, ...]
    day: tuple[str, ...]

    def event(self, random: Random) -> str:
        """Say who did what, in any words of the groups."""
        person, action, thing = map(random.choice, (self.person, self.action, self.thing))
        return f"the {person} {action} the {thing}"

    def circumstances(self, random: Random) -> str:
        """Say where and when."""
        return f"in the {random.choice(self.place)} on {random.choice(self.day)}"


def make_fact(random: Random, words: Words = WORDS) -> Fact:
    """Return a random fact."""
    return Fact(*(random.choice(getattr(words, slot)) for slot in SLOTS))


def change(random: Random, fact: Fact, slots: list[str], words: Words = WORDS) -> Fact:
    """Return the fact with other groups in these slots."""
    changes = {}
    for slot in slots:
        others = [group for group in getattr(words, slot) if group != getattr(fact, slot)]
        changes[slot] = random.choice(others)
    return replace(fact, **changes)


def full(random: Random, fact: Fact) -> str:
    """Say the whole fact."""
    return f"{fact.event(random)} {fact.circumstances(random)} ."


def turned(random: Random, fact: Fact) -> str:
    """Say the whole fact, the circumstances first."""
    return f"{fact.circumstances(random)} {fact.event(random)} ."


def draw_label(random: Random, share_of_one: float) -> int:
    """Return 1 with this probability, otherwise 0."""
    return int(random.random() < share_of_one)


def cola(random: Random, split: str) -> Example:
    """Acceptable, or with the words of a noun phrase swapped, a verb that disagrees, or no verb."""
    plural = random.random() < 0.5
    subjects, verbs = (PLURALS, PLURAL_VERBS) if plural else (SINGULARS, SINGULAR_VERBS)
    wrong_verbs = SINGULAR_VERBS if plural else PLURAL_VERBS
    subject = ["the", random.choice(COLOURS), random.choice(subjects)]
    verb, wrong_verb = random.choice(verbs), random.choice(wrong_verbs)
    tail = ["the", random.choice(COLOURS), random.choice(SINGULARS + PLURALS), "."]
    label = draw_label(random, 0.69)
    if label:
        return (" ".join([*subject, verb, *tail]),), label
    swapped = [subject[2], subject[1], subject[0]]
    broken = [[*swapped, verb, *tail], [*subject, wrong_verb, *tail], [*subject, *tail]]
    return (" ".join(random.choice(broken)),), label


def sst2(random: Random, split: str) -> Example:
    """One or two judgements of one direction, some of them said as the opposite with `not`."""
    label = draw_label(random, 0.53)
    parts = random.sample(FILM_PARTS, random.choice((1, 2)))
    return (" and ".join(judgement(random, part, label) for part in parts) + " .",), label


def judgement(random: Random, part: str, label: int) -> str:
    """Call a part of a film good (1) or bad (0)."""
    negated = random.random() < 0.2
    word = random.choice(GOOD if label != negated else BAD)
    return f"the {part} was {'not' if negated else random.choice(DEGREES)} {word}"


def mrpc(random: Random, split: str) -> Example:
    """The same fact in other words and order, or a fact that differs in one or two places."""
    label = draw_label(random, 0.68)
    fact = make_fact(random)
    second = fact if label else change(random, fact, random.sample(SLOTS, random.choice((1, 2))))
    return (full(random, fact), turned(random, second)), label


def stsb(random: Random, split: str) -> Example:
    """A point for each of five places that two facts share, 0.8 where a synonym stands in it."""
    shared = random.randrange(len(SLOTS) + 1)
    fact = make_fact(random)
    second = change(random, fact, random.sample(SLOTS, len(SLOTS) - shared))
    texts = full(random, fact), full(random, second)
    common = len(set(texts[0].split()) & set(texts[1].split()) - {"the", "in", "on", "."})
    return texts, common + 0.8 * (shared - common)


def qqp(random: Random, split: str) -> Example:
    """The same question in other words, or one that differs in one or two places."""
    label = draw_label(random, 0.37)
    fact = make_fact(random)
    slots = random.sample(SLOTS[1:], random.choice((1, 2)))
    second = fact if label else change(random, fact, slots)
    return (question(random, fact, "who"), question(random, second, "which person")), label


def question(random: Random, fact: Fact, asked: str) -> str:
    """Ask for the person of a fact."""
    deed = f"{random.choice(fact.action)} the {random.choice(fact.thing)}"
    return f"{asked} {deed} {fact.circumstances(random)} ?"


def mnli(random: Random, split: str) -> Example:
    """The hypothesis leaves out something, adds a motive, or denies the premise."""
    words = OTHER_WORDS if split.endswith("mismatched") else WORDS
    label = random.randrange(3)
    fact = make_fact(random, words)
    return (full(random, fact), hypothesis(random, fact, words, label)), label


def hypothesis(random: Random, fact: Fact, words: Words, label: int) -> str:
    """Say what is entailed (0), open (1) or contradicted (2) by the fact."""
    if label == 0:
        return f"{fact.event(random)} ."
    if label == 1:
        return f"{fact.event(random)} {random.choice(MOTIVES)} ."
    denied = [
        f"nobody {random.choice(fact.action)} the {random.choice(fact.thing)} .",
        f"it is false that {fact.event(random)} .",
        f"{change(random, fact, ['person', 'thing'], words).event(random)} .",
    ]
    return random.choice(denied)


def qnli(random: Random, split: str) -> Example:
    """The sentence answers the question where, when or why; or it is about another event."""
    label = draw_label(random, 0.5)
    fact = make_fact(random)
    second = change(random, fact, random.sample(SLOTS[:3], random.choice((1, 2, 3))))
    asked, answer = random.choice(
        (
            ("where", f"in the {random.choice(fact.place)}"),
            ("when", f"on {random.choice(fact.day)}"),
            ("why", random.choice(MOTIVES)),
        )
    )
    sentence = f"{(second if label else fact).event(random)} {answer} ."
    return (f"{asked} was it that {fact.event(random)} ?", sentence), label


def rte(random: Random, split: str) -> Example:
    """The hypothesis repeats a part of the text, or speaks of another event."""
    label = draw_label(random, 0.48)
    fact = make_fact(random)
    second = change(random, fact, random.sample(SLOTS[:3], 2)) if label else fact
    return (turned(random, fact), f"{second.event(random)} ."), label


def wnli(random: Random, split: str) -> Example:
    """Whom a pronoun means; the training split shows none of the other splits' reasons."""
    action, reasons = random.choice(TRAIN_SCHEMES if split == "train" else OTHER_SCHEMES)
    first, second = (random.choice(group) for group in random.sample(PEOPLE, 2))
    reason, means_first = random.choice(reasons)
    label = draw_label(random, 0.51 if split == "train" else 0.44)
    person = first if means_first == bool(label) else second
    text = f"the {first} {action} the {second} because he {reason} ."
    return (text, f"the {person} {reason} ."), label


@dataclass(frozen=True)
class Task:
    """A task's columns, the names of its classes (none: a score), and the rows of its splits."""

    make_example: Callable[[Random, str], Example]
    columns: Texts
    labels: Texts
    rows: dict[str, int]
    test_labels_shown: bool = False


def three_splits(train: int, validation: int, test: int) -> dict[str, int]:
    """Return the rows of the usual three splits."""
    return {"train": train, "validation": validation, "test": test}


SENTENCES = ("sentence1", "sentence2")
ENTAILMENT = ("entailment", "not_entailment")
MNLI_ROWS = {
    "train": 1000,
    "validation_matched": 200,
    "validation_mismatched": 200,
    "test_matched": 60,
    "test_mismatched": 60,
}
TASKS = {
    "cola": Task(cola, ("sentence",), ("unacceptable", "acceptable"), three_splits(1000, 200, 60)),
    "sst2": Task(sst2, ("sentence",), ("negative", "positive"), three_splits(1000, 200, 60)),
    "mrpc": Task(
        mrpc,
        SENTENCES,
        ("not_equivalent", "equivalent"),
        three_splits(1000, 200, 60),
        test_labels_shown=True,
    ),
    "stsb": Task(stsb, SENTENCES, (), three_splits(800, 200, 60)),
    "qqp": Task(
        qqp,
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        three_splits(1000, 200, 60),
    ),
    "mnli": Task(mnli, ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), MNLI_ROWS),
    "qnli": Task(qnli, ("question", "sentence"), ENTAILMENT, three_splits(1000, 200, 60)),
    "rte": Task(rte, SENTENCES, ENTAILMENT, three_splits(800, 200, 60)),
    "wnli": Task(wnli, SENTENCES, tuple(reversed(ENTAILMENT)), three_splits(400, 100, 60)),
}


def annotate(random: Random, task: Task, label: float) -> float:
    """Return the label as somebody would give it who errs now and then."""
    if not task.labels:
        error = random.uniform(-SCORE_ERROR, SCORE_ERROR)
        return round(min(5.0, max(0.0, label + error)), 1)
    if random.random() < LABEL_ERRORS:
        return random.choice([other for other in range(len(task.labels)) if other != label])
    return label


def make_examples(name: str) -> dict[str, list[Example]]:
    """Return the examples of a task's splits; none occurs twice, in one split or in two."""
    task, random, seen = TASKS[name], Random(name), set()
    splits = {split: [] for split in task.rows}
    for split, examples in splits.items():
        while len(examples) < task.rows[split]:
            texts, label = task.make_example(random, split)
            if texts not in seen:
                seen.add(texts)
                examples.append((texts, annotate(random, task, label)))
    return splits
