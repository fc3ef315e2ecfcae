"""How often things are done that nobody asks for, in seconds."""

from __future__ import annotations

TICK_S = 1.0
LOCKED_S = 0.05
SAVE_COUNTERS_S = 5.0
TELL_CONVERSATIONS_S = 0.25
"""The next turn may come to another instance."""
SAVE_AGAIN_S = 1.0
SAVE_USAGE_S = 2.0
TAKE_OVER_S = 0.2
COMPACT_USAGE_S = 900.0
REMOVE_OLD_S = 3600.0
LOOK_S = 5.0
LOOK_AGAIN_S = 60.0
"""At the accounts whose refresh has failed, between two looks at all: the pause after a failure is up to 5 minutes."""
LOOK_AT_FOLDER_S = 60.0
HEAR_S = 60.0
LOOK_AT_QUOTA_S = 30.0
SAVE_QUOTA_S = 300.0
EXCHANGE_USE_S = 2.0
BEAT_S = 2.0
TELL_SESSIONS_S = 0.5
TELL_REQUESTS_S = 0.25
COMPACTED_S = COMPACT_USAGE_S * 0.9
"""One instance compacts for all, and none does in the time until the next turn."""
ADOPTION_S = 5.0
