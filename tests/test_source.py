"""Rules of the house that a reader of the source can check: arrows only point down, and what is never written."""

from __future__ import annotations

import ast
import codecs
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "logsnr"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES = 300, 45

FLOORS = [  # each may import what stands above it in this list, and its own floor
    {
        "level",
        "draws",
        "loss",
        "betas",
        "scales",
        "monotone",
        "lagrange",
        "schedules",
        "techniques",
        "nets",
        "data",
        "train",
        "files",
        "pictures",
        "registry",
        "records",
    },
    {"path", "prediction"},
    {"denoiser", "oracles", "kernels", "implicit"},
    {"decoders"},
    {"terms"},
    {"dynamics", "angle", "objectives", "process"},
    {"samplers", "likelihood", "guidance"},
    {"families", "codec", "metrics", "interop"},
    {"config"},
    {"run"},
    {"bench"},
    {"verbs", "ui", "report", "gallery"},
    {"cli", "__main__", ""},
]
FLOOR = {room: height for height, floor in enumerate(FLOORS) for room in floor}
ALONE = {  # rooms that know nothing of noise levels: all they may import beside themselves
    "nets": set(),
    "data": {"draws"},
    "train": {"draws", "loss", "files"},
    "files": set(),
    "registry": set(),
    "records": set(),
    "pictures": {"data", "files"},
    "families": set(),
}


def name(file: Path) -> str:
    """Dotted name below the package; "" for the package itself."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    return module.split(".")[0]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


MODULES = {name(file): file for file in FILES}


def _package(file: Path, level: int) -> list[str]:
    """The package that `level` leading dots mean; [] for an absolute import."""
    parts = ["logsnr", *file.relative_to(PACKAGE).parts]
    return parts[: len(parts) - level] if level else []


@cache
def imports(file: Path) -> frozenset[str]:
    """Modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*_package(file, node.level), *(node.module or "").split(".")]).strip(".")
            if (base, node.names[0].name) == ("logsnr", "__version__"):
                continue
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}"[7:] in MODULES else base for alias in node.names}
    return frozenset(module.removeprefix("logsnr").removeprefix(".") for module in found if room(module) == "logsnr")


