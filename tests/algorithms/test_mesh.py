"""What hosts reckon together: three processes in an image, joined by Gloo."""

import pytest

HOSTS = 3
PROGRAM = f"""
import json, os, sys
from types import SimpleNamespace
sys.path.insert(0, "/opt/program")
import torch
from mesh import Mesh
from torch import distributed as dist
rows = json.load(sys.stdin)
answers, end = os.pipe()
rank = 0
while rank < {HOSTS} - 1 and os.fork():
    rank += 1
dist.init_process_group("gloo", init_method="file:///tmp/meeting", rank=rank, world_size={HOSTS})
mesh = Mesh(SimpleNamespace(rank=rank, hosts=["algo"] * {HOSTS}), None)
columns = [torch.tensor([1000.0 * column + 100 * rank + row for row in range(rows[rank])]) for column in range(7)]
found = {{
    "rank": rank,
    "dealt": [column.tolist() for column in mesh.deal(columns)],
    "collected": mesh.collect(columns[1]).tolist(),
    "sums": [mesh.sum(torch.full((size,), 1 + rank, dtype=kind)).unique().tolist()
             for size, kind in ((1, torch.int64), (1000, torch.float64), (1 << 20, torch.float32))],
    "greatest": mesh.greatest(rank),
}}
os.write(end, json.dumps(found).encode() + b"\\n")
dist.destroy_process_group()
if rank == {HOSTS} - 1:
    os.close(end)
    print(json.dumps([json.loads(line) for line in os.fdopen(answers)]), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("rows", [(3, 0, 5), (2, 2, 2)])
def test_what_hosts_give_each_other_arrives_where_and_in_the_order_in_which_it_should(roots, tmp_path, rows):
    found = sorted(roots("linear-learner").python(tmp_path / "hosts", PROGRAM, rows), key=lambda each: each["rank"])
    whole = [[1000 * column + 100 * host + row for host in range(HOSTS) for row in range(rows[host])] for column in range(7)]
    assert len(found) == HOSTS
    for rank, host in enumerate(found):
        assert host["dealt"] == whole[rank::HOSTS]
        assert host["collected"] == whole[1]
        assert host["sums"] == [[6]] * 3
        assert host["greatest"] == HOSTS - 1
