"""The commands, and that bad input ends in one line and leaves no trace."""

import errno
import gzip
import io
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import typer
from torch.testing import assert_close

from minitransformer import cli, evaluation
from minitransformer.corpora import files_corpus
from minitransformer.recipes import recipe_for
from minitransformer.translator import Translator

ROOT = Path(__file__).parents[1]
TINY = [
    *("--updates", 2, "--validate-every", 1, "--batch-tokens", 61),
    *("--d-model", 12, "--num-heads", 3, "--num-layers", 1, "--d-ff", 17),
    *("--max-len", 47, "--vocab-size", 150),
    *("--device", "cpu", "--precision", "fp32"),
]


@pytest.fixture(scope="module")
def model(translator, tmp_path_factory):
    """A saved model; no test may change it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    translator.save(folder)
    return folder


@pytest.fixture
def run(capsys):
    """Run a command; get its exit code, output and error lines."""

    def run(*arguments):
        code = cli.run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err.splitlines()

    return run


@pytest.fixture
def files(sentences, tmp_path):
    """Make a source and a target file of enough pairs to be split."""
    source, target = tmp_path / "a.en", tmp_path / "a.fr"
    numbers = ["two", "three", "four", "five", "six"]
    nombres = ["deux", "trois", "quatre", "cinq", "six"]
    english = [f"{n}: {s}" for n in numbers for s in sentences[0]]
    french = [f"{n} : {s}" for n in nombres for s in sentences[1]]
    source.write_text("\n".join(english) + "\n", encoding="utf-8")
    target.write_text("\n".join(french) + "\n", encoding="utf-8")
    return source, target


def stdin(monkeypatch, content):
    """Put bytes on the standard input."""
    stream = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stream)


# Help ---


@pytest.mark.parametrize(
    "command", ["corpora", "train", "translate", "evaluate", "attention"]
)
def test_help_says_what_it_does_and_shows_examples(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, [])
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    assert lines[0].startswith(f"Usage: minitransformer {command}")
    assert lines[1].endswith(".")
    assert len(lines[1]) < 75
    examples = [line for line in lines if line.startswith("minitransformer")]
    assert examples
    assert all(command in line for line in examples)
    assert all(len(line) < 80 for line in out.splitlines())
    assert "Examples:" in lines


def test_without_a_command_it_prints_help(run):
    code, out, _ = run()
    assert code == 0
    assert "translate" in out
    assert run("--version")[1].startswith("minitransformer ")


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "minitransformer", "frobnicate"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "Error: No such command 'frobnicate'.\n"


# Corpora ---


def test_corpora_are_listed(run):
    code, out, err = run("corpora")
    assert (code, err) == (0, [])
    assert "storybook" in out.split()


def test_credits_are_shown(run):
    code, out, _ = run("corpora", "--show-credits", "storybook")
    assert code == 0
    assert out.strip()


# Translate ---


def test_a_text_is_translated(run, model, translator):
    code, out, err = run("translate", "the cat sees.", "--model", model)
    assert (code, err) == (0, [])
    assert out == translator.translate("the cat sees.") + "\n"


def test_options_reach_the_search(run, model, translator):
    text = "the girl reads a book."
    for beam, penalty in [(1, 1.0), (3, 0.0)]:
        _, out, _ = run(
            *("translate", text, "--model", model),
            *("--beam", beam, "--length-penalty", penalty),
        )
        expected = translator.translate(text, beam, penalty)
        assert out == expected + "\n"


def test_a_file_is_translated_line_by_line(run, model, translator, files):
    output = files[0].with_name("out.fr")
    code, out, err = run(
        *("translate", "--model", model),
        *("--input", files[0], "--output", output),
    )
    assert (code, out, err) == (0, "", [])
    lines = files[0].read_text(encoding="utf-8").splitlines()
    expected = translator.translate(lines)
    assert output.read_text(encoding="utf-8").split("\n")[:-1] == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_pipe_is_translated(run, model, translator, monkeypatch, end, mark):
    stdin(monkeypatch, mark + b"the cat sees." + end)
    code, out, _ = run("translate", "--model", model)
    assert code == 0
    assert out == translator.translate("the cat sees.") + "\n"


def test_another_script_is_one_line_of_warning(run, model):
    code, out, err = run("translate", "我喜欢猫。", "--model", model)
    assert code == 0
    assert out.endswith("\n")
    assert len(err) == 1
    assert err[0].startswith("Warning: The text is mostly in letters")


def test_an_output_replaces_what_was_there(run, model, tmp_path):
    output = tmp_path / "out.fr"
    output.write_text("old\n" * 100)
    run("translate", "we eat.", "--model", model, "--output", output)
    assert "old" not in output.read_text(encoding="utf-8")
    assert os.listdir(tmp_path) == ["out.fr"]


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs /dev/null")
def test_a_device_is_written_to_and_not_replaced(run, model):
    run("translate", "we eat.", "--model", model, "--output", "/dev/null")
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_a_pipe_can_be_written_to_by_its_name(run, model, translator):
    reader, writer = os.pipe()
    code, _, err = run(
        *("translate", "we eat.", "--model", model),
        *("--output", f"/dev/fd/{writer}"),
    )
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        assert (code, err) == (0, [])
        assert pipe.read() == translator.translate("we eat.") + "\n"


def test_a_carriage_return_inside_a_line_ends_none(run, model, monkeypatch):
    stdin(monkeypatch, b"the cat\rsees.\nwe eat.\n")
    assert run("translate", "--model", model)[1].count("\n") == 2


def test_the_examples_of_the_help_are_translated_well(run):
    for english, french in {
        "The cat is sleeping in the garden.": "Le chat dort dans le jardin.",
        "The cat is sleeping.": "Le chat dort.",
        "She sings.": "Elle chante.",
    }.items():
        shown = run("translate", "--help")[1] + run("attention", "--help")[1]
        assert f'"{english}"' in shown
        assert run("translate", english)[1] == french + "\n"


# Train ---


def test_training_leaves_a_model_that_translates(run, files, tmp_path):
    folder = tmp_path / "new" / "model"
    code, _, err = run(
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", folder, *TINY),
    )
    assert code == 0, err
    again = Translator.load(folder)
    assert again.model.config.d_model == 12
    assert isinstance(again.translate("the cat sees."), str)
    # The same run, resumed when it is over, has nothing left to do.
    weights = (folder / "model.safetensors").read_bytes()
    code, _, err = run("train", "--resume", folder, "--device", "cpu")
    assert code == 0, err
    assert (folder / "model.safetensors").read_bytes() == weights
    # The model knows its corpus, so evaluate need not be told.
    code, out, err = run("evaluate", "--model", folder, "--n-bootstrap", 0)
    assert code == 0, err
    assert out.startswith("model: BLEU")


def test_options_reach_the_training(run, files, tmp_path, monkeypatch):
    calls, threads = [], []
    monkeypatch.setattr(
        "minitransformer.recipes.train_translator",
        lambda *arguments, **named: calls.append((arguments, named)),
    )
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    options = {
        **{"updates": 11, "batch_tokens": 67, "accumulate": 3, "warmup": 7},
        **{"learning_rate": 0.0125, "schedule": "inverse_sqrt", "seed": 9},
        **{"label_smoothing": 0.21, "validate_every": 5, "patience": 4},
        "precision": "bf16",
    }
    sizes = {
        **{"d_model": 20, "num_heads": 2, "d_ff": 23, "max_len": 53},
        "dropout": 0.17,
    }
    vocabularies = {"vocab_size": 151, "target_vocab_size": 163}
    more = {"num_layers": 6, "threads": 13, "device": "cpu"}
    given = options | sizes | vocabularies | more
    code, _, err = run(
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp_path / "model", "--shard", "--recompute"),
        *(f"--{name.replace('_', '-')}={given[name]}" for name in given),
    )
    assert (code, err, threads) == (0, [], [13])
    (((corpus, folder, recipe), where),) = calls
    assert corpus == files_corpus(*files)
    assert folder == tmp_path / "model"
    usual = recipe_for(corpus.name)
    assert not options.items() & asdict(usual.options).items()
    layers = {"num_encoder_layers": 6, "num_decoder_layers": 6}
    assert recipe == replace(
        usual,
        sizes={**usual.sizes, **sizes, **layers},
        options=replace(usual.options, **options),
        **vocabularies,
    )
    origin = {"source": str(files[0]), "target": str(files[1])}
    assert where == {
        **{"device": "cpu", "sharded": True, "recompute": True},
        "origin": origin,
    }


def test_the_seed_decides_the_weights(run, files, tmp_path):
    weights = []
    for seed, *more in [(3,), (3, "--recompute"), (5,)]:
        folder = tmp_path / str(len(weights))
        code, _, err = run(
            *("train", "--source", files[0], "--target", files[1]),
            *("--out", folder, "--seed", seed, *TINY, *more),
        )
        assert code == 0, err
        model = Translator.load(folder).model
        weights.append(model.output.weight.flatten()[:99].tolist())
    assert weights[0] == weights[1] != weights[2]


# Evaluate ---


def test_evaluation_prints_and_writes_scores(run, model, files, tmp_path):
    report, lines = tmp_path / "scores.json", tmp_path / "hypotheses.txt"
    code, out, err = run(
        *("evaluate", "--model", model, "--split", "train"),
        *("--source", files[0], "--target", files[1], "--baselines"),
        *("--n-bootstrap", 20, "--output", lines, "--json", report),
    )
    assert (code, err) == (0, [])
    names = re.findall(r"^(\w+): (\w+) \d+\.\d \[.*\]  nrefs:1", out, re.M)
    systems = ["model", "copy", "dictionary"]
    assert names == [(s, m) for s in systems for m in ("BLEU", "chrF2")]
    facts = json.loads(report.read_text(encoding="utf-8"))
    assert facts["split"] == "train"
    written = lines.read_text(encoding="utf-8").splitlines()
    assert facts["sentences"] == len(written)
    assert "left_out" not in facts
    assert [score["of"] for score in facts["scores"]] == [
        name for name, _ in names
    ]
    # The dictionary was fitted on these very pairs: it must beat the copy.
    bleu = {
        s["of"]: s["value"] for s in facts["scores"] if s["name"] == "BLEU"
    }
    assert bleu["dictionary"] > bleu["copy"]


def test_options_reach_the_evaluation(
    run, model, translator, files, tmp_path, monkeypatch
):
    calls = []
    translate_lines = Translator.translate_lines

    def spy(self, lines, **named):
        calls.append((lines, named))
        return translate_lines(self, lines, **named)

    monkeypatch.setattr(Translator, "translate_lines", spy)
    output = tmp_path / "hypotheses.txt"
    code, _, err = run(
        *("evaluate", "--model", model, "--output", output),
        *("--source", files[0], "--target", files[1], "--n-bootstrap", 0),
        *("--beam", 1, "--length-penalty", 0, "--batch-size", 3),
    )
    assert (code, err) == (0, [])
    ((lines, named),) = calls
    assert lines == [p.source for p in files_corpus(*files).splits["test"]]
    options = {
        **{"beam_size": 1, "length_penalty": 0.0, "batch_size": 3},
        "split": False,
    }
    assert named.items() >= options.items()
    expected = translate_lines(translator, lines, **options)
    assert output.read_text(encoding="utf-8").splitlines() == expected


def test_bleu_may_ignore_case(run, model, files, tmp_path):
    source, target = files
    target.write_text(source.read_text(encoding="utf-8").upper())
    for option, case in ((["--lowercase"], "lc"), ([], "mixed")):
        report = tmp_path / f"{case}.json"
        code, _, err = run(
            *("evaluate", "--model", model, "--n-bootstrap", 0, *option),
            *("--source", source, "--target", target, "--json", report),
            *("--beam", 1, "--baselines"),
        )
        assert (code, err) == (0, [])
        copied = json.loads(report.read_text(encoding="utf-8"))["scores"][2]
        assert (copied["of"], copied["name"]) == ("copy", "BLEU")
        assert f"|case:{case}|" in copied["signature"]
        assert (copied["value"] == pytest.approx(100)) == (case == "lc")


def test_what_the_model_can_not_read_is_left_out(run, model, files, tmp_path):
    with files[0].open("a") as source, files[1].open("a") as target:
        source.write("the cat " * 50 + "sees.\n")
        target.write("le chat voit.\n")
    pairs = files_corpus(*files).splits["train"]
    lost = [i for i, pair in enumerate(pairs) if "cat the" in pair.source]
    report, lines = tmp_path / "scores.json", tmp_path / "hypotheses.txt"
    code, out, err = run(
        *("evaluate", "--model", model, "--split", "train", "--baselines"),
        *("--source", files[0], "--target", files[1], "--n-bootstrap", 0),
        *("--output", lines, "--json", report),
    )
    assert (code, len(lost)) == (0, 1)
    assert err == [
        f"Warning: files, train: 1 of {len(pairs)} sentences are left out,"
        " since the model reads 41 tokens at most; the scores are over the"
        " rest."
    ]
    facts = json.loads(report.read_text(encoding="utf-8"))
    assert (facts["sentences"], facts["left_out"]) == (len(pairs) - 1, 1)
    written = lines.read_text(encoding="utf-8").split("\n")[:-1]
    assert [i for i, line in enumerate(written) if not line] == lost
    rest = [i for i in range(len(pairs)) if i not in lost]
    expected = evaluation.bleu(
        [written[i] for i in rest], [[pairs[i].target] for i in rest]
    )
    assert out.splitlines()[0] == f"model: {expected}"


def test_a_broken_pipe_costs_no_file_and_a_full_disk_no_score(
    run, model, files, tmp_path, monkeypatch
):
    class BrokenPipe(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    report = tmp_path / "scores.json"
    arguments = [
        *("evaluate", "--model", model, "--n-bootstrap", 0, "--json", report),
        *("--source", files[0], "--target", files[1]),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", BrokenPipe())
        patch.setattr(sys, "stderr", sys.stderr)  # typer puts another there
        with pytest.raises(SystemExit):
            run(*arguments)
    assert json.loads(report.read_text(encoding="utf-8"))["scores"]
    monkeypatch.setattr(os, "fsync", FullDisk(room=0))
    code, out, err = run(*arguments)
    assert (code, len(err)) == (2, 1)
    assert "scores.json can't be written (No space" in err[0]
    assert out.startswith("model: BLEU")


def test_the_storybook_scores_pronouns_and_alignment(run, model, monkeypatch):
    from minitransformer import storybook

    source = "the boy is tired because it is red."
    target = "le garçon est fatigué parce qu'il est rouge."
    where = storybook.words(source).index("it")
    there = storybook.words(target).index("il")
    pronoun = storybook.Pronoun(where, there, 1, 1, "m")
    pair = storybook.StoryPair(
        source, target, "ours", ((0, 0), (1, 1), (2, 2), (3, 3)), (pronoun,)
    )
    names = ("train", "valid", "test", "compositional")
    stories = {name: [replace(pair, pattern=name)] * 3 for name in names}
    monkeypatch.setattr(storybook, "splits", lambda: stories)
    aligned = []
    best_alignment = evaluation.best_alignment

    def spy(model, source_tokenizer, target_tokenizer, tune, test):
        aligned.append((tune, test))
        return best_alignment(
            model, source_tokenizer, target_tokenizer, tune, test
        )

    monkeypatch.setattr(evaluation, "best_alignment", spy)
    monkeypatch.setattr(cli, "ALIGNED_PAIRS", 2)
    code, out, err = run(
        *("evaluate", "--model", model, "--corpus", "storybook"),
        *("--split", "compositional", "--n-bootstrap", 0, "--baselines"),
    )
    assert (code, err) == (0, [])
    systems = ["model", "copy", "dictionary"]
    assert re.findall(r"^(\w+): pronouns", out, re.M) == systems
    assert "copy: pronouns 0.0" in out
    assert re.search(r"model: AER .*n:2\|decoder\.\d\.cross_att", out)
    assert aligned == [(stories["valid"][:2], stories["compositional"][:2])]


# Attention ---


@pytest.fixture
def drawn(monkeypatch):
    """Record the attention maps that are drawn."""
    from minitransformer import viz

    maps = []
    plot_attention = viz.plot_attention

    def spy(weights, query_tokens, key_tokens, title):
        maps.append((weights, query_tokens, key_tokens, title))
        return plot_attention(weights, query_tokens, key_tokens, title=title)

    monkeypatch.setattr(viz, "plot_attention", spy)
    return maps


@pytest.mark.parametrize(
    ("suffix", "start"),
    [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")],
)
def test_a_figure_is_saved(
    run, model, translator, drawn, tmp_path, suffix, start
):
    out = tmp_path / f"figure.{suffix}"
    code, printed, err = run(
        *("attention", "the cat sees.", "--model", model, "--out", out),
        *("--layer", 0, "--head", 1, "--translation", "le chat voit."),
    )
    assert (code, err) == (0, [])
    assert printed == "le chat voit.\n"
    assert out.read_bytes().startswith(start)
    assert os.listdir(tmp_path) == [out.name]
    ((weights, queries, keys, title),) = drawn
    found = translator.attention("the cat sees.", "le chat voit.")
    assert_close(weights, found.maps["decoder.0.cross_attention"][1])
    assert (queries, keys) == (found.target_tokens, found.source_tokens)
    assert title == "decoder.0.cross_attention, head 1"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("cross", "decoder.1.cross_attention"),
        ("encoder", "encoder.0.self_attention"),
        ("decoder", "decoder.1.self_attention"),
    ],
)
def test_each_kind_of_map_can_be_drawn(
    run, model, translator, drawn, tmp_path, kind, name
):
    out = tmp_path / "figure.png"
    code, _, err = run(
        *("attention", "we eat.", "--model", model, "--out", out),
        *("--kind", kind),
    )
    assert (code, err) == (0, [])
    assert out.exists()
    ((weights, queries, keys, title),) = drawn
    found = translator.attention("we eat.")
    source, target = found.source_tokens, found.target_tokens
    assert_close(weights, found.maps[name].mean(0))
    assert queries == (source if kind == "encoder" else target)
    assert keys == (target if kind == "decoder" else source)
    assert title == f"{name}, mean of all heads"


# Bad input ---


def write(path, content):
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    return path


def damaged(model, folder, name, change):
    """Copy a model and change the bytes of one file."""
    folder.mkdir()
    for file in model.iterdir():
        content = file.read_bytes()
        write(
            folder / file.name,
            change(content) if file.name == name else content,
        )
    return folder


# Each maps (folder with nothing in it, model, pair of files) to a command.
BAD = {
    "unknown corpus": lambda tmp, model, files: [
        *("train", "--corpus", "klingon", "--out", tmp / "out")
    ],
    "unknown credits": lambda tmp, model, files: [
        *("corpora", "--show-credits", "klingon")
    ],
    "missing source": lambda tmp, model, files: [
        *("train", "--source", tmp / "none", "--target", files[1]),
        *("--out", tmp / "out"),
    ],
    "source without target": lambda tmp, model, files: [
        *("train", "--source", files[0], "--out", tmp / "out")
    ],
    "corpus and files": lambda tmp, model, files: [
        *("train", "--corpus", "storybook", "--tsv", files[0]),
        *("--out", tmp / "out"),
    ],
    "unequal files": lambda tmp, model, files: [
        *("train", "--source", files[0], "--out", tmp / "out"),
        *("--target", write(tmp / "b", "une ligne\n")),
    ],
    "empty line": lambda tmp, model, files: [
        *("train", "--source", write(tmp / "a", "one\n\nthree\n")),
        *("--target", write(tmp / "b", "un\ndeux\ntrois\n")),
        *("--out", tmp / "out"),
    ],
    "10,000 words": lambda tmp, model, files: [
        *("train", "--source", write(tmp / "a", "word " * 10_000 + "\n")),
        *("--target", write(tmp / "b", "un\n"), "--out", tmp / "out"),
    ],
    "no UTF-8": lambda tmp, model, files: [
        *("train", "--source", write(tmp / "a", b"one\n\xff\xfe\nthree\n")),
        *("--target", write(tmp / "b", "un\ndeux\ntrois\n")),
        *("--out", tmp / "out"),
    ],
    "empty file": lambda tmp, model, files: [
        *("train", "--source", write(tmp / "a", "")),
        *("--target", write(tmp / "b", ""), "--out", tmp / "out"),
    ],
    "folder for a file": lambda tmp, model, files: [
        *("train", "--source", tmp, "--target", files[1]),
        *("--out", tmp / "out"),
    ],
    "file for a folder": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", files[0], *TINY),
    ],
    "no tab": lambda tmp, model, files: [
        *("train", "--tsv", files[0], "--out", tmp / "out")
    ],
    "no place": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1])
    ],
    "impossible width": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp / "out", *TINY, "--d-model", 13),
    ],
    "impossible rate": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp / "out", *TINY, "--learning-rate", -1),
    ],
    "impossible schedule": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp / "out", *TINY, "--schedule", "lunar"),
    ],
    "no device": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp / "out", *TINY, "--device", "abacus"),
    ],
    "nothing fits": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp / "out", *TINY, "--max-len", 2),
    ],
    "vocabulary too small": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp / "out", *TINY, "--vocab-size", 5),
    ],
    "nobody to divide with": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp / "out", *TINY, "--shard"),
    ],
    "no thread": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp / "out", *TINY, "--threads", 0),
    ],
    "a model is there": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", model, *TINY),
    ],
    "nothing to resume": lambda tmp, model, files: ["train", "--resume", tmp],
    "resume another way": lambda tmp, model, files: [
        *("train", "--resume", model, "--seed", 7)
    ],
    "unknown model": lambda tmp, model, files: [
        *("translate", "the cat", "--model", "klingon")
    ],
    "a folder without model": lambda tmp, model, files: [
        *("translate", "the cat", "--model", tmp)
    ],
    "a file for a model": lambda tmp, model, files: [
        *("translate", "the cat", "--model", files[0])
    ],
    "truncated checkpoint": lambda tmp, model, files: [
        *("translate", "the cat", "--model"),
        damaged(model, tmp / "m", "model.safetensors", lambda b: b[:-99]),
    ],
    "altered checkpoint": lambda tmp, model, files: [
        *("translate", "the cat", "--model"),
        damaged(
            *(model, tmp / "m", "model.safetensors"),
            lambda b: b[:-3] + bytes([b[-3] ^ 1]) + b[-2:],
        ),
    ],
    "empty checkpoint": lambda tmp, model, files: [
        *("translate", "the cat", "--model"),
        damaged(model, tmp / "m", "model.safetensors", lambda b: b""),
    ],
    "altered tokenizer": lambda tmp, model, files: [
        *("translate", "the cat", "--model"),
        damaged(model, tmp / "m", "source.tokenizer.json", lambda b: b + b" "),
    ],
    "another config": lambda tmp, model, files: [
        *("translate", "the cat", "--model"),
        damaged(
            *(model, tmp / "m", "config.json"),
            lambda b: b.replace(b'"d_ff": 37', b'"d_ff": 41'),
        ),
    ],
    "another format": lambda tmp, model, files: [
        *("translate", "the cat", "--model"),
        damaged(
            *(model, tmp / "m", "config.json"),
            lambda b: b.replace(b'"format": 1', b'"format": 99'),
        ),
    ],
    "empty text": lambda tmp, model, files: [
        *("translate", "", "--model", model)
    ],
    "only spaces": lambda tmp, model, files: [
        *("translate", " \t ", "--model", model)
    ],
    "5,000 words": lambda tmp, model, files: [
        *("translate", "word " * 5_000, "--model", model)
    ],
    "text and file": lambda tmp, model, files: [
        *("translate", "the cat", "--input", files[0], "--model", model)
    ],
    "missing input": lambda tmp, model, files: [
        *("translate", "--input", tmp / "none", "--model", model)
    ],
    "folder for an input": lambda tmp, model, files: [
        *("translate", "--input", tmp, "--model", model)
    ],
    "empty input": lambda tmp, model, files: [
        *("translate", "--input", write(tmp / "a", ""), "--model", model)
    ],
    "empty input line": lambda tmp, model, files: [
        *("translate", "--input", write(tmp / "a", "one\n \n")),
        *("--output", tmp / "out", "--model", model),
    ],
    "long input line": lambda tmp, model, files: [
        *("translate", "--input", write(tmp / "a", "a\n" + "word " * 10_000)),
        *("--output", tmp / "out", "--model", model),
    ],
    "input no UTF-8": lambda tmp, model, files: [
        *("translate", "--input", write(tmp / "a", b"one\n\xe9t\xe9\n")),
        *("--output", tmp / "out", "--model", model),
    ],
    "folder for an output": lambda tmp, model, files: [
        *("translate", "the cat", "--output", tmp, "--model", model)
    ],
    "no folder for an output": lambda tmp, model, files: [
        *("translate", "the cat", "--model", model),
        *("--output", files[0] / "below" / "out"),
    ],
    "long penalty": lambda tmp, model, files: [
        *("translate", "a", "--length-penalty", 1000, "--model", model)
    ],
    "no number for a penalty": lambda tmp, model, files: [
        *("evaluate", "--length-penalty", "nan", "--model", model),
        *("--source", files[0], "--target", files[1]),
    ],
    "too many threads": lambda tmp, model, files: [
        *("translate", "a", "--threads", 99_999_999_999, "--model", model)
    ],
    "too long a seed": lambda tmp, model, files: [
        *("train", "--source", files[0], "--target", files[1]),
        *("--out", tmp / "out", *TINY, "--seed", 10**20),
    ],
    "a translation of strange bytes": lambda tmp, model, files: [
        *("attention", "the cat", "--out", tmp / "out.png", "--model", model),
        *("--translation", "le chat \udcff"),
    ],
    "two files of one name": lambda tmp, model, files: [
        *("evaluate", "--model", model, "--json", tmp / "out"),
        *("--source", files[0], "--target", files[1]),
        *("--output", tmp / ".." / tmp.name / "out"),
    ],
    "a model of no corpus": lambda tmp, model, files: [
        *("evaluate", "--model", model, "--json", tmp / "out")
    ],
    "nothing short": lambda tmp, model, files: [
        *("evaluate", "--model", model, "--json", tmp / "out", "--tsv"),
        write(
            tmp / "a",
            "".join(f"{'cat ' * 99}{i}\tchat {i}\n" for i in range(20)),
        ),
    ],
    "no beam": lambda tmp, model, files: [
        *("translate", "the cat", "--beam", 0, "--model", model)
    ],
    "a beam of everything": lambda tmp, model, files: [
        *("translate", "the cat", "--beam", 10**9, "--model", model)
    ],
    "no number": lambda tmp, model, files: [
        *("translate", "the cat", "--beam", "x", "--model", model)
    ],
    "unknown option": lambda tmp, model, files: ["translate", "--colour"],
    "unknown split": lambda tmp, model, files: [
        *("evaluate", "--model", model, "--split", "secret"),
        *("--source", files[0], "--target", files[1]),
    ],
    "no corpus known": lambda tmp, model, files: [
        *("evaluate", "--model", model, "--corpus", "klingon")
    ],
    "scores to a folder": lambda tmp, model, files: [
        *("evaluate", "--model", model, "--json", tmp),
        *("--source", files[0], "--target", files[1]),
    ],
    "no figure": lambda tmp, model, files: [
        *("attention", "the cat", "--out", tmp / "out.doc", "--model", model)
    ],
    "no layer": lambda tmp, model, files: [
        *("attention", "the cat", "--out", tmp / "out.png", "--model", model),
        *("--layer", 2),
    ],
    "no head": lambda tmp, model, files: [
        *("attention", "the cat", "--out", tmp / "out.png", "--model", model),
        *("--head", -1),
    ],
    "no kind": lambda tmp, model, files: [
        *("attention", "the cat", "--out", tmp / "out.png", "--model", model),
        *("--kind", "friendly"),
    ],
    "empty translation": lambda tmp, model, files: [
        *("attention", "the cat", "--out", tmp / "out.png", "--model", model),
        *("--translation", ""),
    ],
}
# What the message must name.
NAMED = {
    "unknown corpus": "klingon",
    "unknown credits": "klingon",
    "missing source": "none",
    "unequal files": "40",
    "empty line": "line 2",
    "10,000 words": "line 1",
    "no UTF-8": "line 2",
    "impossible width": "13",
    "another format": "99",
    "5,000 words": "41",
    "long penalty": "--length-penalty 1000 must be 0 to 10",
    "no number for a penalty": "--length-penalty nan must be 0 to 10",
    "too many threads": "1024",
    "too long a seed": "4294967295",
    "a translation of strange bytes": r"'le chat \udcff' is not UTF-8",
    "two files of one name": "--output and --json",
    "a model of no corpus": "--corpus",
    "nothing short": "41 tokens",
    "empty input line": "line 2",
    "long input line": "line 2",
    "input no UTF-8": "line 2",
    "unknown split": "train",
    "no layer": "choose 0 to 1",
}


def everything_in(folder):
    """Map each file below a folder to what is in it."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_no_trace(
    run, model, files, tmp_path, case
):
    folder = tmp_path / "empty"
    folder.mkdir()
    arguments = BAD[case](folder, model, files)
    before = everything_in(tmp_path), everything_in(model)
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert len(err) == 1, err
    assert re.fullmatch(r"Error: .*[^ ]", err[0])
    assert NAMED.get(case, "") in err[0]
    assert len(err[0]) < 400
    assert (everything_in(tmp_path), everything_in(model)) == before


