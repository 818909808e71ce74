"""broadcast: objects that a server sends to whoever listens on a channel, a line of PYON each.

A feed (see `trionet.wire.feeds`) without a first line: nothing is sent until the first object is. Every name
is a channel, the empty one included.

Protocol facts: recorded from sipyco 1.10 (tests/data/transcripts/broadcast_session.json).
"""

from __future__ import annotations

from typing import Final

BANNER: Final = b"ARTIQ broadcast"
