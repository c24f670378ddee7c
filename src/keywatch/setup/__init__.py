"""From nothing to settings: `keywatch init`."""

from keywatch.setup.conversation import Given, set_up

__all__ = ["Given", "set_up"]
