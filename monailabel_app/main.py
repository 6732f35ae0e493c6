"""What MONAI Label loads with ``--app monailabel_app``."""

from firstpick.server.app import FirstPickApp

__all__ = ["FirstPickApp"]
