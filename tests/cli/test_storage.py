"""What S3 a service has, and where it and its clients reach it. tests/cli/test_s3.py has the embedded one's life."""

import os
import threading

import pytest
import typer
from sqlalchemy import make_url

from phalanx.cli import certificate
from phalanx.cli.listening import Tls
from phalanx.cli.options import FleetKind, Options
from phalanx.cli.storage import Storage
from phalanx.store.database import sqlite_url

KEY = ("AKIAEXAMPLE", "secret")


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Makes that of a service with these options."""
    monkeypatch.setenv("AWS_CA_BUNDLE", "/none")

    def make(**given):
        told = {
            "host": "192.0.2.7",
            "data_dir": tmp_path,
            "database": make_url(sqlite_url(tmp_path / "phalanx.db")),
            "s3_endpoint": None,
            "registries": [],
            "require_encryption": None,
            "require_s3_route": False,
            "require_roles": False,
            "root_key": tmp_path / "root.key",
            "tls": None,
            "strict_memory": False,
            "ike_profile": "standard",
            "fleet": FleetKind.LOCAL,
            "spread": False,
            "number": 1,
        }
        return Storage(Options(**told | given), KEY, threading.Event())

    return make


@pytest.fixture
def tls(tmp_path):
    """A certificate, and ports that are kept: nobody has the address to find free ones of."""
    (tmp_path / "s3.port").write_text("7001")
    (tmp_path / "s3.tls.port").write_text("7002")
    return Tls(*certificate.ensure(tmp_path / "tls", "192.0.2.7"))


def test_in_the_clear_everybody_reaches_it_at_one_address(storage):
    made = storage(host="127.0.0.1")
    assert made.url("localhost") == made.store.endpoint
    assert storage(host="127.0.0.1").store == made.store
    assert (made.store.access_key, made.store.secret_key) == KEY
    assert not made.store.proxied


def test_over_tls_the_platform_of_one_host_stays_inside(storage, tls):
    made = storage(tls=tls)
    assert (made.store.endpoint, made.url("2001:db8::7")) == ("http://127.0.0.1:7001", "https://[2001:db8::7]:7002")
    assert os.environ["AWS_CA_BUNDLE"] == "/none"


def test_hosts_of_a_fleet_reach_it_over_tls(storage, tls):
    made = storage(tls=tls, fleet=FleetKind.RAY)
    assert made.store.endpoint == "https://192.0.2.7:7002"
    assert os.environ["AWS_CA_BUNDLE"] == str(tls.authority)


def test_anothers_is_neither_run_nor_stopped_and_needs_keys(storage, monkeypatch, capsys):
    monkeypatch.setenv("PHALANX_S3_ACCESS_KEY", "key")
    monkeypatch.delenv("PHALANX_S3_SECRET_KEY", raising=False)
    with pytest.raises(typer.Exit):
        storage(s3_endpoint="https://s3.example")
    assert "PHALANX_S3_SECRET_KEY" in capsys.readouterr().err
    monkeypatch.setenv("PHALANX_S3_SECRET_KEY", "secret")
    made = storage(s3_endpoint="https://s3.example")
    made.start()
    assert (made.url("localhost"), tuple(made.metrics())) == ("https://s3.example", ())
    assert made.store.proxied
    made.stop(leave=False)
