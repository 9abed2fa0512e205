"""The Helm chart is made from the functions that render everything else; `make prove-cluster` holds what a real Helm
makes of it against them."""

from __future__ import annotations

import re

import pytest

from configs.errors import InputError
from configs.section import JsonObject
from infra.manifests.agent_objects import Source
from infra.manifests.chart import TEMPLATES, templates, values_of
from tests.paths import ROOT
from tests.support.cluster_objects import environment

pytestmark = pytest.mark.unit
SOURCE = Source("https://git.example/x.git")
TLS = {"certificate": "a.pem", "key": "b.pem", "local_port": 8444}


def test_the_templates_are_what_the_functions_say_now() -> None:
    """Else: .venv/bin/python -m infra.manifests.chart"""
    found = {path.name: path.read_text(encoding="utf8") for path in (ROOT / TEMPLATES).iterdir()}
    assert found == templates()


def test_every_value_that_a_template_asks_for_is_one_that_an_environment_gives() -> None:
    asked = {name for text in templates().values() for name in re.findall(r"\.Values\.(\w+)", text)}
    given = values_of(environment(), SOURCE)
    assert asked == given.keys()
    stated = re.findall(r"(?m)^(\w+):", (ROOT / TEMPLATES.parent / "values.yaml").read_text(encoding="utf8"))
    assert stated == list(given)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"router": {"tls": TLS}}, r"router\.tls"),
        ({"router": {"port": 443}}, r"router\.port up to 1023"),
        ({"supervision": {}}, r"no supervision\.metrics_port"),
    ],
)
def test_what_the_chart_has_no_place_for_is_refused(keys: JsonObject, said: str) -> None:
    with pytest.raises(InputError, match=said):
        values_of(environment(**keys), SOURCE)
