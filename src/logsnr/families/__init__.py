"""Families: data only. A recipe is a function that returns the words and numbers of a paper; all formulas are below.

A new family is one such function and one line here.
"""

from collections.abc import Callable
from typing import Any

from logsnr.families.ddpm import ddpm

FAMILIES: dict[str, Callable[[], dict[str, Any]]] = {"ddpm": ddpm}
