"""The settings of the four services, by the names that deployments use."""

import re

from shoppable.decoder.settings import DecoderSettings
from shoppable.detector.settings import DetectorSettings
from shoppable.matcher.settings import MatcherSettings
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.settings import ServerSettings

SETTINGS: dict[str, type[ServerSettings]] = {
    kind.service: kind for kind in (OrchestratorSettings, DecoderSettings, DetectorSettings, MatcherSettings)
}


def settings_of(service: str, variables: dict[str, str]) -> ServerSettings:
    """Return what a service makes of these variables; fails on one that no setting reads."""
    values = {}
    # The suite's variables first: a service's own win.
    for name in sorted(variables, key=lambda name: name.startswith(f"SHOPPABLE_{service.upper()}_")):
        if not name.startswith("SHOPPABLE_"):
            continue
        match = re.fullmatch(rf"SHOPPABLE_(?:{service.upper()}_)?(\w+)", name)
        assert match, f"{name} is no variable of the {service}"
        assert match[1].lower() in SETTINGS[service].model_fields, f"{name} is no setting of the {service}"
        values[match[1].lower()] = variables[name]
    return SETTINGS[service](**values)
