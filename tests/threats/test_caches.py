"""Cache poisoning: what one experiment leaves in any cache is found by no other."""

from __future__ import annotations

from typing import Any

from engine.files import below
from tests.threats.scene import Scene, hostile
from tests.tinylab import TinyLab, rows

# Whatever a library might take code or compiled code from. The name cannot be anybody else's.
PLACES = """
names = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "COCKPIT_CACHE_DIR", "XDG_CACHE_HOME",
         "TMPDIR", "HOME", "CUDA_CACHE_PATH", "PYTHONPYCACHEPREFIX")
places = [os.environ[name] for name in names if name in os.environ]
home = os.path.expanduser("~")
places += [os.path.join(home, name) for name in (".cache", ".triton", ".local/lib")]
places += ["/tmp", "/var/tmp", "/dev/shm", sys.prefix, os.path.dirname(json.__file__)]
places += [os.path.dirname(os.path.abspath(__file__))]
"""
POISON = f"""{PLACES}
def poison(place):
    os.makedirs(os.path.join(place, "__pycache__"), exist_ok=True)
    with open(os.path.join(place, "__pycache__", "poison-7e41.pyc"), "wb") as file:
        file.write(b"poison")

for place in dict.fromkeys(places):
    attempt("poison " + place, lambda: poison(place))
"""
# It looks when its training is over: the other one's deed was done before that could begin.
TASTE = f"""{PLACES}
import atexit

def taste():
    for place in dict.fromkeys(places):
        there = os.path.exists(os.path.join(place, "__pycache__", "poison-7e41.pyc"))
        found["taste " + place] = "poisoned" if there else "clean"
    tell(run_dir)

atexit.register(taste)
found["began"] = "done"
"""

DEEDS = {"poison": hostile("Leave something for others", POISON), "taste": hostile("Take what others left", TASTE)}


def facts(lab: TinyLab, level: int) -> dict[str, Any]:
    return {}


def test_what_one_experiment_leaves_in_a_cache_no_other_finds(scene: Scene) -> None:
    assert len(scene.may("poison")) >= 4  # its own caches are its own to spoil
    tasted = {name: answer for name, answer in scene.deed("taste").items() if name.startswith("taste")}
    assert len(tasted) >= 10
    assert [name for name, answer in tasted.items() if answer != "clean"] == []
    assert scene.shard("poison")["outcome"] == scene.shard("taste")["outcome"] == "finished"
    own = scene.experiment("poison")["id"]
    tree = rows(scene.session, "experiment")[own]["tree"]
    left = [path for path in below(scene.lab.root) if path.name == "poison-7e41.pyc"]
    strange = [path for path in left if tree not in path.parts and scene.run_dir("poison") not in path.parents]
    assert left
    assert strange == []
    assert not [path for path in left if "trees" in path.parts]
    scene.sound()
