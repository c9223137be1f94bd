"""For type checkers: the names that this package loads when they are first used."""

from .. import testing as testing
from ..peers.client import Client as Client
from ..peers.delivery import RELIABLE as RELIABLE
from ..peers.delivery import SEQUENCED as SEQUENCED
from ..peers.delivery import UNSEQUENCED as UNSEQUENCED
from ..peers.delivery import Delivery as Delivery
from ..peers.enet import Enet as Enet
from ..peers.peer import Leave as Leave
from ..peers.peer import Peer as Peer
from ..peers.peer import PeerStats as PeerStats
from ..peers.peer import Refuse as Refuse
from .clocks import ClockSync as ClockSync
from .clocks import InputClock as InputClock
from .fields import angle as angle
from .fields import counter as counter
from .fields import dial as dial
from .fields import fixed as fixed
from .fields import flag as flag
from .fields import number as number
from .fields import quaternion as quaternion
from .game import Game as Game
from .history import History as History
from .inputs import InputMap as InputMap
from .interest import Near as Near
from .interpolation import Interpolation as Interpolation
from .lag import Lag as Lag
from .prediction import Prediction as Prediction
from .record import Recorder as Recorder
from .record import ReplayDiffers as ReplayDiffers
from .record import replay as replay
from .replica import Replica as Replica
from .replica import Snapshot as Snapshot
from .room import Room as Room
from .room import RoomFull as RoomFull
from .snapshot import Snapshots as Snapshots
from .tick import Tick as Tick

simulate = testing
