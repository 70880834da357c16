"""What each instance runs: its share of the digits; DistributedDataParallel averages gradients with the others' over Gloo."""

import argparse
import json
import os
from pathlib import Path

import numpy
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--learning-rate", type=float, default=0.1)
options = parser.parse_args()

# The toolkit says where the first host listens (MASTER_ADDR, MASTER_PORT); who we are is in SageMaker's own variables.
hosts, host = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
dist.init_process_group("gloo", rank=hosts.index(host), world_size=len(hosts))

digits = numpy.load(Path(os.environ["SM_CHANNEL_TRAIN"]) / "digits.npz")
tensors = {name: torch.from_numpy(digits[name]) for name in digits.files}
images = TensorDataset(tensors["x"], tensors["y"].long())
sampler = DistributedSampler(images, seed=7)
batches = DataLoader(images, batch_size=32, sampler=sampler)

torch.manual_seed(7)
model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)))
optimiser = torch.optim.SGD(model.parameters(), lr=options.learning_rate, momentum=0.9)
for epoch in range(options.epochs):
    sampler.set_epoch(epoch)
    for x, y in batches:
        optimiser.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        accuracy = (model.module(tensors["test_x"]).argmax(1) == tensors["test_y"]).float().mean()
    print(f"epoch {epoch} loss {loss:.4f} test accuracy {accuracy:.4f}", flush=True)

if dist.get_rank() == 0:
    torch.save(model.module.state_dict(), Path(os.environ["SM_MODEL_DIR"]) / "model.pt")
dist.destroy_process_group()
