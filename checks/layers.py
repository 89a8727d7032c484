"""Checks what the type checker and the linter cannot: which part may know which, and what no part may do.

Run from anywhere: ``python checks/layers.py [ROOT]``. Exits 1 and lists file, line and rule of
every violation.

Rules:
    layer: imports go one way, launch > policies | collectors > envs | datasets > core.
    circle: no module imports itself by way of others, imports inside functions and by `Later`
        included.
    room: no subfolder imports itself by way of others.
    chain: no chain of imports that run at import time is longer than CHAIN files.
    hidden: at most HIDDEN imports of ours stand inside functions.
    torch: nothing below policies imports torch or what builds on it; launch imports it only inside
        functions.
    pybullet, h5py: the simulator is known to envs only, the file format to datasets only.
    print: only launch, benchmarks and checks print.
    random: no global random generator, of random, numpy or torch; torch's may be seeded where
        ``torch.random.fork_rng`` keeps that to itself (its module initialisers take no generator).
    pickle: nothing that can run code when a file is read.

A line that must break a rule says so and why: ``# allow torch: <reason>``.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CORE = {"core", "errors", "specs", "flags", "platforms", "children"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "specs": {"errors"},
    "flags": {"errors", "specs"},
    "core": {"errors", "specs"},
    "platforms": set(),
    "children": set(),
    "envs": CORE,
    "datasets": CORE,
    "collectors": {*CORE, "envs", "datasets"},
    "policies": {*CORE, "envs", "datasets"},
    "launch": {*CORE, "envs", "datasets", "collectors", "policies"},
}
FOLDERS = ("envs", "datasets", "collectors", "policies", "launch")
LEARNING = {"torch", "safetensors", "tokenizers", "transformers", "peft", "torchvision"}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NUMPY_RANDOM_ALLOWED = {
    "default_rng",
    "Generator",
    "SeedSequence",
    "BitGenerator",
    "PCG64",
    "Philox",
}
RANDOM_ALLOWED = {"Random", "SystemRandom"}
TORCH_DRAWS = {
    "rand",
    "randn",
    "randint",
    "randperm",
    "normal",
    "bernoulli",
    "multinomial",
    "rand_like",
    "randn_like",
}
TORCH_GLOBAL = {"manual_seed", "seed", "set_rng_state"}
# What a reader can follow from a verb down to the errors; the longest of dm_control and tyro are 20 and 16.
CHAIN = 14
HIDDEN = 10
ALLOW = re.compile(r"#\s*allow (\w+):\s*\S")


@dataclass(frozen=True)
class Violation:
    """A broken rule, and where."""

    path: Path
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        """Format as an editor can follow it."""
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


@dataclass
class Module:
    """A parsed source file.

    Attributes:
        name: dotted name below shopfloor, such as "envs.cell"; "core" and "__init__" for those of
            src/shopfloor.
        imports: (line, dotted name, whether it runs when the module is imported) of every import.
    """

    name: str
    path: Path
    tree: ast.Module
    allowed: set[tuple[int, str]]
    imports: list[tuple[int, str, bool]] = field(default_factory=list)

    @property
    def layer(self) -> str:
        """The folder, or "core"."""
        return self.name.split(".")[0]


def main(arguments: list[str] | None = None) -> int:
    """Print the violations of a repository; 0 if there are none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent
    )
    root = parser.parse_args(arguments).root
    modules, violations = check(root)
    for violation in violations:
        print(violation)
    print(f"layers: {len(modules)} modules, {len(violations)} violations")
    chain = longest_chain(modules)
    print(f"longest chain of imports: {len(chain)}, {' > '.join(chain)}")
    print(f"own imports inside functions: {len(hidden_imports(modules))}")
    return 1 if violations else 0


def check(root: Path) -> tuple[list[Module], list[Violation]]:
    """Check a repository.

    Args:
        root: the folder that holds envs/, datasets/, collectors/, policies/, launch/ and
            src/shopfloor/.

    Returns:
        The modules found and the rules they break, in order of file and line.
    """
    modules = [read(root, path) for path in sources(root)]
    found = [violation for module in modules for violation in check_module(module)]
    found += check_circles(modules) + check_rooms(modules)
    found += check_chain(modules) + check_hidden(modules)
    by_path = {module.path: module for module in modules}
    found = [v for v in found if (v.line, v.rule) not in by_path[v.path].allowed]
    return modules, sorted(
        found, key=lambda violation: (str(violation.path), violation.line, violation.rule)
    )


