"""The module that `dns serve` gives to its worker processes; its configuration is in the environment.

Each worker builds the service anew when it imports this, so that a reload of the
workers is a reload of zones, lists and certificates; when that fails, the old
workers serve on. Imports ready and settings.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec

from .ready import VARIABLE, ready
from .settings import Config

_config, _folder, _strict = json.loads(os.environ[VARIABLE])
service = ready(msgspec.json.decode(_config, type=Config), Path(_folder), strict=_strict)
