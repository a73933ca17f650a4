"""From the text of `data.source` to pairs: the one place that knows every kind of source."""

import re
from functools import partial

from semmim_mini.data.pairs import Pairs
from semmim_mini.errors import UserError

FORMS = "scenes, flickr8k:DIR, karpathy:FILE.json:IMAGES_DIR, shards:DIR, mix:2*SOURCE+1*SOURCE"
SCENES = {"train": 20_000}  # how many different scenes a split has, where `size` does not say
OTHER_SCENES = 1_000


def open_pairs(
    spec: str,
    split: str,
    *,
    resolution: int,
    seed: int = 0,
    size: int | None = None,
    max_bad_share: float = 0.01,
) -> Pairs:
    """The pairs of one split of a source.

    Args:
        spec: `scenes`, `flickr8k:DIR`, `karpathy:FILE.json:IMAGES_DIR`, `shards:DIR` (made by `semmim-mini prepare`), or several
            of these as `mix:2*SOURCE+1*SOURCE` (see data/mixture.py).
        split: train, val, test; scenes also know test_pictures (test scenes from unseen cutouts).
        resolution: px, square, of the views to come. Scenes are drawn at it. Photos are decoded at about twice that
            (shorter side), so that a crop of a quarter of the picture still has every pixel it needs.
        seed, size: of scenes only; photos are what they are.
        max_bad_share: of photos only.

    Raises:
        UserError: an unknown spec, or whatever the source has to object to.
    """
    kind, _, rest = spec.partition(":")
    if spec == "scenes":
        from semmim_mini.data.scenes import SceneDataset

        return SceneDataset(split, size=size or SCENES.get(split, OTHER_SCENES), seed=seed, resolution=resolution)
    if kind == "flickr8k" and rest:
        from semmim_mini.data.flickr8k import Flickr8kPairs

        return Flickr8kPairs(rest, split, max_bad_share, decode_size=2 * resolution)
    # The separator is the colon after .json: there may be others, in a drive letter or a folder's name.
    if kind == "karpathy" and (match := re.fullmatch(r"(.+?\.json):(.+)", rest)):
        from semmim_mini.data.karpathy import KarpathyPairs

        return KarpathyPairs(match[1], match[2], split, max_bad_share, decode_size=2 * resolution)
    if kind == "shards" and rest:
        from semmim_mini.data.shards import ShardPairs

        return ShardPairs(rest, split, max_bad_share, decode_size=2 * resolution)
    if kind == "mix" and rest:
        from semmim_mini.data.mixture import open_mixture

        options = {"resolution": resolution, "seed": seed, "size": size, "max_bad_share": max_bad_share}
        return open_mixture(rest, split, partial(open_pairs, **options), _has_split)
    raise UserError(f"data.source={spec!r} is no source of pairs; it takes one of these forms: {FORMS}")


def _has_split(spec: str, split: str) -> bool:
    """Whether a source has a split at all. Only shards may lack one: the collections of training pictures have no other."""
    from semmim_mini.data.picture_files import at_home
    from semmim_mini.data.shard_index import read_index

    kind, _, folder = spec.partition(":")
    splits = read_index(at_home(folder)) if kind == "shards" else {}
    return not splits or split in splits  # a folder without any shards is the opening's to refuse
