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
        _exchange([(parts[rank], rank) for rank in self._others], [(tensor, rank) for rank in self._others])
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
        counts = self._counts(len(rows))
        padded = torch.zeros((max(counts), *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def deal(self, columns: Sequence[Tensor]) -> list[Tensor]:
        """This host's of the columns, which are dealt out to the hosts in turn: all hosts' rows, in the order of `collect`.

        Each host gives its own rows of every column.
        """
        counts = self._counts(len(columns[0]))
        mine = columns[self.rank :: self.size]
        dealt = [torch.empty(sum(counts), dtype=column.dtype) for column in mine]
        received: list[tuple[Tensor, int]] = []
        for column, whole in zip(mine, dealt, strict=True):
            parts = whole.split(counts)
            parts[self.rank].copy_(column)
            received += [(parts[rank], rank) for rank in self._others if counts[rank]]
        given = self._others if counts[self.rank] else []
        _exchange(received, [(column.contiguous(), rank) for rank in given for column in columns[rank :: self.size]])
        return dealt

    def _counts(self, rows: int) -> list[int]:
        """The number of rows of each host."""
        if self.size == 1:
            return [rows]
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([rows]))
        return [int(count) for count in counts]

    @property
    def _others(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]


def _exchange(received: Sequence[tuple[Tensor, int]], sent: Sequence[tuple[Tensor, int]]) -> None:
    """Tensors from and to hosts, all at once; what goes from one to another arrives in the order in which it is sent."""
    exchanges = [dist.irecv(tensor, rank) for tensor, rank in received] + [dist.isend(tensor, rank) for tensor, rank in sent]
    for exchange in exchanges:
        exchange.wait()
