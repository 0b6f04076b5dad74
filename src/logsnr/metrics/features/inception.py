"""The features of the Fréchet inception distance: 2048 numbers before the logits of the network of 2015-12-05.

The file is NVIDIA's TorchScript translation of the original graph. It resizes images to 299 × 299 by itself, in the
bilinear way of the original, as published figures do; `--feature-size 299` resizes by the library's own antialiased
bicubic filter before that, which is right and not comparable with them. JSON says which.

The file is that of `--feature-file`, or the one in the cache, or it is fetched there once.
"""

from __future__ import annotations

from logsnr.metrics.features import fetch
from logsnr.metrics.features.features import Features, Wish
from logsnr.metrics.features.scripted import scripted

WEIGHTS = fetch.Remote(
    name="inception-2015-12-05.pt",
    url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)


def inception(wish: Wish) -> Features:
    """The network of the file given, cached or fetched. OSError in one line where there is none to be had."""
    features = scripted(wish, wish.file or fetch.cached(WEIGHTS), "inception")
    published = features.facts["sha256"] == WEIGHTS.sha256
    inside = "inside the file, bilinear, to 299x299" if published else "inside the file, if at all"
    facts = {**features.facts, "resize": features.facts["resize"] or inside, "published_weights": published}
    facts["as_published"] = published and wish.size is None
    return Features(features.of, facts)
