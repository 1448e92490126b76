"""The shape of the code: who imports whom, how long things are, what is said of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).parent.parent
PLUGIN = CHECKOUT / "twisted" / "plugins" / "mqsvc_plugin.py"

LONGEST_MODULE = 500
LONGEST_FUNCTION = 60

EVERYBODY = ("mqsvc.__version__", "mqsvc.clock", "mqsvc.entropy")
"""What all but ``wire`` may import."""

MAY_IMPORT = {
    "mqsvc.clock": (),
    "mqsvc.entropy": (),
    "mqsvc.wire": ("mqsvc.wire",),
    "mqsvc.bus": ("mqsvc.bus", "mqsvc.messaging.model"),
    "mqsvc.links": (
        *("mqsvc.links", "mqsvc.bus", "mqsvc.storage", "mqsvc.config"),
        *("mqsvc.messaging.model", "mqsvc.messaging.errors", *EVERYBODY),
    ),
    "mqsvc.storage": (
        *("mqsvc.storage", "mqsvc.messaging.model", "mqsvc.messaging.errors"),
        *("mqsvc.bus", *EVERYBODY),
    ),
    "mqsvc.messaging": (
        *("mqsvc.messaging", "mqsvc.storage.interfaces", "mqsvc.storage.ids"),
        *("mqsvc.storage.errors", "mqsvc.wire.codec", "mqsvc.bus"),
        *EVERYBODY,
    ),
    "mqsvc.access": (
        *("mqsvc.access", "mqsvc.messaging.errors", "mqsvc.messaging.model"),
        *("mqsvc.messaging.limits", "mqsvc.messaging.quotas", *EVERYBODY),
    ),
    "mqsvc.rest": (
        *("mqsvc.rest", "mqsvc.access", "mqsvc.messaging", "mqsvc.wire", "mqsvc.bus"),
        *("mqsvc.notification", *EVERYBODY),
    ),
    "mqsvc.notification": (
        *("mqsvc.notification", "mqsvc.messaging", "mqsvc.access", "mqsvc.storage"),
        *("mqsvc.wire.codec", "mqsvc.__version__", *EVERYBODY),
    ),
    "mqsvc.websocket": (
        *("mqsvc.websocket", "mqsvc.access", "mqsvc.messaging", "mqsvc.wire"),
        *("mqsvc.bus", *EVERYBODY),
    ),
    "mqsvc.secret_options": (),
    "mqsvc.config": (
        "mqsvc.secret_options",
        *("mqsvc.messaging.limits", "mqsvc.messaging.quotas", *EVERYBODY),
        "mqsvc.websocket.options",
    ),
    "mqsvc.service": ("mqsvc.config", "mqsvc.wire.prompt", *EVERYBODY),
    "mqsvc.wiring": (
        "mqsvc.secret_options",
        *("mqsvc.config", "mqsvc.access", "mqsvc.messaging", "mqsvc.storage"),
        *("mqsvc.notification", "mqsvc.bus", *EVERYBODY),
    ),
    "mqsvc.notifying": (
        "mqsvc.secret_options",
        *("mqsvc.config", "mqsvc.service", "mqsvc.wiring", "mqsvc.notification"),
        *("mqsvc.messaging", "mqsvc.storage", *EVERYBODY),
    ),
    "mqsvc.commands": (
        *("mqsvc.commands", "mqsvc.config", "mqsvc.service", "mqsvc.storage"),
        *("mqsvc.messaging", "mqsvc.wire", "mqsvc.wiring", "mqsvc.bus", *EVERYBODY),
    ),
    "mqsvc.workers": (
        *("mqsvc.workers", "mqsvc.config", "mqsvc.service", "mqsvc.bus"),
        *("mqsvc.wire.prompt", *EVERYBODY),
        *("mqsvc.messaging.quotas", "mqsvc.storage.errors", "mqsvc.tap"),
    ),
    "mqsvc.tap": ("mqsvc",),
}
"""For each part of the program, what of the program it may import."""

INSTALL_A_REACTOR = (
    *("klein", "txmongo", "txredisapi", "twisted.internet.reactor"),
    "twisted.mail.smtp",
)
"""What installs the default reactor when it is imported."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@frozen
class Module:
    """A source file.

    :ivar name: as it is imported, ``mqsvc.storage.ids``; of a package, the package.
    """

    name: str
    path: Path
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> Module:
        """Parse a file of the checkout."""
        parts = path.relative_to(CHECKOUT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        return cls(name, path, ast.parse(path.read_text(encoding="utf-8")))

    @property
    def length(self) -> int:
        """How many lines it has."""
        return len(self.path.read_text(encoding="utf-8").splitlines())

    def imports(self) -> Iterator[str]:
        """The full names of what it imports anywhere, also inside of functions."""
        return self._imported(ast.walk(self.tree))

    def imports_when_imported(self) -> Iterator[str]:
        """The full names of what it imports when it is itself imported."""
        return self._imported(outside_of_functions(self.tree))

    def functions(self) -> Iterator[Function]:
        """All functions, also those inside of others."""
        return (node for node in ast.walk(self.tree) if isinstance(node, FUNCTIONS))

    def _imported(self, nodes: Iterator[ast.AST]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                source = self._source(node)
                yield from (f"{source}.{alias.name}" for alias in node.names)

    def _source(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        is_package = self.path.name == "__init__.py"
        above = parts[: len(parts) - node.level + is_package]
        return ".".join([*above, *filter(None, [node.module])])


def outside_of_functions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree that run when the module is imported."""
    yield node
    if not isinstance(node, FUNCTIONS):
        for child in ast.iter_child_nodes(node):
            yield from outside_of_functions(child)


def is_within(name: str, places: tuple[str, ...]) -> bool:
    """Whether a full name is one of some modules or packages, or inside of one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def lines_less_docstring(function: Function) -> int:
    """The length of a function as a reader has to take it in."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def unannotated(function: Function) -> list[str]:
    """The parameters of a function that have no annotation, and its return."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    others = [*arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    if positional and positional[0].arg in {"self", "cls"}:
        del positional[0]
    named = [*positional, *filter(None, others)]
    missing = [argument.arg for argument in named if argument.annotation is None]
    return missing if function.returns is not None else [*missing, "return"]


def public(nodes: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.AST]]:
    """The public classes and functions of a module, and the public methods of those."""
    for node in nodes:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name[0] != "_":
            yield f"{prefix}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}.{node.name}")


def program() -> list[Module]:
    """The modules of the program."""
    return [Module.read(path) for path in sorted(CHECKOUT.glob("mqsvc/**/*.py"))]


class ImportTests(SynchronousTestCase):
    """Imports point downwards."""

    def test_every_part_has_a_rule(self) -> None:
        """Each module belongs to a part whose imports are known."""
        parts = tuple(MAY_IMPORT)
        names = {module.name for module in program()} - {"mqsvc"}
        self.assertTrue(names)
        self.assertEqual([], sorted(n for n in names if not is_within(n, parts)))

    def test_downwards(self) -> None:
        """No module imports what stands above it."""
        upward = [
            f"{module.name} imports {name}"
            for module in program()
            for part, allowed in MAY_IMPORT.items()
            if is_within(module.name, (part,))
            for name in module.imports()
            if is_within(name, ("mqsvc",)) and not is_within(name, allowed)
        ]
        self.assertEqual([], upward)

    def test_nothing_imports_the_wiring(self) -> None:
        """The wiring knows everybody; only the program of a worker knows it."""
        importers = [
            module.name
            for module in program()
            if any(is_within(name, ("mqsvc.tap",)) for name in module.imports())
        ]
        self.assertEqual(["mqsvc.workers.__main__"], importers)

    def test_the_plugin_imports_nothing_of_the_program(self) -> None:
        """Listing the plugins of Twisted does not load the program."""
        names = list(Module.read(PLUGIN).imports())
        self.assertEqual(["twisted.application.service.ServiceMaker"], names)

    def test_no_reactor_is_installed_early(self) -> None:
        """What runs before the reactor is chosen imports nothing that installs one."""
        by_name = {module.name: module for module in program()}
        early = [Module.read(PLUGIN), by_name["mqsvc.tap"]]
        seen: set[str] = set()
        while early:
            module = early.pop()
            seen.add(module.name)
            for name in module.imports_when_imported():
                self.assertFalse(
                    is_within(name, INSTALL_A_REACTOR), f"{module.name}: {name}"
                )
                found = by_name.get(name) or by_name.get(name.rpartition(".")[0])
                if found is not None and found.name not in seen:
                    early.append(found)
        self.assertIn("mqsvc.config", seen)
        self.assertIn("mqsvc.service", seen)


class SizeTests(SynchronousTestCase):
    """Nothing is too long to be read."""

    def test_modules(self) -> None:
        """No module is longer than a reader stands."""
        lengths = {module.name: module.length for module in program()}
        self.assertEqual(
            {}, {n: lines for n, lines in lengths.items() if lines > LONGEST_MODULE}
        )

    def test_functions(self) -> None:
        """No function, less its docstring, is longer than a screen."""
        lengths = {
            f"{module.name}:{function.lineno}": lines_less_docstring(function)
            for module in program()
            for function in module.functions()
        }
        self.assertTrue(lengths)
        self.assertEqual(
            {}, {n: lines for n, lines in lengths.items() if lines > LONGEST_FUNCTION}
        )


class WrittenDownTests(SynchronousTestCase):
    """Types and promises are part of the code."""

    def test_annotations(self) -> None:
        """Every parameter and every result has a type."""
        missing = [
            f"{module.name}:{function.lineno}: {', '.join(names)}"
            for module in program()
            for function in module.functions()
            if (names := unannotated(function))
        ]
        self.assertEqual([], missing)

    def test_docstrings(self) -> None:
        """Every module, public class, function and method says what it promises."""
        silent = [
            name
            for module in program()
            for name, node in [
                (module.name, module.tree),
                *public(module.tree.body, module.name),
            ]
            if ast.get_docstring(node) is None
        ]
        self.assertEqual([], silent)


SAMPLE = '''
import klein
from . import ids
from .. import config
from ..storage.ids import format_id
def longer(self, a, *b: int, c: int = 0, **d) -> None:
    """Says
    more."""
    from twisted.internet import reactor
    return None
def _hidden(): pass
class Silent:
    def method(self) -> int: return 1
    def _own(self) -> int: return 1
'''


class MeasureTests(SynchronousTestCase):
    """The measures above see what they are for."""

    def setUp(self) -> None:
        """Parse a module that breaks every rule."""
        path = CHECKOUT / "mqsvc" / "storage" / "sample.py"
        self.module = Module("mqsvc.storage.sample", path, ast.parse(SAMPLE))

    def test_imports(self) -> None:
        """Relative imports get their full names, and those in functions are seen."""
        early = [
            *("klein", "mqsvc.storage.ids", "mqsvc.config"),
            "mqsvc.storage.ids.format_id",
        ]
        self.assertEqual(early, list(self.module.imports_when_imported()))
        self.assertEqual(
            [*early, "twisted.internet.reactor"], list(self.module.imports())
        )
        package = Module("mqsvc.storage", Path("__init__.py"), self.module.tree)
        self.assertIn("mqsvc.storage.ids", package.imports())

    def test_names(self) -> None:
        """A name that only begins like another is not inside of it."""
        self.assertTrue(is_within("mqsvc.rest.app", ("mqsvc.rest",)))
        self.assertFalse(is_within("mqsvc.restful", ("mqsvc.rest",)))

    def test_functions(self) -> None:
        """Lengths leave out docstrings; missing annotations are named."""
        first, second, *_ = self.module.functions()
        self.assertEqual(3, lines_less_docstring(first))
        self.assertEqual(1, lines_less_docstring(second))
        self.assertEqual(["a", "d"], unannotated(first))
        self.assertEqual(["return"], unannotated(second))

    def test_public(self) -> None:
        """Public are those without an underscore, also in public classes."""
        names = [name for name, _ in public(self.module.tree.body, "m")]
        self.assertEqual(["m.longer", "m.Silent", "m.Silent.method"], names)
