"""Import guard of a shard: stops it when a module of the lab comes from elsewhere than its run tree.

An editable install of the lab's own package points at the researcher's checkout. A shard that imports it from there
tests the wrong code and would report "no effect". Python loads this file at start, because its directory is the first
of PYTHONPATH; it takes that directory off the path again, so that the run tree is what comes first, and hands over to
whichever `sitecustomize` would have been loaded without it.

It reads COCKPIT_RUN_TREE, COCKPIT_LAB_ROOT, COCKPIT_RUN_DIR and COCKPIT_CACHE_DIR. Below the lab's root only these may
be imported from: the run tree, the run's own directory, its compilers' cache and installed packages (a `.venv` inside the
lab). It is a guard against mistakes, not a wall: code that wants around it gets around it. Only modules that are loaded
anyway are used.
"""

from __future__ import annotations  # the lab's interpreter may be an older one

import os
import sys

if False:  # for the type checker alone: this file must cost a shard nothing
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

MARK = "cockpit: wrong tree:"
EXIT_CODE = 97


def _places(name: str) -> tuple[str, ...]:
    """The directory that variable `name` holds, as given and with links resolved, each with a closing slash."""
    path = os.environ.get(name)
    if not path:
        return ()
    return tuple({os.path.join(each, "") for each in (os.path.abspath(path), os.path.realpath(path))})


class _Refuse:  # a loader in all but ancestry: importlib.abc would have to be imported
    """Loader of a module that must not be loaded. Looking whether a module exists is no fault; importing it is."""

    def __init__(self, guard: _Guard, name: str, origin: str) -> None:
        self.guard, self.name, self.origin = guard, name, origin

    def create_module(self, spec: object) -> None:
        self.guard.end(self.name, self.origin)

    def exec_module(self, module: object) -> None:
        self.guard.end(self.name, self.origin)


class _Guard:
    """A meta path finder that asks the others and looks at where what they found lies."""

    def __init__(self) -> None:
        self.lab = _places("COCKPIT_LAB_ROOT")
        others = [os.path.join(os.path.dirname(os.path.realpath(each)), "") for each in (os.__file__, __file__)]
        self.allowed = (
            *_places("COCKPIT_RUN_TREE"),
            *_places("COCKPIT_RUN_DIR"),
            *_places("COCKPIT_CACHE_DIR"),
            *others,
        )
        self.main_seen = False

    def outside(self, origin: object) -> bool:
        """True when the file `origin` is the lab's, but not this run's. A relative name is none: torch has made-up ones."""
        if not isinstance(origin, str) or not os.path.isabs(origin) or origin.startswith(self.allowed):
            return False
        path = os.path.abspath(origin)
        if not path.startswith(self.lab):
            path = os.path.realpath(path)
            if not path.startswith(self.lab):
                return False
        if path.startswith(self.allowed) or os.path.realpath(path).startswith(self.allowed):
            return False
        return not ("/site-packages/" in path or "/dist-packages/" in path)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.main_seen:
            self.look_at_main()
        for finder in sys.meta_path:
            find = None if isinstance(finder, _Guard) else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.has_location and self.outside(spec.origin):
                    spec.loader = _Refuse(self, fullname, str(spec.origin))  # type: ignore[assignment]
                return spec
        return None

    def look_at_main(self) -> None:
        """The script itself is not imported, so it is looked at when it first imports something."""
        origin = getattr(sys.modules.get("__main__"), "__file__", None)
        if origin is not None:
            self.main_seen = True
            if self.outside(origin):
                self.end("__main__", origin)

    def sweep(self) -> None:
        """Everything that is loaded; catches what came in past the finder.

        The first modules of a warm shard are those its parent found to be installed ones; not to touch them again saves a
        tenth of a second of copying memory.
        """
        count = len(sys.modules) - vars(sys).get("_cockpit_checked", 0)
        for _, name in list(zip(range(count), reversed(sys.modules))):  # noqa: B905 (Python 3.9 has no `strict`)
            origin = getattr(sys.modules.get(name), "__file__", None)
            if self.outside(origin):
                self.end(name, str(origin))

    def end(self, name: str, origin: str) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:  # noqa: SIM105
                stream.flush()
            except Exception:
                pass
        line = f"\n{MARK} module {name!r:.200} was loaded from {origin!r:.1000}\n"
        os.write(2, line.encode("utf-8", "backslashreplace"))
        os._exit(EXIT_CODE)


def _hand_over() -> None:
    """Take this directory off the path and run the `sitecustomize` that it hid, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here]
    mine = sys.modules.pop("sitecustomize", None)
    try:
        __import__("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if mine is not None:
            sys.modules["sitecustomize"] = mine


if os.environ.get("COCKPIT_LAB_ROOT") and os.environ.get("COCKPIT_RUN_TREE"):
    import atexit

    _guard = _Guard()
    _guard.sweep()
    sys.meta_path.insert(0, _guard)
    atexit.register(_guard.sweep)
_hand_over()
