"""A process that has imported what a training script needs, and forks into that script when the launcher asks.

    PYTHON warm.py DESCRIPTOR MODULE...

It runs with the lab's interpreter and is started by path, so it uses the standard library only. It imports third-party
modules, never code of the lab, and computes nothing: a process that ran an operation on several threads, or that has
touched a GPU, cannot be forked safely, which is looked at before each fork. docs/launching.md says what its forks share.
"""

from __future__ import annotations  # the lab's interpreter may be an older one

import atexit
import builtins
import ctypes
import gc
import hashlib
import importlib
import importlib.util
import io
import json
import marshal
import os
import signal
import site
import socket
import struct
import sys
import types
from importlib.machinery import SourceFileLoader

if False:  # for the type checker alone
    from typing import Any, NoReturn

    from engine.shards import join
else:
    # by path, and under no name by which a script could import it
    _spec = importlib.util.spec_from_file_location("_join", os.path.join(os.path.dirname(__file__), "join.py"))
    assert _spec is not None
    assert _spec.loader is not None
    join = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(join)

GO = b"g"
_PR_SET_PDEATHSIG = 1
_MADV_COLLAPSE = 25
_HUGE = 2 << 20
_NOT_STARTED = 127


class Unfit(Exception):
    """Why no fork can be made; `retire` when none will ever be."""

    def __init__(self, why: str, retire: bool = True) -> None:
        super().__init__(why)
        self.retire = retire


# --- what it was asked to import


def prepare(modules: list[str]) -> None:
    """Import `modules`, without those that are not installed, and freeze what there is. Raises Unfit.

    `sys._cockpit_checked` tells the import guard of a fork whether it need look at these modules again: where links are
    followed on the way to one, it does. `sitecustomize` is looked at there anyhow, since each fork imports its own.
    """
    before = _descriptors()
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0]:
                raise Unfit(f"importing {name} failed: {error}") from None
        except BaseException as error:
            raise Unfit(f"importing {name} failed: {type(error).__name__}: {error}") from None
    if _cuda_is_up():
        raise Unfit("an import initialised CUDA, which no fork could use")
    if "torch" in sys.modules:  # the first optimizer and use_deterministic_algorithms would import it, in over a second
        importlib.import_module("torch._dynamo")
    if left := _descriptors() - before:
        raise Unfit(f"an import left files or sockets open, which forks would share: {_named(left)}")
    for name, module in sorted(sys.modules.items()):
        if not _is_installed(getattr(module, "__file__", None)) and name not in ("__main__", "__mp_main__"):
            raise Unfit(f"module {name!r} is not an installed one: it comes from {module.__file__!r}")
    apart = ("sitecustomize", "__main__")
    origins = [
        getattr(module, "__file__", None)
        for name, module in sys.modules.items()
        if name not in apart and module is not sys.modules["__main__"]
    ]
    where_they_seem = all(
        _is_installed(os.path.realpath(each)) for each in origins if isinstance(each, str) and os.path.isabs(each)
    )
    vars(sys)["_cockpit_checked"] = where_they_seem
    gc.collect()
    gc.freeze()
    use_huge_pages()


def use_huge_pages() -> None:
    """Put this process's own memory on pages of 2 MiB where the kernel can (Linux 6.1): a fork copies a table entry for each
    page, so that it then takes a third of the time. Where it cannot, nothing changes."""
    madvise = ctypes.CDLL(None).madvise
    with open("/proc/self/maps") as file:
        areas = [line.split() for line in file]
    for place, rights, _, _, inode, *name in areas:
        start, end = (int(each, 16) for each in place.split("-"))
        start, end = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if rights == "rw-p" and inode == "0" and name in ([], ["[heap]"]) and start < end:
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE)


