"""What of the network a shard is granted, by the name that the lab file gives it. Pure."""

from __future__ import annotations

from typing import Literal

from engine.shards.sandbox import BoxError, Level

Network = Literal["none", "loopback", "allocation", "host"]

SHOWN = ", network"
"""What the status line adds where shards share the machine's network."""

SHOWN_NODES = ", nodes' network"
"""The same where only training over several nodes does."""


def joins_nodes(network: Network) -> bool:
    """Whether the ranks of a shard may meet over several nodes."""
    return network in ("allocation", "host")


def shown(network: Network, level: Level, nodes: int) -> str:
    """What the status line adds to a level, for a lab whose shards train on so many nodes."""
    if level == 1:
        return ""
    return SHOWN if network == "host" else SHOWN_NODES if network == "allocation" and nodes > 1 else ""


def shares_host(network: Network, level: Level, ranks: int = 1, nodes: int = 1) -> bool:
    """Whether a process of `ranks` ranks on `nodes` nodes, in a box of that level, shares the network of the machines
    that it is on. Raises BoxError when it can not have just what was granted, or its ranks could not talk to one another.

    Level 3 gives every box a loopback of its own; level 2 has no sockets at all, or all of the machine's. "allocation" is for
    processes over several nodes alone; to all others it grants what "none" does.
    """
    if network == "allocation" and nodes > 1:
        return True
    if level > 1 and nodes > 1 and network != "host":
        raise BoxError(
            f"a shard over {nodes} nodes needs their network, in which its ranks meet: under [run] set network = "
            '"allocation", or ranks to what one node has'
        )
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
