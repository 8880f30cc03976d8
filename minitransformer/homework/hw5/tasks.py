"""The tasks of homework 5, in order; other modules give them their tests."""

from minitransformer.homework.tasks import Task

greedy = Task("hw5.greedy", points=3)
beam = Task("hw5.beam", points=5)
sample = Task("hw5.sample", points=3)
bleu = Task("hw5.bleu", points=3)
learning_rate = Task("hw5.learning_rate", points=2)
translate = Task(
    "hw5.translate",
    points=4,
    allowed=frozenset(
        {
            "attention",
            "dropout",
            "evaluation",
            "feed_forward",
            "layers",
            "loss",
            "masks",
            "model",
            "positions",
            "processor",
            "products",
            "residual",
            "story_french",
            "story_grammar",
            "story_lexicon",
            "story_patterns",
            "story_tables",
            "training",
            "workers",
        }
    ),
)
cached = Task("hw5.cached", points=0)
