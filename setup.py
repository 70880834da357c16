"""Builds the engine's native part; everything else about the package is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden", "-fstack-protector-strong"]
ENGINE = Path("native/engine")


def shared_object(name: str, sources: list[str], headers: list[str], libraries: list[str]) -> Extension:
    """A plain shared object inside the package, found through phalanx.ipsec.engine.core.built; no Python module."""
    return Extension(
        f"phalanx.ipsec.engine.{name}",
        sources=sources,
        depends=headers,
        libraries=libraries,
        extra_compile_args=[*FLAGS, "-pthread"],
        extra_link_args=["-pthread", "-Wl,-z,relro,-z,now"],
    )


setup(
    ext_modules=[
        shared_object(
            "_core",
            sorted(map(str, ENGINE.glob("*.c"))),
            sorted(map(str, ENGINE.glob("*.h"))),
            ["crypto"],
        ),
        shared_object("_xfrm_shim", ["native/shim/xfrm_shim.c"], [], []),
    ]
)
