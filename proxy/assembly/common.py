"""The configuration of several workers: one that is started again runs with what the others have."""

from __future__ import annotations

import logging

from proxy.adjustments import Adjustable
from proxy.config.effective import differing
from proxy.config.settings import Settings
from proxy.errors import StartError
from proxy.logs import set_up_plain

log = logging.getLogger(__name__)


class Common:
    """Held by the parent of the workers, which logs as `settings` say."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._log()

    def reload(self) -> None:
        """Take from the file what workers that run take of it. They say what came of that, but there may be none."""
        try:
            read, live = self.settings.read_again(), Adjustable.live()
        except StartError as error:
            log.error("configuration not taken, the one before stays: %s", error)
            return
        for each in differing(self.settings, read):
            if each.key in live:
                self.settings = self.settings.taking(each.key, read)
        self._log()

    def _log(self) -> None:
        logger = self.settings.logger
        set_up_plain(logger.level, logger.format, self.settings.secrets())
