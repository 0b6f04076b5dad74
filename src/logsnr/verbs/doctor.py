"""`logsnr doctor`."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from logsnr.config import MachineConfig
from logsnr.report.doctor import checks, versions
from logsnr.run.machine import CALLS, PARAMETERS, machine
from logsnr.verbs.console import Console
from logsnr.verbs.layers import machine_options


def run(args: Namespace) -> dict[str, Any]:
    """Versions, machine, and every check with its error and bar; status 1 if one fails."""
    console = Console(args)
    wanted = MachineConfig(**machine_options(args))
    small, here = machine(wanted), machine(wanted, parameters=PARAMETERS, calls=CALLS)
    result: dict[str, Any] = {**versions(), **here.record(), "precision_of_small_networks": small.precision}
    for key, value in result.items():
        console.say(f"{key:>27}  {value}")
    results = []
    for check in checks(here.device):
        results.append({"check": check.name, "error": check.error, "bar": check.bar, "ok": check.ok})
        console.say(f"{'ok' if check.ok else 'FAILED':>27}  {check.name}: error {check.error:.1e}, bar {check.bar:.0e}")
    return {**result, "checks": results, "status": 0 if all(r["ok"] for r in results) else 1}
