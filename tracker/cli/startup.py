"""The common start of the commands that run the service."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker.config import Settings


def start(**options: Any) -> "Settings":
    """Load the settings, override them with the given options, and set up logging.

    Until the command handles signals, SIGHUP is ignored, and a signal that stops ends the process. TRACKER_TYPES may
    name modules in the working directory from here on, as under `rq worker`.
    """
    import structlog

    from tracker import config, log
    from tracker.runtime import hangup, signals

    signals.adopt_orphans()
    signals.end_early()
    hangup.ignore()
    changes = {name: value for name, value in options.items() if value is not None}
    settings = config.load().model_copy(update=changes)
    log.configure(settings)
    for name, meant in config.misspelt():
        structlog.get_logger().warning("setting_misspelt", name=name, meant=meant)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return settings
