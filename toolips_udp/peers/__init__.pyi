"""For type checkers: the names that this package loads when they are first used."""

from .client import Client as Client
from .delivery import RELIABLE as RELIABLE
from .delivery import SEQUENCED as SEQUENCED
from .delivery import UNSEQUENCED as UNSEQUENCED
from .delivery import Delivery as Delivery
from .enet import Enet as Enet
from .peer import CODES as CODES
from .peer import LEAVE_WORDS as LEAVE_WORDS
from .peer import Leave as Leave
from .peer import Peer as Peer
from .peer import PeerStats as PeerStats
from .peer import Refuse as Refuse