def _cuda_is_up() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _is_installed(origin: object) -> bool:
    if not isinstance(origin, str) or not os.path.isabs(origin):
        return True  # built in, or made up by torch
    # By its name too: Debian's sitecustomize.py lies beside the standard library, as a link into /etc
    places = tuple(os.path.join(os.path.dirname(each), "") for each in (os.__file__, os.path.realpath(os.__file__)))
    if os.path.normpath(origin).startswith(places) or os.path.realpath(origin).startswith(places):
        return True
    return "/site-packages/" in origin or "/dist-packages/" in origin


def _named(descriptors: set[int]) -> str:
    """What these are open on, each once."""
    found = set()
    for each in descriptors:
        try:
            found.add(os.readlink(f"/proc/self/fd/{each}"))
        except OSError:
            continue  # closed by another thread meanwhile
    return ", ".join(sorted(found))


def _descriptors() -> set[int]:
    """Those that are open; the listing's own is closed by the time it is read."""
    found = set()
    for each in map(int, os.listdir("/proc/self/fd")):
        try:
            os.fstat(each)
        except OSError:
            continue
        found.add(each)
    return found


def installed() -> list[tuple[str, int]]:
    """The directories that modules come from and when each last changed: installing a package changes one."""
    found = []
    for place in sys.path:
        try:
            found.append((place, os.stat(place).st_mtime_ns))
        except OSError:
            found.append((place, 0))
    return found


def own_environment() -> dict[str, str]:
    """Variables that the interpreter or an import has set itself, as it would in a fresh process."""
    with open("/proc/self/environ", "rb") as file:
        given = {os.fsdecode(each.partition(b"=")[0]) for each in file.read().split(b"\0")}
    return {name: value for name, value in os.environ.items() if name not in given}


def check(request: dict[str, Any], before: list[tuple[str, int]]) -> None:
    """Raises Unfit unless a fork of this process can be the process that `request` describes."""
    threads = join.threads()
    if threads != 1:
        raise Unfit(f"it has {threads} threads")
    if _cuda_is_up():
        raise Unfit("it has initialised CUDA")
    if installed() != before:
        raise Unfit("the installed packages changed")
    script = os.path.join(request["cwd"], request["argv"][1])
    paths = [os.path.dirname(script), *filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))]
    for place in paths:
        try:
            names = os.listdir(place)
        except OSError:
            continue
        for name in names:
            stem = name.partition(".")[0]
            if stem in sys.modules and stem not in ("sitecustomize", "__main__") and _imports(place, name):
                raise Unfit(f"{os.path.join(place, name)!r} comes before the {stem!r} that is loaded", retire=False)


def _imports(place: str, name: str) -> bool:
    path = os.path.join(place, name)
    return name.endswith((".py", ".so", ".pyc")) or os.path.isfile(os.path.join(path, "__init__.py"))


# --- the fork


def fork(request: dict[str, Any], log: int, gate: int, life: int, launcher: int) -> int:
    """Fork twice, so that the process becomes the launcher's child; returns its number. Raises Unfit.

    It has its session, environment, limits and box by then, and waits for the launcher's word at `gate` before it runs.
    A box stands until the launcher closes its end of `life`.
    """
    reap()
    hear, tell = os.pipe()
    box = None
    try:
        box = join.build(request["walls"], life, log, request["env"])
        middle = os.fork()
        if middle == 0:
            try:
                if box is not None:
                    box.join()
                os.close(life)
                pid = os.fork()
                if pid == 0:
                    become(request, log, gate, tell, launcher)
                os.write(tell, f"pid {pid}\n".encode())
            except BaseException as error:
                os.write(tell, f"failed {type(error).__name__}: {error}\n"[:1000].encode("utf-8", "replace"))
            finally:
                os._exit(_NOT_STARTED)
    finally:
        os.close(tell)
        if box is not None:
            box.close()
    os.waitpid(middle, 0)
    with open(hear, "rb") as file:
        said = dict(line.split(" ", 1) for line in file.read().decode("utf-8", "replace").splitlines())
    if "ready" not in said or "pid" not in said:
        raise Unfit(said.get("failed", "the process could not be forked"), retire=False)
    return int(said["pid"])


