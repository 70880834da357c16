"""What the communication libraries of training frameworks are told by their environment variables.

RDMA (InfiniBand, RoCE, EFA) goes past the kernel's IP stack, and so past IPsec and every guard. No container has a device for
it, so nothing could leak; an encrypted job that asks for it is refused all the same, because it would not be what it asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from phalanx.network.model import INTERFACE

_INTERFACES = {f"{backend}_SOCKET_IFNAME": INTERFACE for backend in ("GLOO", "NCCL", "TP")}
"""The interface to take: the ENI. Where traffic is encrypted they still bind to its address, and it is the route to the peers
that leads through the data plane."""
_SOCKETS = {"NCCL_NET": "Socket", "NCCL_IB_DISABLE": "1"}
"""NCCL tries InfiniBand and plug-ins before sockets, unless it is told not to."""

_RDMA = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in (
        ("FI_PROVIDER", r"(?!\^).*\b(efa|verbs|psm[23x]?|opx|cxi|gni|usnic)\b.*"),
        ("FI_EFA_USE_DEVICE_RDMA", r"1|true|yes|on"),
        ("NCCL_NET", r"(?!socket$).+"),
        ("NCCL_NET_PLUGIN", r"(?!none$).+"),
        ("NCCL_IB_DISABLE", r"0"),
        ("NCCL_IB_HCA", r".+"),
        ("OMPI_MCA_btl", r"(?!\^).*\b(openib|uct|ofi|usnic)\b.*"),
        ("OMPI_MCA_mtl", r"(?!\^).*\b(ofi|psm2?)\b.*"),
        ("UCX_TLS", r"(?!\^).*\b(all|ib|rc(_\w+)?|ud(_\w+)?|dc(_\w+)?)\b.*"),
        ("UCX_NET_DEVICES", r".*\b(mlx|bnxt|efa|irdma)\w*.*"),
    )
}
"""Values of variables that ask for RDMA: of libfabric, NCCL, OpenMPI and UCX."""


def environment(encrypted: bool) -> dict[str, str]:
    """What every container is told, unless the job says otherwise."""
    return {**_INTERFACES, **(_SOCKETS if encrypted else {})}


def rdma(environment: Mapping[str, str]) -> str | None:
    """The first variable, as NAME=value, by which a job asks for RDMA; None where it does not."""
    for name, pattern in _RDMA.items():
        if pattern.fullmatch(environment.get(name, "").strip()):
            return f"{name}={environment[name]}"
    return None
