"""Tensors of all hosts together: torch.distributed over Gloo, on the interface that joins the hosts."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import timedelta

import torch
from cluster import Cluster, own_address
from contract import Resources
from torch import Tensor
from torch import distributed as dist

PORT = 9099
_PATIENCE = timedelta(days=7)
"""With a slow peer. A dead one is noticed by the cluster."""
_DIRECT = 256 * 1024
"""Bytes of all hosts' tensors up to which each host sends its own to every other at once. A ring sends less, in 2 (hosts - 1)
steps of several messages each, every one of which waits for the one before."""


class Mesh:
    """What hosts reckon together; a single host reckons alone."""

    def __init__(self, here: Resources, cluster: Cluster | None) -> None:
        self.rank, self.size = here.rank, len(here.hosts)
        if cluster is None:
            return
        # The store would listen everywhere: here it gets a socket that is bound to the hosts' own network.
        listener = None
        if cluster.leader:
            listener = socket.create_server((own_address(here), PORT), backlog=len(here.hosts))
        address = cluster.gather(own_address(here))[0]
        store = dist.TCPStore(
            address,
            PORT,
            self.size,
            cluster.leader,
            _PATIENCE,
            wait_for_workers=False,
            master_listen_fd=listener.detach() if listener else None,
        )
        os.environ.setdefault("GLOO_SOCKET_IFNAME", here.interface)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.size, timeout=_PATIENCE)

    @property
    def leader(self) -> bool:
        """Whether this is the first host."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all hosts, in place; the same on each, to the last bit."""
        if self.size == 1:
            return tensor
        if tensor.nbytes * self.size > _DIRECT:
            dist.all_reduce(tensor)
            return tensor
        parts = torch.empty((self.size, *tensor.shape), dtype=tensor.dtype)
        parts[self.rank] = tensor
        _wait([dist.irecv(parts[rank], rank) for rank in self._others] + [dist.isend(tensor, rank) for rank in self._others])
        return torch.sum(parts, 0, dtype=tensor.dtype, out=tensor)

    def greatest(self, number: float) -> float:
        """The greatest of all hosts' numbers."""
        if self.size == 1:
            return number
        tensor = torch.tensor([number], dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return float(tensor)

    def collect(self, rows: Tensor) -> Tensor:
        """The rows of all hosts, one below another; their widths must agree, their numbers need not."""
        if self.size == 1:
            return rows
        longest = int(self.greatest(len(rows)))
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(rows)]))
        padded = torch.zeros((longest, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])

    def deal(self, columns: Sequence[Tensor]) -> Tensor | None:
        """One column to each host, in their order: all hosts' rows of it, one below another, in the order of `collect`.

        Each host gives its own rows of every column. None where there are fewer columns than hosts, and none for this one.
        """
        if self.size == 1:
            return columns[0]
        rows = self.collect(torch.tensor([len(columns[0])])).tolist()
        dealt, exchanges = None, []
        if self.rank < len(columns):
            dealt = torch.empty(sum(rows), dtype=columns[0].dtype)
            parts = dealt.split(rows)
            parts[self.rank].copy_(columns[self.rank])
            exchanges += [dist.irecv(parts[rank], rank) for rank in self._others if rows[rank]]
        if rows[self.rank]:
            exchanges += [dist.isend(columns[rank].contiguous(), rank) for rank in self._others if rank < len(columns)]
        _wait(exchanges)
        return dealt

    @property
    def _others(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]


def _wait(exchanges: Sequence[dist.Work]) -> None:
    for exchange in exchanges:
        exchange.wait()