def reap() -> None:
    """Wait for what has ended of the boxes of earlier forks."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def become(request: dict[str, Any], log: int, gate: int, tell: int, launcher: int) -> NoReturn:
    """Be the process that `request` describes: as a fresh interpreter would find itself, then run the script."""
    try:
        os.setsid()
        for target, source in ((1, log), (2, log)):
            os.dup2(source, target)
        for each in _descriptors() - {0, 1, 2, gate, tell}:
            os.close(each)
        os.chdir(request["cwd"])
        os.nice(request["nice"])
        if request["cores"]:
            try:  # noqa: SIM105 (as in process.start: a core that is not ours is no reason not to run)
                os.sched_setaffinity(0, request["cores"])
            except (OSError, ValueError):
                pass
        os.environ.clear()
        os.environ.update(request["env"])
        show_environment(request["env"])
        join.confine(request["walls"])
        os.write(tell, b"ready \n")
    except BaseException as error:
        os.write(tell, f"failed {type(error).__name__}: {error}\n"[:1000].encode("utf-8", "replace"))
        os._exit(_NOT_STARTED)
    os.close(tell)
    if os.read(gate, 1) != GO:
        os._exit(_NOT_STARTED)
    os.close(gate)
    # Where the launcher cannot be seen from inside the box, the box itself ends with it.
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) or os.getppid() not in (launcher, 0):
        os._exit(_NOT_STARTED)  # it died before the line above
    forget(request)
    run(request["argv"])


def show_environment(env: dict[str, str]) -> None:
    """Put `env` where /proc/PID/environ looks, by which the launcher finds what a shard left behind.

    What does not fit is left out there; the launcher sends its own variable first.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    body = b""
    for name, value in env.items():
        entry = os.fsencode(f"{name}={value}") + b"\0"
        if len(body) + len(entry) <= end - start:
            body += entry
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, body, len(body))


def forget(request: dict[str, Any]) -> None:
    """Undo what a fresh process would not share with its siblings: random states, import path, temporary directory."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()  # drawn afresh, as a fresh process does; `random` sees to itself
        threads = request["env"].get("OMP_NUM_THREADS", "1")
        if threads != "1" and threads.isdigit():
            torch.set_num_threads(int(threads))
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None
    main = types.ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:  # multiprocessing's other name for it
        sys.modules["__mp_main__"] = main
    first: dict[str, str] = {}  # absolute, once each: as `site` makes of PYTHONPATH, before packages add theirs
    for each in filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep)):
        place, name = site.makepath(each)
        first.setdefault(name, place)
    sys.path[:] = [*first.values(), *(each for each in sys.path if os.path.normcase(each) not in first)]
    sys.modules.pop("sitecustomize", None)
    vars(sys)["_cockpit_checked"] = len(sys.modules) if vars(sys).get("_cockpit_checked") else 0
    try:
        importlib.import_module("sitecustomize")  # the import guard, where it is armed
    except ImportError as error:
        if error.name != "sitecustomize":
            raise


def run(argv: list[str]) -> NoReturn:
    """`python argv[1:]`, to the end of the process."""
    main = sys.modules["__main__"]
    path = os.path.join(os.getcwd(), argv[1])
    sys.argv[:] = argv[1:]
    sys.orig_argv[:] = argv
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    vars(main).update(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    status = 0
    try:
        with open(path, "rb") as file:
            source = file.read()
        kept = kept_as(path, source)
        code = read_code(kept)
        if code is None:
            code = compile(source, path, "exec", dont_inherit=True)
            if kept:
                keep_code(kept, code)
        exec(code, vars(main))
    except SystemExit as error:
        status = exit_status(error)
    except BaseException as error:
        shown = error.__traceback__.tb_next if error.__traceback__ is not None else None  # without this file's frame
        _show(error.with_traceback(shown))
        status = 1
        if isinstance(error, KeyboardInterrupt):
            status = -signal.SIGINT
    end(status)


def kept_as(path: str, source: bytes) -> str:
    """Where the script's code lies once it is compiled: with what else shards of its tree compile. "" for nowhere."""
    place = os.environ.get("COCKPIT_CACHE_DIR", "")
    name = hashlib.sha256(os.fsencode(path) + b"\0" + source).hexdigest()[:32]
    return place and os.path.join(place, f"{name}.{sys.implementation.cache_tag}")


