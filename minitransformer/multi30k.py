"""Multi30k: image captions in English, German and French.

Elliott et al., "Multi30K: Multilingual English-German Image Descriptions"
(2016). The small benchmark with published scores. We don't ship it: its terms
allow research and teaching, not passing it on.
"""

import gzip
import logging
from collections.abc import Sequence
from pathlib import Path

from minitransformer.downloads import find_file
from minitransformer.errors import UserError
from minitransformer.files import cache_dir
from minitransformer.pairs import Corpus, Pair
from minitransformer.text import normalize

URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
)
STEMS = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
SHA256 = {
    "train.de.gz": (
        "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"
    ),
    "train.en.gz": (
        "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"
    ),
    "train.fr.gz": (
        "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c"
    ),
    "val.de.gz": (
        "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"
    ),
    "val.en.gz": (
        "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"
    ),
    "val.fr.gz": (
        "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9"
    ),
    "test_2016_flickr.de.gz": (
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"
    ),
    "test_2016_flickr.en.gz": (
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"
    ),
    "test_2016_flickr.fr.gz": (
        "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90"
    ),
}
LICENCE = "non-commercial research and education; not to be passed on"
CREDITS = (
    "Multi30k by D. Elliott, S. Frank, K. Sima'an and L. Specia (2016);"
    " French by Elliott et al. (2017). Made from Flickr30k by P. Young et al."
    " (2014), whose terms it shares. Unchanged but for white space."
)


def load_multi30k(
    source_language: str, target_language: str, data_dir: Path | None = None
) -> Corpus:
    """Read the captions in two languages; fetch what is not here yet.

    The test split is the Flickr test set of 2016.

    Raises:
        UserError: If a file can't be fetched, or is not the one meant.
    """
    splits: dict[str, Sequence[Pair]] = {}
    for split, stem in STEMS.items():
        sides = [
            _read(f"{stem}.{language}.gz", data_dir)
            for language in (source_language, target_language)
        ]
        splits[split] = [Pair(*texts) for texts in zip(*sides, strict=True)]
    return Corpus(
        f"multi30k-{source_language}-{target_language}",
        source_language,
        target_language,
        splits,
        LICENCE,
        CREDITS,
    )


def _read(name: str, data_dir: Path | None) -> list[str]:
    path = find_file(f"multi30k/{name}", SHA256[name], data_dir)
    text = gzip.decompress((path or _fetch(name)).read_bytes()).decode()
    return [normalize(line) for line in text.rstrip("\n").split("\n")]


def _fetch(name: str) -> Path:
    """Download one file into the cache."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it tells of each file
    folder = cache_dir() / "multi30k"
    try:
        return Path(
            pooch.retrieve(
                URL + name,
                known_hash=f"sha256:{SHA256[name]}",
                fname=name,
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=30),
            )
        )
    except ValueError as error:  # pooch has removed the file
        raise UserError(
            f"Multi30k's {name} came down damaged or changed: try again"
            " later, or set MINITRANSFORMER_DATA to a folder that has"
            f" multi30k/{name}."
        ) from error
    except OSError as error:  # the network, or the disk
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"Multi30k's {name} can't be downloaded to {folder} ({reason}):"
            " connect to the internet, or set MINITRANSFORMER_DATA to a"
            f" folder that has multi30k/{name}."
        ) from error
