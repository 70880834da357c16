import pytest

from phalanx.jobs import backends


def test_every_container_is_told_the_interface_and_an_encrypted_one_to_use_sockets_alone():
    clear, encrypted = backends.environment(False), backends.environment(True)
    assert clear == dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME"), "eth0")
    assert encrypted == {**clear, "NCCL_NET": "Socket", "NCCL_IB_DISABLE": "1"}
    assert backends.rdma(encrypted) is None


@pytest.mark.parametrize(
    ("name", "asks", "does_not"),
    [
        ("FI_PROVIDER", ["efa", "EFA", "tcp,efa", "verbs;ofi_rxm"], ["tcp", "^efa", "sockets,udp", ""]),
        ("FI_EFA_USE_DEVICE_RDMA", ["1"], ["0"]),
        ("NCCL_NET", ["IB", "AWS Libfabric"], ["Socket", "socket"]),
        ("NCCL_NET_PLUGIN", ["ofi", "libnccl-net.so"], ["none"]),
        ("NCCL_IB_DISABLE", ["0"], ["1"]),
        ("NCCL_IB_HCA", ["mlx5_0:1"], [""]),
        ("OMPI_MCA_btl", ["openib,self", "self,ofi"], ["tcp,self", "^openib", "^ofi,uct"]),
        ("OMPI_MCA_mtl", ["ofi"], ["^ofi"]),
        ("UCX_TLS", ["rc,self", "all", "ud_x,sm"], ["tcp,self,sm", "^rc"]),
        ("UCX_NET_DEVICES", ["mlx5_0:1"], ["eth0"]),
        ("PATH", [], ["/efa/verbs"]),
    ],
)
def test_what_asks_for_rdma(name, asks, does_not):
    for value in asks:
        assert backends.rdma({"A": "b", name: value}) == f"{name}={value}"
    for value in does_not:
        assert backends.rdma({name: value}) is None, value
