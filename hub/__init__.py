"""The hub: moves events from a front office to the right back-office. See hub/README.md."""

__version__ = "0.1.0"
