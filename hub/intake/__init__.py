"""The HTTP door: takes requests of websites, says how far they are. Runs no Faust, calls nobody."""

from hub.intake.app import create_app
from hub.intake.serving import serve

__all__ = ["create_app", "serve"]
