"""Which Rasas are taken, and what an operator is told."""

from __future__ import annotations

import pytest

from rasa_trackers import rasa_versions
from rasa_trackers.rasa_versions import RasaException, awaits_stores, untested


class Coroutines:
    async def save(self): ...

    async def retrieve(self): ...

    async def keys(self): ...


class PlainMethods:
    def save(self): ...

    def retrieve(self): ...

    def keys(self): ...


class Mixed(Coroutines):
    def keys(self): ...


class WithoutRetrieve:
    async def save(self): ...


def test_a_look_at_rasas_class_decides_the_form():
    assert awaits_stores(Coroutines)
    assert not awaits_stores(PlainMethods)
    assert awaits_stores(rasa_versions.TrackerStore) is rasa_versions.IS_ASYNC


@pytest.mark.parametrize("unknown", [Mixed, WithoutRetrieve])
def test_another_form_is_an_error_that_names_the_tested_versions(unknown):
    with pytest.raises(RasaException) as caught:
        awaits_stores(unknown)
    assert "Rasa Open Source 1.10, 2.8, 3.1, 3.3, 3.6 and" in str(caught.value)
    assert "Rasa Pro 3.21" in str(caught.value)


@pytest.mark.parametrize("version", ["1.10.26", "2.8.34", "3.1.7", "3.3.8", "3.6.21"])
def test_tested_versions_give_no_warning(version):
    assert untested("rasa", version) is None


@pytest.mark.parametrize("version", ["1.9.0", "2.7.2", "3.0.13", "3.10.0"])
def test_a_known_form_that_nobody_tested_is_a_warning(version):
    message = untested("rasa", version)
    assert f"was not tested with rasa {version}" in message
