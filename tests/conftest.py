"""What all tests share: one thread, a seed, and a tiny model."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch reads it

import pytest
import torch

torch.set_num_threads(1)

ENGLISH = [
    "the cat sees the dog.",
    "a bird sings in the tree.",
    "the girl reads a book.",
    "we eat bread in the morning.",
    "the boy is tired.",
    "the river is too wide.",
    "my house has a red door.",
    "do you like the sea?",
]
FRENCH = [
    "le chat voit le chien.",
    "un oiseau chante dans l'arbre.",
    "la fille lit un livre.",
    "nous mangeons du pain le matin.",
    "le garçon est fatigué.",
    "la rivière est trop large.",
    "ma maison a une porte rouge.",
    "aimez-vous la mer ?",
]


@pytest.fixture(autouse=True)
def _seeded():
    """Every test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def usual_products():
    """Undo for a while what a test that trains did to the whole process."""
    from minitransformer.onednn import replace_products

    replaced = replace_products.cache_info().currsize > 0
    replace_products.cache_clear()  # torch drops what nobody holds
    yield
    replace_products.cache_clear()
    if replaced:
        replace_products()


@pytest.fixture
def make_model():
    """Build a small random model; no two sizes are equal."""

    def make(**changes):
        from minitransformer.config import TransformerConfig
        from minitransformer.model import Transformer

        sizes = {
            "source_vocab_size": 23,
            "target_vocab_size": 29,
            "d_model": 12,
            "num_heads": 3,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "d_ff": 17,
            "max_len": 31,
        }
        torch.manual_seed(1)
        return Transformer(TransformerConfig(**(sizes | changes))).eval()

    return make


@pytest.fixture(scope="session")
def sentences():
    """Give our English sentences, and their French translations."""
    return ENGLISH, FRENCH


@pytest.fixture(scope="session")
def tokenizers(sentences):
    """Train one small tokenizer for each language of our sentences."""
    from minitransformer.text import Tokenizer

    english, french = sentences
    return Tokenizer.train(english, 120), Tokenizer.train(french, 140)


@pytest.fixture(scope="session")
def translator(tokenizers):
    """Build a translator with random weights; no test may change it."""
    from minitransformer.config import TransformerConfig
    from minitransformer.model import Transformer
    from minitransformer.translator import Translator

    source, target = tokenizers
    torch.manual_seed(10)
    config = TransformerConfig(
        source_vocab_size=source.vocab_size,
        target_vocab_size=target.vocab_size,
        d_model=24,
        num_heads=3,
        num_encoder_layers=1,
        num_decoder_layers=2,
        d_ff=37,
        max_len=41,
    )
    model = Transformer(config)
    with torch.no_grad():  # so that the source decides what is written
        for layer in model.decoder:
            layer.cross_attention.w_o.weight *= 5
        model.target_embedding.weight[2] *= 1.5  # some sentences end
    facts = {"source_language": "en", "target_language": "fr"}
    return Translator(model, source, target, facts)