def sources(root: Path) -> Iterator[Path]:
    """Yield the Python files of the five folders and of src/shopfloor, relative to the root."""
    for folder in FOLDERS:
        yield from sorted(path.relative_to(root) for path in (root / folder).rglob("*.py"))
    yield from sorted(path.relative_to(root) for path in (root / "src" / "shopfloor").glob("*.py"))


def read(root: Path, path: Path) -> Module:
    """Parse a file and collect its imports."""
    text = (root / path).read_text(encoding="utf-8")
    parts = path.with_suffix("").parts
    # A folder's __init__ is the folder's face: the module has the folder's name.
    within = parts[2:] if parts[0] == "src" else parts
    name = ".".join(within[:-1] if within[-1] == "__init__" and within[1:] else within)
    allowed = {
        (number, match.group(1))
        for number, line in enumerate(text.splitlines(), start=1)
        for match in ALLOW.finditer(line)
    }
    module = Module(name, path, ast.parse(text, str(path)), allowed)
    collect_imports(module, module.tree, at_import=True)
    return module


def collect_imports(module: Module, node: ast.AST, *, at_import: bool) -> None:
    """Add the imports below `node` to the module.

    Those under TYPE_CHECKING do not count as running when the module is imported, nor do modules
    that `Later` names.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            module.imports += [(child.lineno, alias.name, at_import) for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            base = absolute(module, child)
            module.imports += [
                (child.lineno, f"{base}.{alias.name}", at_import) for alias in child.names
            ]
        elif isinstance(child, ast.Call) and dotted(child.func) == "Later":
            names = [part.value for part in child.args if isinstance(part, ast.Constant)]
            module.imports += [(child.lineno, str(name), False) for name in names]
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            collect_imports(module, child, at_import=False)
        else:
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            collect_imports(module, child, at_import=at_import and not typing_only)


def absolute(module: Module, node: ast.ImportFrom) -> str:
    """Return the dotted name that a `from ... import` names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    package = ["shopfloor", *module.name.split(".")][: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def check_module(module: Module) -> Iterator[Violation]:
    """Yield what one file does that it may not."""
    for line, name, at_import in module.imports:
        yield from check_import(module, line, name, at_import=at_import)
    forked = lines_under_fork(module.tree)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield from check_call(module, node, forked)
        if isinstance(node, ast.Attribute):
            yield from check_attribute(module, node, forked)


def lines_under_fork(tree: ast.Module) -> set[int]:
    """Return the lines inside `with torch.random.fork_rng(...)`."""
    blocks = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        and any(
            ast.unparse(item.context_expr).startswith("torch.random.fork_rng(")
            for item in node.items
        )
    )
    return {
        line
        for block in blocks
        for line in range(block.lineno, (block.end_lineno or block.lineno) + 1)
    }


