"""Distances and directions on the Earth, taken for the WGS 84 ellipsoid, and maps made of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Geodesic", "azimuthal_equidistant", "geocentric", "geodesic"]

RADIUS = 6378.137  # km, at the equator
FLATTENING = 1 / 298.257223563


class Geodesic(NamedTuple):
    """The shortest way between two points, or the ways between many.

    Attributes:
      length: in kilometres, of the shape to which the arguments broadcast.
      azimuth: its direction at the first point, in degrees clockwise from north, within 0..360; of
        the same shape.
    """

    length: np.ndarray
    azimuth: np.ndarray


def geodesic(
    latitude: ArrayLike, longitude: ArrayLike, to_latitude: ArrayLike, to_longitude: ArrayLike
) -> Geodesic:
    """Return the shortest way on the ellipsoid, to nanometres, by geographiclib.

    Arguments broadcast; they are in degrees, north and east positive. From a point to itself the
    length is 0 and the azimuth means nothing; between poles, or points opposite to one another on
    the equator, it is one of several. A way takes about 0.2 ms.

    >>> length, azimuth = geodesic(51.5074, -0.1278, 48.8566, 2.3522)  # London to Paris
    >>> round(float(length), 1), round(float(azimuth), 1)
    (343.9, 148.0)

    Raises:
      ImportError: geographiclib isn't installed.
      ValueError: a latitude beyond 90 degrees, or a number that isn't finite.

    Source: Karney (2013), doi:10.1007/s00190-012-0578-z.
    """
    degrees = (latitude, longitude, to_latitude, to_longitude)
    places = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in degrees))
    for latitudes in places[::2]:
        within = np.abs(latitudes) <= 90
        if not np.all(within):
            wrong = latitudes[~within].flat[0]
            raise ValueError(f"latitude must be within -90..90 degrees, got {wrong:g}")
    if not np.all(np.isfinite(places[1::2])):
        raise ValueError("longitude must be finite, got NaN or infinity")
    earth = _wgs84()
    wanted = earth.DISTANCE | earth.AZIMUTH
    ways = [earth.Inverse(*ends, wanted) for ends in zip(*(p.flat for p in places), strict=True)]
    length = np.array([way["s12"] / 1000 for way in ways]).reshape(places[0].shape)
    azimuth = np.array([way["azi1"] % 360 for way in ways]).reshape(places[0].shape)
    return Geodesic(length, azimuth)


def _wgs84() -> Any:
    try:
        from geographiclib.geodesic import Geodesic as Ellipsoid
    except ImportError as error:
        raise ImportError(
            "geodesic needs geographiclib; install it by pip install -e '.[data]' in adlab's folder"
        ) from error
    return Ellipsoid.WGS84


def azimuthal_equidistant(latitude: ArrayLike, longitude: ArrayLike) -> np.ndarray:
    """Return places on the flat map that is true to distance and direction from their middle.

    The middle is the direction of the mean of the places' positions in space.

    >>> azimuthal_equidistant([50.0, 50.0], [10.0, 12.0]).round(1)
    array([[-71.7,   0. ],
           [ 71.7,   0. ]])

    Args:
      latitude: N degrees north.
      longitude: N degrees east.

    Returns:
      (N, 2) kilometres east and north of the middle.

    Raises:
      ImportError, ValueError: as `geodesic` does; and ValueError if there are no places.
    """
    if not np.size(latitude):
        raise ValueError("latitude must hold at least one place, got none")
    x, y, z = geocentric(latitude, longitude).mean(axis=0)
    # The normal's latitude, from that of the position: exact on the surface.
    middle = np.degrees(np.arctan2(z, (1 - FLATTENING) ** 2 * np.hypot(x, y)))
    length, azimuth = geodesic(middle, np.degrees(np.arctan2(y, x)), latitude, longitude)
    angle = np.radians(azimuth)
    return np.stack([length * np.sin(angle), length * np.cos(angle)], axis=-1)


def geocentric(latitude: ArrayLike, longitude: ArrayLike) -> np.ndarray:
    """Return positions in space, (..., 3) kilometres from the Earth's centre: north along z.

    >>> geocentric(0.0, 90.0).round(3)
    array([   0.   , 6378.137,    0.   ])

    Args:
      latitude: degrees north, of any shape.
      longitude: degrees east, of the same shape.
    """
    phi, lam = np.radians(latitude), np.radians(longitude)
    square = 1 - (1 - FLATTENING) ** 2
    normal = RADIUS / np.sqrt(1 - square * np.sin(phi) ** 2)
    across = normal * np.cos(phi)
    up = (1 - square) * normal * np.sin(phi)
    return np.stack([across * np.cos(lam), across * np.sin(lam), up], axis=-1)
