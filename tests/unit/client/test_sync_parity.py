"""The blocking client is the asynchronous one without waiting: same classes, methods and parameters."""

import inspect

import pytest

from shoppable import client
from shoppable.client import sync

CLASSES = [name for name in client.__all__ if name.endswith("Client")]


def test_the_same_names_are_there():
    assert set(client.__all__) | {"ResponseStream"} == set(sync.__all__)


@pytest.mark.parametrize("name", CLASSES)
def test_each_method_takes_the_same_parameters(name):
    def shape(kind: type) -> dict[str, list[tuple[str, object, object]]]:
        return {
            method: [(item.name, item.kind, item.default) for item in inspect.signature(function).parameters.values()]
            for method, function in inspect.getmembers(kind, inspect.isfunction)
            if not method.startswith("_")
        }

    assert shape(getattr(sync, name)) == shape(getattr(client, name))


def test_nothing_of_the_blocking_client_waits():
    for name in CLASSES:
        for _, function in inspect.getmembers(getattr(sync, name), inspect.isfunction):
            assert not inspect.iscoroutinefunction(function)
            assert not inspect.isasyncgenfunction(function)