@pytest.fixture(params=FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_room_stands_on_a_floor() -> None:
    unknown = {room(module) for module in MODULES} - FLOOR.keys()
    assert not unknown, f"{unknown} stand on no floor: name one in FLOORS"


def test_imports_point_down(file: Path) -> None:
    own = room(name(file))
    # the package's own names are imported when they are used; the gallery, like any user, has no other door
    for module in imports(file) - ({""} if own == "gallery" else set()):
        assert FLOOR[room(module)] <= FLOOR[own], f"{own} imports {module}, a floor above it"


def test_rooms_without_noise_levels(file: Path) -> None:
    own = room(name(file))
    if own in ALONE:
        strangers = {module for module in imports(file) if room(module) not in ALONE[own] | {own}}
        assert not strangers, f"{own} imports {strangers}; allowed: {ALONE[own] or 'nothing else of the package'}"


def test_no_import_circle() -> None:
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        for other in imports(MODULES[module]) & MODULES.keys():
            visit(other, (*trail, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def calls(file: Path, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            called = node.func
            if (called.id if isinstance(called, ast.Name) else getattr(called, "attr", None)) in names:
                yield node


@cache
def own_types() -> set[str]:
    return {node.name for file in FILES for node in ast.walk(tree(file)) if isinstance(node, ast.ClassDef)}


def test_no_dispatch_on_the_library_s_own_types(file: Path) -> None:
    types = own_types()
    for call in calls(file, "isinstance", "issubclass"):
        asked = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(call.args[1])}
        assert not asked & types, f"line {call.lineno}: {ast.unparse(call)}"
    for call in calls(file, "hasattr"):
        raise AssertionError(f"line {call.lineno}: {ast.unparse(call)}")


def test_nothing_is_executed_from_files(file: Path) -> None:
    for call in calls(file, "eval", "exec", "compile", "__import__", "system"):
        builtin = isinstance(call.func, ast.Name)
        assert (not builtin and ast.unparse(call.func) in ("torch.compile", "re.compile")) or _is_method(call), (
            f"line {call.lineno}: {ast.unparse(call)}"
        )
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torchvision", "torchaudio"}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not banned & {room(module) for module in modules}, f"line {node.lineno}: {ast.unparse(node)}"
    for call in calls(file, "load"):
        if ast.unparse(call.func) == "torch.load":
            assert "weights_only=True" in ast.unparse(call), f"line {call.lineno}: {ast.unparse(call)}"
    assert "allow_pickle=True" not in file.read_text(encoding="utf-8")


def _is_method(call: ast.Call) -> bool:
    """`model.eval()`, and the like: a method without the argument that would be code."""
    return isinstance(call.func, ast.Attribute) and not call.args


BROADCAST = re.compile(r"\[\s*:\s*(,\s*None\s*){2,}\]|\[\s*\.\.\.\s*(,\s*None\s*){2,}\]")
DOUBLE_ON_DEVICE = re.compile(
    r"\.double\(\)\.(to\((?!torch\.float|[a-z_.]*dtype)|cuda\()"  # x.double().to(device)
    r"|\.to\([^()]*device[^()]*float64|\.to\(\s*torch\.float64\s*,"  # x.to(device, torch.float64)
    r"|dtype=torch\.float64, device=(?!\"cpu\")|device=(?!\"cpu\")[^,()]*, dtype=torch\.float64"
)


def test_one_place_broadcasts_and_no_double_goes_to_a_device(file: Path) -> None:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        assert not BROADCAST.search(line), f"line {number}: {line.strip()}"
        assert not DOUBLE_ON_DEVICE.search(line), f"line {number}: {line.strip()}"


def test_the_patterns_find_what_they_ban() -> None:
    for bad in ("x[:, None, None, None]", "x[:, None, None]", "x[..., None, None]"):
        assert BROADCAST.search(bad)
    assert not BROADCAST.search("x[:, None]")
    for bad in (
        "x.double().to(device)",
        "x.double().cuda()",
        "x.to(device, torch.float64)",
        "x.to(self.device, dtype=torch.float64)",
        "torch.zeros(3, dtype=torch.float64, device=device)",
        "torch.zeros(3, device=x.device, dtype=torch.float64)",
    ):
        assert DOUBLE_ON_DEVICE.search(bad), bad
    for good in (
        "x.to(device, x.dtype)",
        'torch.zeros(3, dtype=torch.float64, device="cpu")',
        "x.double().to(x.dtype)",
    ):
        assert not DOUBLE_ON_DEVICE.search(good), good


def test_schedules_keep_their_gradient() -> None:
    """A learned γ gets its gradient through `forward` and through the scale: no number leaves the graph there."""
    banned = {"item", "float", "int", "no_grad", "numpy", "tolist", "inference_mode", "data"}
    for source in (*(PACKAGE / "schedules").glob("*.py"), PACKAGE / "scales.py"):
        for node in ast.walk(tree(source)):
            forward = isinstance(node, ast.FunctionDef) and (node.name == "forward" or "log" in node.name)
            if forward or isinstance(node, ast.Lambda):
                used = {getattr(n, "attr", getattr(n, "id", None)) for n in ast.walk(node)}
                assert not used & banned, f"{source.name} line {node.lineno}: {used & banned}"


def test_files_and_functions_are_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= MOST_FUNCTION_LINES, f"{node.name}: {length} lines"


def test_public_names_have_docstrings(file: Path) -> None:
    assert ast.get_docstring(tree(file)) or not tree(file).body, "the module"
    for node in tree(file).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"line {node.lineno}: {node.name}"


def test_signatures_are_annotated_and_booleans_are_named(file: Path) -> None:
    for node in ast.walk(tree(file)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args]
        for argument in [*arguments, *node.args.kwonlyargs]:
            assert argument.annotation or argument.arg in ("self", "cls"), f"{node.name}({argument.arg}) has no type"
        assert node.returns, f"{node.name} has no return type"
        for argument, default in zip(reversed(arguments), reversed(node.args.defaults), strict=False):
            value = default.value if isinstance(default, ast.Constant) else None
            assert value not in (True, False) or not isinstance(value, bool), f"{node.name}: positional {argument.arg}"


def repository() -> list[Path]:
    """The files that belong to the repository, text ones."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    binary = {".npz", ".npy", ".png", ".jpg", ".gz", ".safetensors", ".woff2", ".ico", ".gif", ".webp", ".parquet"}
    files = [ROOT / line for line in listed.stdout.splitlines()]
    return [file for file in files if file.suffix not in binary and file.is_file()]


def _hidden(pattern: str) -> re.Pattern[str]:
    """A pattern spelt in rot13, or this file would be the first to break its rule."""
    return re.compile(codecs.decode(pattern, "rot13"))


ABSOLUTE = _hidden(r"(?<![\j.:/])/(jbex|ebbg|zag|fpengpu|Hfref|ubzr/[n-m]+)/")
TEMPORARY = _hidden(r"(?<![\j.])/gzc/")
FOREIGN = _hidden(r"(?v)\o(pynhqr|naguebcvp|pungtcg|pbqrk|pbcvybg|fho-?ntragf?)\o")


def test_the_repository_speaks_of_the_project_alone() -> None:
    for file in repository():
        text = file.read_text(encoding="utf-8", errors="ignore")
        place = file.relative_to(ROOT)
        for pattern in (ABSOLUTE, FOREIGN) if place.parts[0] == "tests" else (ABSOLUTE, TEMPORARY, FOREIGN):
            found = pattern.search(text)
            assert not found, f"{place}: {found.group() if found else ''}"
