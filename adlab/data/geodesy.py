"""Distances and directions on the Earth, taken for the WGS 84 ellipsoid, and maps made of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Geodesic", "azimuthal_equidistant", "geocentric", "geodesic"]

RADIUS = 6378.137  # km, at the equator
FLATTENING = 1 / 298.257223563
MINOR = RADIUS * (1 - FLATTENING)
MOST_STEPS = 200


class Geodesic(NamedTuple):
    """The shortest way between two points.

    Attributes:
      length: in kilometres.
      azimuth: its direction at the first point, in degrees clockwise from north.
    """

    length: np.ndarray
    azimuth: np.ndarray


def geodesic(latitude: Any, longitude: Any, to_latitude: Any, to_longitude: Any) -> Geodesic:
    """Return the shortest way on the ellipsoid, to less than a millimetre.

    Arguments broadcast; they are in degrees, north and east positive. From a point to itself the
    length is 0 and the azimuth means nothing.

    >>> length, azimuth = geodesic(51.5074, -0.1278, 48.8566, 2.3522)  # London to Paris
    >>> round(float(length), 1), round(float(azimuth), 1)
    (343.9, 148.0)

    Raises:
      ValueError: a latitude beyond 90 degrees, a number that isn't finite, or two points so nearly
        opposite on the Earth (within about half a degree) that the iteration doesn't converge.

    Source: Vincenty (1975), doi:10.1179/sre.1975.23.176.88.
    """
    degrees = np.broadcast_arrays(latitude, longitude, to_latitude, to_longitude)
    phi1, lambda1, phi2, lambda2 = (np.radians(np.asarray(d, np.float64)) for d in degrees)
    for phi in (phi1, phi2):
        if not np.all(np.abs(phi) <= np.pi / 2):
            wrong = np.degrees(phi[~(np.abs(phi) <= np.pi / 2)])
            raise ValueError(f"latitude must be within -90..90 degrees, got {wrong.flat[0]:g}")
    if not np.all(np.isfinite(lambda2 - lambda1)):
        raise ValueError("longitude must be finite, got NaN or infinity")
    u1, u2 = (np.arctan((1 - FLATTENING) * np.tan(phi)) for phi in (phi1, phi2))
    away = np.mod(lambda2 - lambda1 + np.pi, 2 * np.pi) - np.pi
    lam = away
    for _ in range(MOST_STEPS):
        arc = _arc(u1, u2, lam)
        before, lam = lam, away + _lag(*arc)
        if np.all(np.abs(lam - before) < 1e-12):
            return _measured(u1, u2, lam, *arc)
    raise ValueError(
        "points must not be opposite to one another on the Earth to within half a degree: "
        "there the shortest way is not found by this iteration"
    )


def _arc(u1: Any, u2: Any, lam: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Return sine, cosine and size of the arc on the sphere, sin(azimuth at the equator), etc."""
    east = np.cos(u2) * np.sin(lam)
    north = np.cos(u1) * np.sin(u2) - np.sin(u1) * np.cos(u2) * np.cos(lam)
    sine = np.hypot(east, north)
    cosine = np.sin(u1) * np.sin(u2) + np.cos(u1) * np.cos(u2) * np.cos(lam)
    sin_alpha = np.divide(np.cos(u1) * east, sine, out=np.zeros_like(sine), where=sine > 0)
    square = 1 - sin_alpha**2
    product = 2 * np.sin(u1) * np.sin(u2)
    # On the equator there is no highest point, and the term has no weight.
    middle = cosine - np.divide(product, square, out=np.zeros_like(square), where=square > 1e-12)
    return sine, cosine, np.arctan2(sine, cosine), sin_alpha, middle


def _lag(sine: Any, cosine: Any, sigma: Any, sin_alpha: Any, middle: Any) -> Any:
    """Return by how much the longitude on the sphere exceeds that on the ellipsoid."""
    square = 1 - sin_alpha**2
    c = FLATTENING / 16 * square * (4 + FLATTENING * (4 - 3 * square))
    inner = middle + c * cosine * (2 * middle**2 - 1)
    return (1 - c) * FLATTENING * sin_alpha * (sigma + c * sine * inner)


def _measured(
    u1: Any, u2: Any, lam: Any, sine: Any, cosine: Any, sigma: Any, sin_alpha: Any, middle: Any
) -> Geodesic:
    u = (1 - sin_alpha**2) * (RADIUS**2 / MINOR**2 - 1)
    a = 1 + u / 16384 * (4096 + u * (-768 + u * (320 - 175 * u)))
    b = u / 1024 * (256 + u * (-128 + u * (74 - 47 * u)))
    cubic = b / 6 * middle * (4 * sine**2 - 3) * (4 * middle**2 - 3)
    excess = b * sine * (middle + b / 4 * (cosine * (2 * middle**2 - 1) - cubic))
    north = np.cos(u1) * np.sin(u2) - np.sin(u1) * np.cos(u2) * np.cos(lam)
    azimuth = np.degrees(np.arctan2(np.cos(u2) * np.sin(lam), north))
    return Geodesic(MINOR * a * (sigma - excess), np.mod(azimuth, 360))


def azimuthal_equidistant(latitude: Any, longitude: Any) -> np.ndarray:
    """Return places on the flat map that is true to distance and direction from their middle.

    The middle is the direction of the mean of the places' positions in space.

    Args:
      latitude: N degrees north.
      longitude: N degrees east.

    Returns:
      (N, 2) kilometres east and north of the middle.

    Raises:
      ValueError: there are no places, or one is opposite to the middle of all; and as `geodesic`.
    """
    if not np.size(latitude):
        raise ValueError("latitude must hold at least one place, got none")
    x, y, z = geocentric(latitude, longitude).mean(axis=0)
    # The normal's latitude, from that of the position: exact on the surface.
    middle = np.degrees(np.arctan2(z, (1 - FLATTENING) ** 2 * np.hypot(x, y)))
    length, azimuth = geodesic(middle, np.degrees(np.arctan2(y, x)), latitude, longitude)
    angle = np.radians(azimuth)
    return np.stack([length * np.sin(angle), length * np.cos(angle)], axis=-1)


def geocentric(latitude: Any, longitude: Any) -> np.ndarray:
    """Return positions in space, (N, 3) kilometres from the Earth's centre: north along z."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    square = 1 - (1 - FLATTENING) ** 2
    normal = RADIUS / np.sqrt(1 - square * np.sin(phi) ** 2)
    across = normal * np.cos(phi)
    up = (1 - square) * normal * np.sin(phi)
    return np.stack([across * np.cos(lam), across * np.sin(lam), up], axis=-1)