def check_import(module: Module, line: int, name: str, *, at_import: bool) -> Iterator[Violation]:
    """Yield the rules that one import breaks."""
    top, _, rest = name.partition(".")
    target = rest.split(".")[0]
    layer = module.layer
    if top == "shopfloor" and target in MAY_IMPORT and layer in MAY_IMPORT:
        if target != layer and target not in MAY_IMPORT[layer]:
            yield Violation(
                module.path, line, "layer", f"{layer} must not import {target} ({name})"
            )
    elif top in FOLDERS and top != "datasets":  # a plain `import datasets` is Hugging Face's
        yield Violation(
            module.path,
            line,
            "layer",
            f"write 'shopfloor.{name}': a plain '{top}' is another package",
        )
    if layer == "__init__" and top == "shopfloor":
        yield Violation(
            module.path, line, "layer", f"shopfloor/__init__.py must load {name} lazily"
        )
    if top in LEARNING and layer not in ("policies", "launch"):
        yield Violation(module.path, line, "torch", f"{layer} must work without {top}")
    if top in LEARNING and layer == "launch" and at_import:
        yield Violation(
            module.path,
            line,
            "torch",
            f"launch imports {top} inside functions only: --help needs none",
        )
    if top in ("pybullet", "pybullet_data", "pybullet_utils") and layer != "envs":
        yield Violation(
            module.path, line, "pybullet", f"only envs knows the simulator, not {layer}"
        )
    if top in ("h5py", "hdf5plugin") and layer != "datasets":
        yield Violation(
            module.path, line, "h5py", f"only datasets knows the file format, not {layer}"
        )
    if top in PICKLES:
        yield Violation(module.path, line, "pickle", f"{top} can run code when it reads a file")
    if top == "random" and rest and target not in RANDOM_ALLOWED:
        yield Violation(module.path, line, "random", f"{name} draws from a global generator")
    if name.startswith("numpy.random.") and name.split(".")[2] not in NUMPY_RANDOM_ALLOWED:
        yield Violation(module.path, line, "random", f"{name} draws from a global generator")


