"""What the documents say is run: every code block, every command, every name in the table of equations."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from logsnr.gallery.catalogue import exhibits

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# every equation that the library is about, by its own identifiers
FAMILIES = {
    "F": range(1, 8),
    "D": range(1, 12),
    "I": range(1, 7),
    "M": range(1, 8),
    "N": range(8),
    "S": range(1, 12),
    "V": range(1, 15),
}
TO_COME = {"S10", "V14"}
DEMONSTRATIONS = {f"G{number}" for number in range(1, 26)}


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def table(document: str, columns: int) -> list[list[str]]:
    """Cells of every row of the tables with so many columns, heads left out."""
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "docs" / document).read_text().splitlines()]
    heads = {i - 1 for i, row in enumerate(rows) if set(row[0]) == {"-", "|"}}
    return [row for i, row in enumerate(rows) if len(row) == columns and i not in heads]


def named_tests(cell: str) -> list[tuple[str, str]]:
    """Files and functions of `tests/…::test_name`; each is there."""
    named = re.findall(r"`([\w./]+)::(\w+)`", cell)
    for file, function in named:
        assert f"def {function}(" in (ROOT / file).read_text(), f"{file}::{function}"
    return named


def run(script: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_works_line_by_line(tmp_path: Path) -> None:
    """Its commands, shortened to a few steps, then its two Python blocks in the directory they leave behind."""
    commands = "\n".join(blocks(ROOT / "README.md", "sh"))
    shorter = {
        "--minutes 2": "--steps 4 --network tiny",
        "--steps 1000": "--steps 20",
        "--n 64": "--n 6",
        "bench training": "bench loading --turns 1",
        "reconstruct --index 0:8": "reconstruct --index 0:8 --steps 20",
        "--index 0:64 --repeats 2": "--index 0:8 --estimators vlb,vlb_inf",
        "--examples 64": "--examples 8",
        "gallery G1 ": "gallery G1 --quick ",
        "gallery --analytic": "gallery --list",
        "gallery --all": "gallery --list",
    }
    for long, short in shorter.items():
        assert long in commands
        commands = commands.replace(long, short)
    lines = [shlex.split(line, comments=True)[1:] for line in commands.splitlines() if line.startswith("logsnr ")]
    assert {words[0] for words in lines} == {
        "train", "sample", "edit", "audit", "fit-schedule", "plan-steps", "evaluate", "explain", "inspect", "doctor",
        "bench", "gallery",
    }  # fmt: skip
    script = f"from logsnr.cli import main\nfor words in {lines!r}:\n    assert main(words) == 0, words"
    run(script, tmp_path)
    assert (tmp_path / "runs" / "digits" / "samples" / "grid.png").is_file()
    assert (tmp_path / "runs" / "ddpm.png").is_file()
    use, own_loop = blocks(ROOT / "README.md", "python")
    assert run(use, tmp_path).startswith("(16, 8, 8) uint8")
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d+", run(own_loop, tmp_path))]
    mean, std = numbers[:2], numbers[2:]
    assert all(abs(m - 1.0) < 0.15 for m in mean), "its samples have the mean of its data"
    assert all(0.2 < s < 0.45 for s in std), "and its spread"


def test_extending_is_true(tmp_path: Path) -> None:
    """The newcomer's sampler, schedule, target, weight, network, metric, features, demonstration, through the verbs."""
    *others, demonstration = blocks(ROOT / "docs" / "extending.md", "python")
    (tmp_path / "g26_ve_keeps_the_mean.py").write_text(demonstration)
    use = """
import torch
from logsnr import Oracle, DDIM, Path, prior, seeded, simulate, vp
from logsnr.cli import main
from logsnr.data.toys import TOYS
path = Path(Arctan(), vp)
noise = seeded(0, torch.arange(4), torch.empty(4, 2, dtype=torch.float64))
ours, ddim = (list(simulate(s, Oracle(TOYS['ring']()), prior(path, noise), path.grid(9), noise=noise))[-1].x
              for s in (EulerInSigma(), DDIM()))
assert torch.allclose(ours, ddim, atol=1e-12), 'DDIM is this method'
words = ['train', 'ddpm', '--data', 'toy:ring', '--out', 'run', '--steps', '3', '--network', 'linear', '--quiet',
         '--set', 'schedule={name: arctan}', '--set', 'target=half_way', '--set', 'objective.weight=capped',
         '--set', 'label=gamma', '--set', 'sample.sampler={name: euler_in_sigma}', '--set', 'sample.steps=5']
assert main(words) == 0
assert main(['sample', 'run', '--n', '4', '--quiet']) == 0
assert main(['evaluate', 'run', '--n', '12', '--metrics', 'median_gap', '--features', 'squares', '--quiet']) == 0
from logsnr import gallery
from logsnr.gallery import catalogue
gallery.__path__.append('.')
catalogue.NAMES['G26'] = 'g26_ve_keeps_the_mean'
assert main(['gallery', 'G26', '--quick', '--out', 'gallery', '--quiet']) == 0
"""
    run("\n".join([*others, use]), tmp_path)


def test_equations_resolve() -> None:
    rows = table("equations.md", 5)
    assert len(rows) > 80
    for row in rows:
        functions = re.findall(r"`([\w.]+)`", row[3])
        assert functions, row
        assert named_tests(row[4]), row
        for name in functions:
            module, _, attribute = name.rpartition(".")
            while True:
                try:
                    found = import_module(f"logsnr.{module}")
                    break
                except ModuleNotFoundError:
                    module, _, left = module.rpartition(".")
                    attribute = f"{left}.{attribute}"
            for part in attribute.split("."):
                found = getattr(found, part)


