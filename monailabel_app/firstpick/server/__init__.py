"""The front door: the only place that imports monailabel or fastapi."""