def read_code(kept: str) -> Any:
    """The code that lies there; None when there is none that can be read."""
    try:
        with open(kept, "rb") as file:
            code = marshal.load(file)
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return code if isinstance(code, types.CodeType) else None


def keep_code(kept: str, code: Any) -> None:
    """Leave the code for the next shard of the tree, where there is a place for it."""
    partial = f"{kept}.{os.urandom(8).hex()}"
    try:
        with open(partial, "xb") as file:
            marshal.dump(code, file)
        os.replace(partial, kept)
    except OSError:
        pass  # the next one compiles it again


def exit_status(error: SystemExit) -> int:
    """What the interpreter makes of an argument of `sys.exit`."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    _flush(sys.stdout)
    print(error.code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    _flush(sys.stdout)
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException:
        sys.__excepthook__(type(error), error, error.__traceback__)


def end(status: int) -> NoReturn:
    """End as the interpreter does, but for taking every module apart, which takes torch over a second."""
    threading = sys.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()  # waits for the threads that are no daemons
    except BaseException as error:
        _show(error)
    atexit._run_exitfuncs()
    for each in gc.get_objects():  # open files, which would be flushed when their module is taken apart
        if issubclass(type(each), io.IOBase):
            _flush(each)
    if not (_flush(sys.stdout) and _flush(sys.stderr)):
        status = 120
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _flush(file: Any) -> bool:
    try:
        if file is not None and not file.closed:
            file.flush()
    except Exception:
        return False
    return True


# --- the launcher's requests


def tell(sock: socket.socket, message: dict[str, Any]) -> None:
    """Send one message: its length in four bytes, then JSON."""
    body = json.dumps(message).encode()
    sock.sendall(struct.pack("!I", len(body)) + body)


def take(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next request with its descriptors (log, gate, life); None when the launcher has closed."""
    head, descriptors, _, _ = socket.recv_fds(sock, 4, 3)
    if len(head) < 4:
        return None
    body = bytearray()
    while len(body) < struct.unpack("!I", head)[0]:
        piece = sock.recv(struct.unpack("!I", head)[0] - len(body))
        if not piece:
            return None
        body += piece
    return json.loads(body), list(descriptors)


def serve(sock: socket.socket, modules: list[str]) -> int:
    """Get ready, say so, and answer until the launcher closes. Returns the exit status."""
    launcher = os.getppid()
    try:
        prepare(modules)
        before, added = installed(), own_environment()
    except Unfit as error:
        tell(sock, {"ready": False, "why": str(error)[:1000]})
        return 1
    tell(sock, {"ready": True})
    while (found := take(sock)) is not None:
        request, descriptors = found
        try:
            log, gate, life = descriptors
            check(request, before)
            request["env"] = {**request["env"], **{each: added[each] for each in added.keys() - request["env"].keys()}}
            answer: dict[str, Any] = {"pid": fork(request, log, gate, life, launcher)}
        except (Unfit, OSError, ValueError) as error:
            answer = {"refused": str(error)[:1000], "retire": getattr(error, "retire", True)}
        finally:
            for each in descriptors:
                os.close(each)
        tell(sock, answer)
    return 0


if __name__ == "__main__":
    del sys.path[0]  # this directory is no place to import from
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]))
