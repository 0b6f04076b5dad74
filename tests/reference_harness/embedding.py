"""Sinusoidal embeddings of the label."""

from __future__ import annotations

from logsnr.nets import sinusoidal

from .reference import Reference


def timestep_embedding(reference: Reference) -> None:
    """Improved DDPM's nn.timestep_embedding: `dim<d>` with period 10000, `dim<d>_p<period>`; 1e-4 absolute.

    The angle is a float32 of up to 1000, so that its sine is only known to 1e-4; for small labels it is to 1e-6.
    """
    label = reference.read("t", None)
    near = label.abs() <= 4
    for match in reference.keys(r"dim(\d+)(?:_p(\d+))?"):
        value = sinusoidal(label, int(match[1]), max_period=float(match[2] or 10_000)).double()
        reference.check(match[0], value, 0.0, floor=1e-4)
        recorded = reference.recorded(match[0])
        reference.fact(f"{match[0]} at small t", value[near], recorded[near], 0.0, floor=1e-6)
