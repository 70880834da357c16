"""Trains a network data-parallel over Gloo: `ddp.py cnn|resnet`. Says when all hosts have taken a step, and at the end."""

import datetime
import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.functional import cross_entropy, relu
from torch.nn.parallel import DistributedDataParallel


class Bottleneck(nn.Module):
    """A block of ResNet-50 (He et al., arXiv 1512.03385)."""

    def __init__(self, width: int, inner: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *(nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)),
        )
        self.side = nn.Identity()
        if stride > 1 or width != 4 * inner:
            self.side = nn.Sequential(nn.Conv2d(width, 4 * inner, 1, stride, bias=False), nn.BatchNorm2d(4 * inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return relu(self.path(x) + self.side(x))


def resnet() -> nn.Module:
    """ResNet-50: 25.6 million parameters."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for inner, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(blocks):
            layers.append(Bottleneck(width, inner, stride if number == 0 else 1))
            width = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


def cnn() -> nn.Module:
    """A small network for images of 28 by 28 points: 0.4 million parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


MODELS = {"cnn": (cnn, (64, 1, 28, 28), 10, 150), "resnet": (resnet, (16, 3, 112, 112), 1000, 8)}
"""How each is made, the shape of an instance's batch, its classes, and how many steps are taken."""

resources = json.loads(Path("/opt/ml/input/config/resourceconfig.json").read_text())
hosts, host = sorted(resources["hosts"]), resources["current_host"]
patience = datetime.timedelta(minutes=10)
distributed.init_process_group("gloo", f"tcp://{hosts[0]}:7777", patience, len(hosts), hosts.index(host))
make, shape, classes, steps = MODELS[sys.argv[1]]
torch.manual_seed(7)
model = DistributedDataParallel(make())
optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for step in range(steps + 1):
    optimiser.zero_grad()
    loss = cross_entropy(model(torch.randn(shape)), torch.randint(classes, shape[:1]))
    loss.backward()
    optimiser.step()
    if step == 0:
        distributed.barrier()
        print(f"joined: {sum(each.numel() for each in model.parameters())} parameters", flush=True)
distributed.barrier()
print(f"loss {loss:.3f}", flush=True)
distributed.destroy_process_group()
# PyTorch's threads now and then abort a process that takes them down at its end.
os._exit(0)
