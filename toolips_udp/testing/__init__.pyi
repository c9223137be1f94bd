"""For type checkers: the names that this package loads when they are first used."""

from .clock import FakeClock as FakeClock
from .knobs import PROFILES as PROFILES
from .knobs import Knobs as Knobs
from .network import BadNetwork as BadNetwork
from .network import Direction as Direction
from .network import Link as Link
from .nodes import Caller as Caller
from .nodes import Node as Node
from .nodes import SansIo as SansIo
from .pair import Pair as Pair
from .trace import ARRIVED as ARRIVED
from .trace import FATES as FATES
from .trace import Trace as Trace
from .trace import TraceEntry as TraceEntry
from .world import Broken as Broken
from .world import World as World