def test_bad_bytes_on_a_pipe(run, model, monkeypatch):
    stdin(monkeypatch, b"one\n\xff\n")
    code, _, err = run("translate", "--model", model)
    assert code == 2
    assert err == [
        "Error: The standard input, line 2, is not UTF-8: save the file as"
        " UTF-8."
    ]
    stdin(monkeypatch, b"")
    code, _, err = run("translate", "--model", model)
    assert code == 2
    assert "is empty" in err[0]


def test_a_closed_input_or_output_is_named(run, model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", None)
        code, _, err = run("translate", "--model", model)
    assert (code, len(err)) == (2, 1)
    assert "give a text or --input" in err[0]
    monkeypatch.setattr(sys, "stdout", None)
    code, _, err = run("translate", "the cat sees.", "--model", model)
    assert (code, len(err)) == (2, 1)
    assert "standard output is closed" in err[0]


def test_a_closed_error_stream_stops_nothing(run, model, files, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    code, out, _ = run("translate", "--input", files[0], "--model", model)
    assert (code, out.count("\n")) == (0, 40)


# When the machine fails ---


@pytest.fixture
def nothing_kept(monkeypatch, tmp_path):
    """Take away what was downloaded before, and the network."""

    def offline(*arguments, **named):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINITRANSFORMER_DATA", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("nothing_kept")
def test_no_network_is_one_line(run, tmp_path):
    out = tmp_path / "model"
    code, _, err = run("train", "--corpus", "multi30k-en-de", "--out", out)
    assert code == 2
    assert len(err) == 1
    assert "connect to the internet" in err[0]
    assert everything_in(tmp_path) == {}


@pytest.mark.usefixtures("nothing_kept")
def test_a_file_with_another_hash_is_refused(run, tmp_path, monkeypatch):
    folder = tmp_path / "data" / "multi30k"
    folder.mkdir(parents=True)
    write(folder / "train.en.gz", gzip.compress(b"not the captions\n"))
    monkeypatch.setenv("MINITRANSFORMER_DATA", str(tmp_path / "data"))
    out = tmp_path / "model"
    code, _, err = run("train", "--corpus", "multi30k-en-de", "--out", out)
    assert code == 2
    assert len(err) == 1
    assert "SHA-256" in err[0]
    assert not out.exists()


class FullDisk:
    """Let a number of writes reach the disk, and no more."""

    def __init__(self, room):
        self.room = room
        self.fsync = os.fsync

    def __call__(self, handle):
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= 1
        self.fsync(handle)


@pytest.mark.parametrize("command", ["translate", "evaluate", "attention"])
def test_a_full_disk_leaves_the_old_file(
    run, model, files, tmp_path, monkeypatch, command
):
    out = write(tmp_path / "out.png", b"old")
    before = everything_in(tmp_path)
    monkeypatch.setattr(os, "fsync", FullDisk(room=0))
    arguments = {
        "translate": ["the cat", "--output", out],
        "evaluate": [
            *("--source", files[0], "--target", files[1]),
            *("--split", "test", "--n-bootstrap", 0, "--output", out),
        ],
        "attention": ["the cat", "--out", out],
    }
    code, _, err = run(command, "--model", model, *arguments[command])
    assert code == 2
    assert len(err) == 1
    assert str(out) in err[0]
    assert "No space left" in err[0]
    assert everything_in(tmp_path) == before


def test_a_disk_that_fills_at_any_write_of_training(
    run, files, tmp_path, monkeypatch
):
    room, code = 0, 2
    while code == 2:
        folder = tmp_path / f"model{room}"
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", FullDisk(room))
            code, _, err = run(
                *("train", "--source", files[0], "--target", files[1]),
                *("--out", folder, *TINY),
            )
        assert not list(folder.glob(".*"))
        if code == 2:
            assert [line[:6] for line in err].count("Error:") == 1
            assert err[-1].startswith("Error: ")
            assert "No space left" in err[-1]
            if (folder / "model.safetensors").exists():
                Translator.load(folder)  # whole, though not the last
        room += 1
    assert code == 0
    assert room > 6  # two tokenizer or config files, weights and state


@pytest.mark.parametrize("command", ["translate", "train"])
def test_ctrl_c_is_130_without_a_traceback(
    run, model, files, tmp_path, monkeypatch, command
):
    def interrupt(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(Translator, "load", interrupt)
    monkeypatch.setattr("minitransformer.recipes.Trainer", interrupt)
    arguments = {
        "translate": ["the cat", "--model", model, "--output", tmp_path / "o"],
        "train": [
            *("--source", files[0], "--target", files[1]),
            *("--out", tmp_path / "m", *TINY),
        ],
    }
    code, out, err = run(command, *arguments[command])
    assert (code, out, err) == (130, "", [])
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, typer.Abort])
def test_ctrl_c_is_130_in_every_version_of_typer(run, monkeypatch, stop):
    def interrupted(**named):
        raise stop

    monkeypatch.setattr(cli, "app", interrupted)
    assert run("corpora") == (130, "", [])


TERMINATED = """
import signal
from minitransformer import cli
from minitransformer.translator import Translator

def load(*arguments, **named):
    signal.raise_signal(signal.SIGTERM)

Translator.load = load
cli.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a program at once")
def test_a_terminated_program_leaves_no_trace(tmp_path):
    arguments = ["translate", "the cat", "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")
    assert os.listdir(tmp_path) == []


def test_a_stopped_run_goes_on_as_if_never_stopped(
    run, files, tmp_path, monkeypatch
):
    from minitransformer.training import Trainer

    arguments = ["train", "--source", files[0], "--target", files[1], *TINY]
    run(*arguments, "--out", tmp_path / "whole")
    update = Trainer.update

    def interrupted(self, batches):
        if self.updates == 1:
            raise KeyboardInterrupt
        return update(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        code, _, err = run(*arguments, "--out", tmp_path / "stopped")
    assert code == 130
    assert f"train --resume {tmp_path / 'stopped'}" in err[-1]
    code, _, _ = run(
        "train", "--resume", tmp_path / "stopped", "--device", "cpu"
    )
    assert code == 0
    whole = Translator.load(tmp_path / "whole").model.state_dict()
    stopped = Translator.load(tmp_path / "stopped").model.state_dict()
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_our_own_mistakes_keep_their_traceback(run, model, monkeypatch):
    def broken(*arguments, **named):
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(Translator, "load", broken)
    with pytest.raises(ZeroDivisionError):
        run("translate", "the cat", "--model", model)
