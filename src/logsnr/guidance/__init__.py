"""Guidance: conditions that wrap a model, so that every sampler and every path can be conditioned the same way."""

from logsnr.guidance.inpainting import Inpainted as Inpainted