def check_call(module: Module, node: ast.Call, forked: set[int]) -> Iterator[Violation]:
    """Yield the rules that one call breaks."""
    name = dotted(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if name == "print" and module.layer != "launch":
        yield Violation(
            module.path, node.lineno, "print", "only launch prints; log through logging"
        )
    if name in ("np.load", "numpy.load") and is_true(keywords.get("allow_pickle")):
        yield Violation(
            module.path, node.lineno, "pickle", "allow_pickle=True runs code from the file"
        )
    if name == "torch.load" and not is_true(keywords.get("weights_only")):
        yield Violation(module.path, node.lineno, "pickle", "torch.load without weights_only=True")
    if name == "torch.save":
        yield Violation(
            module.path, node.lineno, "pickle", "torch.save writes pickle: use safetensors"
        )
    draws = (
        name.startswith("torch.")
        and name.removeprefix("torch.") in TORCH_DRAWS
        and "generator" not in keywords
    )
    if draws and node.lineno not in forked:
        yield Violation(
            module.path,
            node.lineno,
            "random",
            f"{name} without generator= draws from the global one",
        )


def check_attribute(module: Module, node: ast.Attribute, forked: set[int]) -> Iterator[Violation]:
    """Yield the rules that one dotted name breaks."""
    name = dotted(node)
    top, _, last = name.rpartition(".")
    if top in ("np.random", "numpy.random") and last not in NUMPY_RANDOM_ALLOWED:
        yield Violation(
            module.path, node.lineno, "random", f"{name} is the global generator: use default_rng"
        )
    if (
        top == "random"
        and last not in RANDOM_ALLOWED
        and any(n == "random" for _, n, _ in module.imports)
    ):
        yield Violation(
            module.path,
            node.lineno,
            "random",
            f"{name} is the global generator: use random.Random(seed)",
        )
    seeds = {f"{top}.{part}" for top in ("torch", "torch.random") for part in TORCH_GLOBAL}
    if name in seeds and node.lineno not in forked:
        yield Violation(
            module.path,
            node.lineno,
            "random",
            f"{name} sets the global generator: use torch.Generator",
        )


def dotted(node: ast.AST) -> str:
    """Return "a.b.c" for such an expression, "" for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def is_true(node: ast.AST | None) -> bool:
    """Whether an expression is the literal True."""
    return isinstance(node, ast.Constant) and node.value is True


def check_circles(modules: list[Module]) -> list[Violation]:
    """Return one violation per module that can reach itself by imports."""
    by_name = {f"shopfloor.{module.name}": module for module in modules}
    edges = {
        name: {
            target
            for _, imported, _ in module.imports
            if (target := nearest(imported, by_name)) and target != name
        }
        for name, module in by_name.items()
    }
    found = []
    for name, module in by_name.items():
        path = path_back(name, edges)
        if path:
            lines = [
                line
                for line, imported, _ in module.imports
                if nearest(imported, by_name) == path[1]
            ]
            found.append(Violation(module.path, lines[0], "circle", " > ".join(path)))
    return found


def check_rooms(modules: list[Module]) -> list[Violation]:
    """Return one violation per import on a way by which a subfolder can reach itself."""
    by_name = {f"shopfloor.{module.name}": module for module in modules}
    edges: dict[str, set[str]] = {}
    crossing: dict[tuple[str, str], tuple[Module, int]] = {}

    for name, module in by_name.items():
        for line, imported, _ in module.imports:
            target = nearest(imported, by_name)
            here, there = room_of(name), room_of(target)
            if target and here != there:
                edges.setdefault(here, set()).add(there)
                crossing.setdefault((here, there), (module, line))

    folders = {room_of(name) for name in by_name if room_of(name) != name}
    found = []
    for room in edges:
        path = path_back(room, edges)
        if not folders.isdisjoint(path):  # single files are what check_circles is for
            module, line = crossing[path[0], path[1]]
            found.append(Violation(module.path, line, "room", " > ".join(path)))
    return found


def room_of(module: str) -> str:
    """Return the subfolder that a module lies in, or the module itself where it lies in a layer's folder."""
    parts = module.split(".")
    # shopfloor.LAYER.SUBFOLDER; each format has one of its own in datasets/convert.
    depth = 4 if parts[1:3] == ["datasets", "convert"] and len(parts) > 4 else 3
    return ".".join(parts[:depth])


def check_chain(modules: list[Module]) -> list[Violation]:
    """Return a violation at the head of the longest chain of imports if that is longer than CHAIN."""
    chain = longest_chain(modules)
    if len(chain) <= CHAIN:
        return []

    by_name = {f"shopfloor.{module.name}": module for module in modules}
    head = by_name[f"shopfloor.{chain[0]}"]
    second = f"shopfloor.{chain[1]}"
    line = next(line for line, name, _ in head.imports if nearest(name, by_name) == second)
    text = f"{len(chain)} files, at most {CHAIN}: {' > '.join(chain)}"
    return [Violation(head.path, line, "chain", text)]


def check_hidden(modules: list[Module]) -> list[Violation]:
    """Return a violation for each import of ours inside a function if there are more than HIDDEN."""
    hidden = hidden_imports(modules)
    if len(hidden) <= HIDDEN:
        return []
    text = f"one of {len(hidden)} imports of ours inside functions, at most {HIDDEN}"
    return [Violation(path, line, "hidden", text) for path, line in hidden]


def longest_chain(modules: list[Module]) -> list[str]:
    """Return the longest way along imports that run at import time; there is no circle."""
    by_name = {f"shopfloor.{module.name}": module for module in modules}
    chains: dict[str, list[str]] = {}

    def chain_from(name: str) -> list[str]:
        if name not in chains:
            chains[name] = [name]  # should there be a circle, it ends here
            targets = {
                nearest(imported, by_name)
                for _, imported, at_import in by_name[name].imports
                if at_import
            }
            ways = [chain_from(target) for target in sorted(targets - {"", name})]
            chains[name] = [name, *max(ways, key=len, default=[])]
        return chains[name]

    found = max((chain_from(name) for name in sorted(by_name)), key=len, default=[])
    return [name.removeprefix("shopfloor.") for name in found]


def hidden_imports(modules: list[Module]) -> list[tuple[Path, int]]:
    """Return file and line of each import of ours that stands in a function."""
    return sorted(
        {
            (module.path, node.lineno)
            for module in modules
            for function in ast.walk(module.tree)
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
            for node in ast.walk(function)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shopfloor")
        }
    )


def nearest(imported: str, by_name: dict[str, Module]) -> str:
    """Return the module that an imported dotted name lives in, "" if it is none of ours."""
    while imported:
        if imported in by_name:
            return imported
        imported = imported.rpartition(".")[0]
    return ""


def path_back(start: str, edges: dict[str, set[str]]) -> list[str]:
    """Return the shortest way from a module to itself, [] if there is none."""
    paths = [[start]]
    seen: set[str] = set()
    for path in paths:
        for target in sorted(edges.get(path[-1], ())):
            if target == start:
                return [*path, target]
            if target not in seen:
                seen.add(target)
                paths.append([*path, target])
    return []


if __name__ == "__main__":
    sys.exit(main())
