"""What each instance runs: its share of the digits. Gloo averages the gradients of all instances.

With `--strategy ddp` each instance has the whole network (DistributedDataParallel). With `fsdp` each keeps a part of every
layer's parameters and of the optimiser's state, and layers are whole only while they compute (fully_shard).
"""

import argparse
import json
import os
from pathlib import Path

import numpy
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--strategy", choices=("ddp", "fsdp"), default="ddp")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--learning-rate", type=float, default=0.05)
parser.add_argument("--batch-size", type=int, default=40, help="images in a step of all instances together")
options = parser.parse_args()

# The toolkit says where the first host listens (MASTER_ADDR, MASTER_PORT); who we are is in SageMaker's own variables.
hosts, host = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
dist.init_process_group("gloo", rank=hosts.index(host), world_size=len(hosts))

digits = numpy.load(Path(os.environ["SM_CHANNEL_TRAIN"]) / "digits.npz")
tensors = {name: torch.from_numpy(digits[name]) for name in digits.files}
images = TensorDataset(tensors["x"], tensors["y"])
sampler = DistributedSampler(images, seed=7)
batches = DataLoader(images, batch_size=options.batch_size // len(hosts), sampler=sampler)

torch.manual_seed(7)
network = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Linear(32 * 2 * 2, 10)),
)
total = sum(each.numel() for each in network.parameters())
if options.strategy == "fsdp":
    mesh = init_device_mesh("cpu", (len(hosts),))
    for part in (*(layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)), network):
        # Gloo can sum, but not average.
        fully_shard(part, mesh=mesh).set_force_sum_reduction_for_comms(True)
    model, held = network, sum(each.to_local().numel() for each in network.parameters())
else:
    model, held = DistributedDataParallel(network), total
print(f"{host} keeps {held} of {total} parameters", flush=True)

optimiser = torch.optim.SGD(model.parameters(), lr=options.learning_rate, momentum=0.9)
for epoch in range(options.epochs):
    sampler.set_epoch(epoch)
    for x, y in batches:
        optimiser.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        accuracy = (network(tensors["test_x"]).argmax(1) == tensors["test_y"]).float().mean()
    print(f"epoch {epoch} loss {loss:.4f} test accuracy {accuracy:.4f}", flush=True)

# All instances give their parts; the first one gets the whole.
weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
if dist.get_rank() == 0:
    torch.save(weights, Path(os.environ["SM_MODEL_DIR"]) / "model.pt")
dist.destroy_process_group()
