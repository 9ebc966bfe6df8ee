"""What of the network a shard is granted, by the name that the lab file gives it. Pure."""

from __future__ import annotations

from typing import Literal

from engine.shards.sandbox import BoxError, Level

Network = Literal["none", "loopback", "host"]

SHOWN = ", network"
"""What the status line adds where shards share the machine's network."""


def shares_host(network: Network, level: Level, ranks: int = 1) -> bool:
    """Whether a shard in a box of that level shares the machine's network. Raises BoxError when it can not have just what
    was granted, or its ranks could not talk to one another.

    Level 3 gives every box a loopback of its own; level 2 has no sockets at all, or all of the machine's.
    """
    if level == 2 and network == "loopback":
        raise BoxError(
            'network = "loopback" needs a box of level 3: level 2 cannot tell this machine\'s loopback from the rest; install '
            'bubblewrap (see `cockpit doctor`), or under [run] set network = "host" or "none"'
        )
    if level == 2 and ranks > 1 and network != "host":
        raise BoxError(
            f"ranks = {ranks} needs a box of level 3, where the ranks of a shard have a loopback of their own: level 2 has no "
            'sockets; install bubblewrap (see `cockpit doctor`), or under [run] set ranks = 1 or network = "host"'
        )
    return network == "host"