def test_every_equation_has_a_row_or_is_still_to_come() -> None:
    text = (ROOT / "docs" / "equations.md").read_text()
    rows = {re.sub(r"(\d)[ab]$", r"\1", row[0]) for row in table("equations.md", 5)}
    wanted = {f"{letter}{number}" for letter, numbers in FAMILIES.items() for number in numbers}
    assert wanted - rows == TO_COME
    (still,) = re.findall(r"^Still to come: (.*)$", text, re.MULTILINE)
    assert set(re.findall(r"[A-Z]\d+", still)) >= TO_COME


def test_the_gallery_shows_the_equations_that_the_table_says() -> None:
    """Of every demonstration that is there: docs/equations.md and its own record name the same equations."""
    shown = {row[0]: set(row[1].split(", ")) for row in table("equations.md", 2)}
    assert set().union(*shown.values()) == DEMONSTRATIONS
    for each in exhibits():
        told = {identifier for identifier, names in shown.items() if each.name in names}
        assert told == set(each.equations), f"{each.name} in docs/equations.md"


def test_every_erratum_is_shown() -> None:
    """By a demonstration, or by a test that is there."""
    rows = table("errata.md", 4)
    assert len(rows) > 40
    for row in rows:
        demonstrations = set(re.findall(r"\bG\d+", row[3]))
        assert named_tests(row[3]) or demonstrations, row
        assert demonstrations <= DEMONSTRATIONS, row


def test_one_model_six_papers_runs(tmp_path: Path) -> None:
    """The tutorial on a run of a few steps: what it asserts holds for any weights."""
    document = ROOT / "docs" / "one-model-six-papers.md"
    (command,) = (shlex.split(line) for line in "\n".join(blocks(document, "sh")).splitlines())
    short = [*command[1:-2], "--steps", "4", "--network", "tiny", "--quiet"]
    script = f"from logsnr.cli import main\nassert main({short!r}) == 0"
    run("\n".join([script, *blocks(document, "python")]), tmp_path)


def test_likelihood_runs(tmp_path: Path) -> None:
    """Its two Python blocks, on a run of a few steps."""
    train = ["train", "ddpm", "--out", "runs/digits", "--steps", "4", "--network", "tiny", "--quiet"]
    script = f"from logsnr.cli import main\nassert main({train!r}) == 0"
    said = run("\n".join([script, *blocks(ROOT / "docs" / "likelihood.md", "python")]), tmp_path)
    assert "0.1 bits/dim: " in said


def test_three_algorithms_draw_from_the_data(tmp_path: Path) -> None:
    """The blocks of families.md: each sampler finds both modes and the weight of each."""
    said = run("\n".join(blocks(ROOT / "docs" / "families.md", "python")), tmp_path)
    found = re.findall(r"mean ([+-][\d.]+) of \+0.60, above 0 ([\d.]+) of 0.80", said)
    assert len(found) == 3
    for mean, share in found:
        assert abs(float(mean) - 0.6) < 0.08, said
        assert abs(float(share) - 0.8) < 0.04, said


def test_conditioning_runs(tmp_path: Path) -> None:
    """Its commands, on a run of a few steps, then its Python block."""
    document = ROOT / "docs" / "conditioning.md"
    commands = "\n".join(blocks(document, "sh")).replace("--minutes 2", "--steps 4 --network tiny --quiet")
    few = ["--steps", "3"]
    lines = [[*shlex.split(line)[1:], *(few if " sample " in line else [])] for line in commands.splitlines()]
    script = f"from logsnr.cli import main\nfor words in {lines!r}:\n    assert main(words) == 0, words"
    said = run("\n".join([script, *blocks(document, "python")]), tmp_path)
    assert "(8, 8, 8) ('0', '1'" in said
    assert (tmp_path / "runs" / "in-turn" / "samples.npz").is_file()


def test_evaluate_runs(tmp_path: Path) -> None:
    """Its commands, on a run of a few steps, then its Python block."""
    document = ROOT / "docs" / "evaluate.md"
    train = ["train", "ddpm", "--out", "runs/digits", "--steps", "4", "--network", "tiny", "--quiet"]
    commands = "\n".join(blocks(document, "sh")).replace("--n 500 --steps 20", "--n 60 --steps 3")
    lines = [train, *([*shlex.split(line)[1:], "--quiet"] for line in commands.splitlines())]
    assert len(lines) == 6
    script = f"from logsnr.cli import main\nfor words in {lines!r}:\n    assert main(words) == 0, words"
    said = run("\n".join([script, *blocks(document, "python")]), tmp_path)
    assert "60 samples against 1300 of split 'train', features classifier" in said
    assert (tmp_path / "runs" / "digits.safetensors").is_file()
    assert (tmp_path / "runs" / "digits" / "evaluation" / "metrics.json").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
        assert (document.parent / target).exists(), f"{document.name} → {target}"


def test_every_registry_of_extending_exists() -> None:
    for module, name in re.findall(r"\| `(\w+(?:\.\w+)?)\.([A-Z]+)` \|", (ROOT / "docs" / "extending.md").read_text()):
        assert getattr(import_module(f"logsnr.{module}"), name)
