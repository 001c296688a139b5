"""The package has one direction: a layer imports only from lower ones, and no part of it goes round in circles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

# Low to high. A module belongs to the longest name that it begins with.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("version", "errors", "types", "rng", "files"),
    ("config",),
    ("devices", "runs", "checkpoint"),
    ("data", "models", "losses", "metrics"),
    ("embed", "embeddings_file", "gallery"),
    ("measures",),
    ("evaluation", "export", "figures"),
    ("training",),
    ("report",),
    ("demo", "service"),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Within a level these may use one another in this order; all others are strangers to their siblings.
SIBLINGS = {
    ("types", "errors"),
    ("files", "errors"),
    ("runs", "checkpoint"),
    ("gallery", "embed"),
    ("gallery", "embeddings_file"),
    ("figures", "evaluation"),
    ("checkpoint", "devices"),
}
ALLOWED_AT_THE_TOP = {"__init__", "__main__"}


def modules(source: Path) -> dict[str, Path]:
    """Return the dotted name (below the package) of every module."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = list(path.relative_to(source).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        found[".".join(parts)] = path
    return found


def part_of(module: str) -> str:
    return module.split(".")[0]


def imported(path: Path, known: set[str], *, top_level: bool) -> set[str]:
    """Return the modules of the package that a file imports: all of them, or only when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = top_level_statements(tree) if top_level else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "prsnet":
            base = node.module.removeprefix("prsnet").lstrip(".")
            for alias in node.names:
                longer = f"{base}.{alias.name}".lstrip(".")
                names.add(longer if longer in known else base)
        elif isinstance(node, ast.Import):
            names |= {a.name.removeprefix("prsnet.") for a in node.names if a.name.startswith("prsnet.")}
    return names & known


def top_level_statements(tree: ast.Module) -> list[ast.AST]:
    """Return what runs on import: neither function bodies nor blocks for type checkers."""
    nodes: list[ast.AST] = []
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        nodes.append(node)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        stack.extend(ast.iter_child_nodes(node))
    return nodes


@pytest.fixture(scope="module")
def source(repository: Path) -> Path:
    return repository / "src" / "prsnet"


def test_every_module_has_a_layer(source: Path) -> None:
    parts = {part_of(name) for name in modules(source)} - ALLOWED_AT_THE_TOP
    assert parts <= set(LEVEL), f"give these a layer: {sorted(parts - set(LEVEL))}"


def test_imports_go_downward(source: Path) -> None:
    found = modules(source)
    wrong = []
    for name, path in found.items():
        own = part_of(name)
        if own in ALLOWED_AT_THE_TOP:
            continue
        for target in imported(path, set(found), top_level=False):
            other = part_of(target)
            if other in ALLOWED_AT_THE_TOP or other == own:
                continue
            below = LEVEL[other] < LEVEL[own] or (own, other) in SIBLINGS
            if not below:
                wrong.append(f"{name} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_no_import_circles(source: Path) -> None:
    found = modules(source)
    graph = {name: imported(path, set(found), top_level=True) - {name} for name, path in found.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_only_builders_read_config_objects(source: Path) -> None:
    """Below training, plain keyword arguments; the number format's name is a plain type."""
    plain = {"Precision", "LossName"}
    wrong = []
    for name, path in modules(source).items():
        if part_of(name) in {"training", "cli", "demo", "config", *ALLOWED_AT_THE_TOP}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "prsnet.config":
                wrong += [f"{name} imports {alias.name}" for alias in node.names if alias.name not in plain]
    assert not wrong, "\n".join(wrong)


def test_files_can_be_read_in_one_sitting(source: Path) -> None:
    long = {str(p.relative_to(source)): n for p in source.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long, f"over 400 lines: {long}"


def test_functions_are_short(source: Path) -> None:
    """Nine functions in ten have bodies of at most 30 lines, docstrings not counted; none has more than 60."""
    lengths = sorted(
        (body_length(node), f"{path.relative_to(source)}:{node.lineno} {node.name}")
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    assert lengths[int(len(lengths) * 0.9)][0] <= 30, lengths[-10:]
    assert lengths[-1][0] <= 60, lengths[-3:]


def body_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    documentation = ast.get_docstring(node, clean=False)
    return (node.end_lineno or node.lineno) - node.lineno + 1 - len(documentation.splitlines() if documentation else [])


def test_names_say_what_is_inside(source: Path) -> None:
    forbidden = {"utils", "util", "misc", "common", "helpers", "helper"}
    bad = [str(p) for p in source.rglob("*.py") if p.stem in forbidden or p.stem.endswith(("_v2", "V2"))]
    assert not bad


def test_no_pickle_and_no_shell(source: Path) -> None:
    """Files that we load can come from strangers."""
    risky = ("pickle", "torch.load", "shell=True", "allow_pickle=True", "yaml.load(", "eval(", "exec(")
    allowed = {("checkpoint", "pickle")}  # the word in the error message that refuses one
    wrong = []
    for name, path in modules(source).items():
        code = strip_comments_and_strings(path)
        wrong += [f"{name}: {word}" for word in risky if word in code and (name, word) not in allowed]
    assert not wrong


def strip_comments_and_strings(path: Path) -> str:
    """Return the code without literals, so that a word in a message is not taken for a use; ``.eval()`` is torch's."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.unparse(tree).replace(".eval(", ".evaluation_mode(")
