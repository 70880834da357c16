"""A user's training script: linear regression by gradient descent, alone or with its peers, however it was launched."""

import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def join():
    """Rank and number of processes: from torchrun, from mpirun, or from SageMaker's own variables."""
    if "RANK" not in os.environ:
        hosts, host = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
        os.environ["RANK"] = os.environ.get("OMPI_COMM_WORLD_RANK", str(hosts.index(host)))
        os.environ["WORLD_SIZE"] = os.environ.get("OMPI_COMM_WORLD_SIZE", str(len(hosts)))
        os.environ.setdefault("MASTER_ADDR", hosts[0])
        os.environ.setdefault("MASTER_PORT", "7777")
    dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--linger", type=float, default=0, help="seconds before the work begins")
    options, _ = parser.parse_known_args()
    rank, world = join()
    print(f"rank {rank} of {world} on {os.environ['SM_CURRENT_HOST']}", flush=True)
    time.sleep(options.linger)
    torch.manual_seed(rank)
    inputs = torch.randn(512, 8)
    targets = inputs.sum(1, keepdim=True)
    model = DistributedDataParallel(torch.nn.Linear(8, 1))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for number in range(options.rounds):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimiser.step()
        print(f"rank {rank} round {number} loss={loss.item():.6f}", flush=True)
    total = torch.full((1 << 20,), float(rank + 1))
    dist.all_reduce(total)
    assert total.eq(world * (world + 1) / 2).all()
    if rank == 0:
        torch.save(model.module.state_dict(), Path(os.environ["SM_MODEL_DIR"]) / "model.pt")
    dist.barrier()
    dist.destroy_process_group()
    print(f"rank {rank} is done", flush=True)


main()
