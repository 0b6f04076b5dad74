"""Distance of power spectra: do samples have the texture of the data, at every scale?

    P(r) = mean over examples, channels and frequencies f of length r of |F x(f)|²/pixels
    distance = root mean square over r of log P_samples(r) − log P_reference(r)

in nats, with r = |f| in whole cycles of the longer side and r = 0 left out (the mean, see `channel_moments`). Networks
that blur, ring or leave noise are seen here before they are seen by eye (Durall et al. 2020). Shifting or mirroring
images changes nothing; a factor c on all of them adds 2 log c.
"""

from __future__ import annotations

import numpy as np

from logsnr.metrics import bootstrap
from logsnr.metrics.comparison import Comparison, Measurement, blocks

FLOOR = 1e-12
"""Power in squared model units below which there is none: rounding to 8 bits has 5e-6."""


def radii(shape: tuple[int, ...]) -> np.ndarray:
    """Length of each frequency of `rfftn` in whole cycles of the longest side, int (*shape of the spectrum)."""
    *sides, last = shape
    frequencies = [*(np.fft.fftfreq(side) for side in sides), np.fft.rfftfreq(last)]
    grid = np.meshgrid(*frequencies, indexing="ij")
    return np.rint(np.sqrt(sum(f**2 for f in grid)) * max(shape)).astype(int)


def spectra(images: np.ndarray) -> np.ndarray:
    """P(r) of each of the images (N, C, *spatial), r = 1 …, (N, R). ValueError for vectors."""
    if images.ndim < 3:
        raise ValueError(f"examples of shape {images.shape[1:]} have no spectrum; allowed: images and sequences")
    shape = images.shape[2:]
    place = radii(shape)
    # the half of the spectrum that rfftn keeps stands for the other half too, but for its edges
    double = np.full(place.shape, 2.0)
    double[..., 0] = 1
    if shape[-1] % 2 == 0:
        double[..., -1] = 1
    bins = np.zeros((place.size, place.max() + 1))
    bins[np.arange(place.size), place.ravel()] = double.ravel()
    bins = bins[:, bins.any(0)][:, 1:]
    bins /= bins.sum(0)
    axes, found = tuple(range(2, images.ndim)), []
    for chunk in blocks(images, 4 * images[:1].size):
        power = np.abs(np.fft.rfftn(chunk, axes=axes)) ** 2 / np.prod(shape)
        found.append(power.mean(1).reshape(len(chunk), -1) @ bins)
    return np.concatenate(found)


def spectral(compared: Comparison) -> Measurement:
    """The distance, in nats of power, of the images."""
    ours, theirs = spectra(compared.samples.images), np.log(spectra(compared.real.images).mean(0) + FLOOR)

    def distance(weight: np.ndarray) -> float:
        logs = np.log(weight @ ours / len(ours) + FLOOR)
        return float(np.sqrt(((logs - theirs) ** 2).mean()))

    figure = bootstrap.figure(distance, len(ours), sets=compared.bootstrap, seed=compared.seed, low=0.0)
    facts = {
        "samples": len(ours),
        "reference_samples": len(compared.real),
        "log_power_ratio_nats": (np.log(ours.mean(0) + FLOOR) - theirs).tolist(),
    }
    return Measurement({"spectral_nats": figure}, facts)
