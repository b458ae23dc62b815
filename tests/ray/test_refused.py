"""What `ray_gateway` refuses where it is written, on a machine with Ray and on one without."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

from spry_py.ray import ray_gateway


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"address": 6379}, TypeError, "address must be a str or None, not 6379"),
        ({"address": "10.0.0.1"}, ValueError, "address must be host and port of the cluster's"),
        ({"address": "ray://10.0.0.1:10001"}, ValueError, "not 'ray://10.0.0.1:10001'"),
        ({"namespace": None}, TypeError, "namespace must be a str, not None"),
        ({"namespace": ""}, ValueError, "namespace must not be empty"),
        ({"reconnect": 0}, ValueError, "reconnect must be more than 0 seconds"),
        ({"reconnect": float("inf")}, ValueError, "reconnect must be finite"),
        ({"env": ["A=1"]}, TypeError, "env must be a mapping of str to str"),
        ({"env": {"A": 1}}, TypeError, "env must be a mapping of str to str, not 1"),
    ],
)
def test_values(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as refused:
        ray_gateway(**{"namespace": "farm", **options})
    assert str(refused.value).startswith("ray_gateway: ")
    assert text in str(refused.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError) as refused:
        ray_gateway(namespace="farm")
    text = "ray_gateway needs a package more: pip install 'spry-py[ray]'"
    assert str(refused.value) == text


def test_a_gateway_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    one, same = (ray_gateway("10.0.0.1:6379", namespace="farm", env={"A": "1"}) for _ in "ab")
    assert one == same
    assert hash(one) == hash(same)
    assert one != ray_gateway("10.0.0.1:6379", namespace="shop")
    # what is secret stands in the environment
    assert "env" not in repr(one)


def test_the_program_imports_no_ray() -> None:
    program = "import spry_py.ray, sys; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
