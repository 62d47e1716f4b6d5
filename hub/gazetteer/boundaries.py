"""Distances from a point to the municipalities around it, in metres."""

import json
import math
from pathlib import Path
from typing import Final

import numpy as np
import shapely

_SEMI_MAJOR_METRES: Final = 6_378_137.0
_ECCENTRICITY_SQUARED: Final = 0.00669437999014


class Boundaries:
    """Municipal polygons of a GeoJSON file in WGS84, indexed. Read-only; threads may share it."""

    def __init__(self, path: Path) -> None:
        features = json.loads(path.read_bytes())["features"]
        self._codes = [str(feature["properties"]["gm_code"]) for feature in features]
        self._shapes = shapely.from_geojson([json.dumps(f["geometry"]) for f in features])
        self._tree = shapely.STRtree(self._shapes)

    def around(self, latitude: float, longitude: float, metres: float) -> list[tuple[float, str]]:
        """(metres, code) of each municipality at most so far away, nearest first; inside is 0.

        Empty for coordinates that are not numbers or not in the Netherlands.
        """
        if not (math.isfinite(latitude) and math.isfinite(longitude) and abs(latitude) < 89):
            return []
        east, north = _metres_per_degree(latitude)
        # A little wider than asked: what the window lets through is measured below.
        reach_x, reach_y = 1.01 * metres / east, 1.01 * metres / north
        window = shapely.box(
            longitude - reach_x, latitude - reach_y, longitude + reach_x, latitude + reach_y
        )
        here, centre, scale = shapely.Point(0, 0), (longitude, latitude), np.array([east, north])
        found = []
        for place in self._tree.query(window):
            # A plane that touches the globe at the point: 1e-4 off at 500 m. Degrees would be
            # 1.6 times too long eastward.
            plane = shapely.transform(self._shapes[place], lambda xy: (xy - centre) * scale)
            found.append((float(shapely.distance(here, plane)), self._codes[place]))
        return sorted(pair for pair in found if pair[0] <= metres)


def _metres_per_degree(latitude: float) -> tuple[float, float]:
    """Length of a degree eastward and northward at `latitude`, on the WGS84 ellipsoid."""
    phi = math.radians(latitude)
    curve = 1 - _ECCENTRICITY_SQUARED * math.sin(phi) ** 2
    east = _SEMI_MAJOR_METRES / math.sqrt(curve) * math.cos(phi)
    north = _SEMI_MAJOR_METRES * (1 - _ECCENTRICITY_SQUARED) / curve**1.5
    return math.radians(1) * east, math.radians(1) * north
