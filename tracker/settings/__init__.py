"""The settings by subject. `tracker.config.Settings` has them all, and reads them from the environment."""
