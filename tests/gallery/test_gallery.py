"""The demonstrations: what each must say of itself, that they use the library from outside, and that they hold."""

from __future__ import annotations

import ast
import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import logsnr
from logsnr.cli import main
from logsnr.gallery import Check, Exhibit, Setting, above, below, between, mean, near, standard_error
from logsnr.gallery.catalogue import NAMES, exhibit
from logsnr.gallery.document import markdown
from logsnr.gallery.g24_importance_sampling import slope
from logsnr.gallery.prose import cell, mathtext, prose
from logsnr.gallery.show import HOLDS, show

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "src" / "logsnr" / "gallery"
IDENTIFIERS = set(re.findall(r"^\| (\w+) \|", (ROOT / "docs" / "equations.md").read_text(), re.MULTILINE))
MOST_CODE_LINES = 24


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_claims_where_and_how(name: str) -> None:
    each = exhibit(name)
    assert each.name == name
    assert 10 < len(each.title) < 100
    assert len(each.claim) > 80, "the claim, in sentences"
    assert each.source
    assert set(each.equations) <= IDENTIFIERS, f"{set(each.equations) - IDENTIFIERS} are not in docs/equations.md"
    assert each.source_code.count("\n") <= MOST_CODE_LINES


@pytest.mark.parametrize("file", sorted(ROOM.glob("g[0-9][0-9]_*.py")), ids=lambda file: str(file.stem))
def test_they_use_the_library_from_outside(file: Path) -> None:
    """`import logsnr`, names that it lists, and the gallery's own frame; no module within a room, nothing private."""
    public = {*logsnr.__all__, *dir(logsnr)}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            assert all(module == "logsnr" or not module.startswith("logsnr") for module in modules), modules
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("logsnr"):
            names = {alias.name for alias in node.names}
            assert node.module in ("logsnr", "logsnr.gallery"), f"line {node.lineno}: {node.module}"
            assert node.module != "logsnr" or names <= public, f"line {node.lineno}: {names - public}"
        if isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
            assert not node.attr.startswith("_"), f"line {node.lineno}: {node.attr}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_at_reduced_size(name: str, tmp_path: Path) -> None:
    """Those without networks hold; the trained ones say something of too short a training, and draw it."""
    each = exhibit(name)
    finding = show(each, Setting(1, tmp_path / "models", quick=True), tmp_path)
    assert finding["verdict"] == HOLDS or each.trained, finding["checks"]
    assert json.loads((tmp_path / f"{name}.json").read_text())["checks"]
    assert (tmp_path / f"{name}-dark.png").stat().st_size > 5000


def test_a_check_holds_between_its_bars_and_nowhere_else() -> None:
    assert below("", 1.0, 1.0).holds
    assert not below("", 1.1, 1.0).holds
    assert above("", 1.0, 1.0).holds
    assert not above("", 0.9, 1.0).holds
    assert between("", 0.5, 0.0, 1.0).holds
    assert near("", 1.39, 1.0, 0.1).holds
    assert not near("", 1.41, 1.0, 0.1).holds
    assert not Check("", float("nan")).holds, "not even one without bars"
    assert [check.bar for check in (below("", 0, 0.1), above("", 0, 3), between("", 0, 1, 2))] == [
        "at most 0.1",
        "at least 3",
        "1 to 2",
    ]


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
def test_a_mean_and_its_standard_error(kind: Any) -> None:
    """Of 1, 2, 3, 6: variance 14/3 with n − 1, over n = 4."""
    values = kind([1.0, 2.0, 3.0, 6.0])
    assert mean(values) == 3
    assert standard_error(values) == pytest.approx((14 / 3 / 4) ** 0.5, rel=1e-14)


def test_a_mean_gradient_along_another() -> None:
    """Noise that is far longer than the mean, half of it shared, moves neither slope (0.65 with it) nor its error."""
    truth, rng = torch.ones(30), torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        shared, one, other = (4 * torch.randn(100, 30, generator=rng) for _ in range(3))
        found.append(slope(0.7 * truth + shared + one, truth + shared + other))
    slopes, errors = torch.tensor(found, dtype=torch.float64).T
    assert mean(slopes) == pytest.approx(0.7, abs=0.03)
    assert mean(errors) == pytest.approx(float(slopes.std()), rel=0.25)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finding as JSON, one line of a log, two pictures and a page that needs no other file."""
    assert main(["gallery", "G1", "--quick", "--seed", "5", "--out", str(tmp_path), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    (finding,) = told["findings"]
    assert finding["verdict"] == HOLDS
    assert finding["seed"] == 5
    logged = [json.loads(line) for line in (tmp_path / "findings.jsonl").read_text().splitlines()]
    assert logged == [finding] == [json.loads((tmp_path / "G1.json").read_text())]
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "1 of 1 claims hold" in page
    assert not re.search(r'(src|srcset|href)="(?!data:|#)', page)
    assert {path.name for path in tmp_path.iterdir()} == {
        "G1.json", "G1.png", "G1-dark.png", "findings.jsonl", "index.html",
    }  # fmt: skip


def test_one_that_breaks_does_not_end_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(each: Exhibit[Any], setting: Setting, out: Path) -> dict[str, Any]:
        if each.name == "G2":
            raise ValueError("no such thing")
        return show(each, setting, out)

    monkeypatch.setattr("logsnr.verbs.gallery.show", breaking)
    assert main(["gallery", "G2", "G4", "--quick", "--out", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == ["G2: no such thing"]
    assert [finding["name"] for finding in told["findings"]] == ["G4"]


def test_what_is_asked_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["gallery", "G99"], "unknown demonstration 'G99'; known: G1"),
        (["gallery", "G1", "--all"], "G1 --all; allowed: names, --all or --analytic"),
        (["gallery", "G1", "--seed", "-1"], "--seed -1; allowed: 0 to"),
    ):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 2
        assert told in capsys.readouterr().err


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)


def test_formulas_in_sentences() -> None:
    assert prose("x_{t−1} < √ᾱ_t x_0 and `beta_table`, σ²_{t|s}") == (
        "x<sub>t−1</sub> &lt; √ᾱ<sub>t</sub> x<sub>0</sub> and <code>beta_table</code>, σ²<sub>t|s</sub>"
    )
    assert cell("q(x_t|x_0) of `a_b`") == "q(x<sub>t</sub>&#124;x<sub>0</sub>) of `a_b`"
    assert mathtext("L_∞ over x_{t−1}") == "L$_{∞}$ over x$_{t−1}$"
    assert mathtext("x$_t$ of t_min") == "x$_t$ of t_min"


def test_the_document_is_what_the_findings_say() -> None:
    """`python benchmarks/gallery.py RUN …` wrote it, of every demonstration there is and with the code there is."""
    script = runpy.run_path(str(ROOT / "benchmarks" / "gallery.py"))
    found = script["recorded"]()
    assert [finding["name"] for finding in found] == list(NAMES)
    assert (ROOT / "docs" / "gallery.md").read_text() == markdown(found)
    for name in NAMES:
        assert (ROOT / "docs" / "gallery" / f"{name}.png").is_file()
        assert (ROOT / "docs" / "gallery" / f"{name}-dark.png").is_file()
