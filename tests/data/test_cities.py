"""Cities and geodesics against published figures."""

import sys
import unicodedata

import numpy as np
import pytest

from adlab.data import azimuthal_equidistant, cities, geocentric, geodesic

# Great circles as atlases and distance tables print them, km.
PUBLISHED = [
    ("europe", "London", "Paris", 344),
    ("europe", "Berlin", "Paris", 878),
    ("europe", "Madrid", "Lisbon", 503),
    ("europe", "Rome", "Paris", 1106),
    ("europe", "Moscow", "Saint Petersburg", 634),
    ("europe", "Stockholm", "Helsinki", 396),
    ("europe", "Berlin", "Moscow", 1610),
    ("usa", "New York", "Los Angeles", 3936),
    ("usa", "New York", "Chicago", 1145),
    ("usa", "New York", "San Francisco", 4130),
    ("world", "London", "New York", 5570),
    ("world", "Beijing", "Shanghai", 1067),
    ("world", "Los Angeles", "Sydney", 12060),
]
SIZES = {"europe": 34, "usa": 25, "world": 21}


@pytest.mark.parametrize(("name", "here", "there", "published"), PUBLISHED)
def test_distances_are_within_0_6_percent_of_published_ones(name, here, there, published):
    places = cities(name)
    i, j = (places.names["en"].index(city) for city in (here, there))
    assert places.distances[i, j] == pytest.approx(published, rel=6e-3)


@pytest.mark.parametrize("name", SIZES)
def test_every_city_has_its_place_and_two_names(name):
    places = cities(name)
    assert len(places) >= SIZES[name]
    assert len(set(places.names["en"])) == len(set(places.names["ru"])) == len(places)
    letters = [letter for word in places.names["ru"] for letter in word if letter.isalpha()]
    assert all("CYRILLIC" in unicodedata.name(letter) for letter in letters)
    table = places.distances
    np.testing.assert_array_equal(table, table.T)
    np.testing.assert_array_equal(np.diag(table), 0)
    assert np.min(table[~np.eye(len(places), dtype=bool)]) > 50  # no city twice


def test_a_map_of_another_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"name must be one of .*, got 'eurpe'.*'europe'"):
        cities("eurpe")


def degrees(d, minutes, seconds):
    return d + minutes / 60 + seconds / 3600


def test_the_geodesic_of_a_national_survey():
    # Flinders Peak to Buninyong on GRS 80, Geoscience Australia: 54,972.271 m, 306 52' 05.37".
    length, azimuth = geodesic(
        -degrees(37, 57, 3.72030), degrees(144, 25, 29.52440),
        -degrees(37, 39, 10.15610), degrees(143, 55, 35.38390),
    )  # fmt: skip
    assert length == pytest.approx(54.972271, abs=1e-6)  # printed to a millimetre
    assert azimuth == pytest.approx(degrees(306, 52, 5.37), abs=2e-6)  # printed to 0.01"


def test_nearly_opposite_points_are_those_of_the_literature():
    # Karney (2013), doi:10.1007/s00190-012-0578-z, table 5: 19,989,832.82761 m, 161.8905247361.
    length, azimuth = geodesic(-30.0, 0.0, 29.9, 179.8)
    assert length == pytest.approx(19989.83282761, abs=1e-8)  # printed to 10 micrometres
    assert azimuth == pytest.approx(161.8905247361, abs=1e-9)  # printed to 10 digits


def test_opposite_points_of_the_equator_are_joined_over_a_pole():
    # Half an ellipse of the meridian, 20,003.931459 km, is shorter than half the equator.
    length, azimuth = geodesic(0, 0, 0, 180)
    assert length == pytest.approx(2 * 10001.965729, abs=2e-6)  # printed to a millimetre
    assert float(azimuth) in (0.0, 180.0)


def test_the_equator_is_a_circle_and_a_quarter_of_a_meridian_has_its_known_length():
    # Arcs of a circle come out to round-off, some 1e-12 km.
    assert geodesic(0, 10, 0, -20).length == pytest.approx(6378.137 * np.pi / 6, rel=1e-14)
    # 10,001.965729 km on WGS 84, a constant of the ellipsoid.
    assert geodesic(0, 40, 90, 40).length == pytest.approx(10001.965729, abs=1e-6)
    assert geodesic(0, 179.5, 0, -179.5).length == pytest.approx(np.radians(6378.137), rel=1e-12)


def test_a_point_is_at_no_distance_from_itself_and_arguments_broadcast():
    length, _ = geodesic(50.0, 8.0, [50.0, 51.0], 8.0)
    assert length[0] == 0
    assert length[1] == pytest.approx(111.24, abs=0.01)  # a degree of latitude at 50.5 north
    there, back = geodesic(50.0, 8.0, 10.0, -70.0), geodesic(10.0, -70.0, 50.0, 8.0)
    assert there.length == pytest.approx(back.length, rel=1e-14)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ((0.0, 0.0, [0.0, -90.1], 0.0), "latitude must be within -90..90 degrees, got -90.1"),
        ((91.0, 0.0, 0.0, 0.0), "latitude must be within"),
        ((np.nan, 0.0, 0.0, 0.0), "latitude must be within"),
        ((0.0, np.inf, 0.0, 0.0), "longitude must be finite"),
    ],
)
def test_what_is_no_place_is_refused(point, message):
    with pytest.raises(ValueError, match=message):
        geodesic(*point)


def test_without_geographiclib_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "geographiclib.geodesic", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[data\]' in adlab's folder"):
        geodesic(0.0, 0.0, 1.0, 1.0)


def test_the_projection_is_true_to_distance_and_direction_from_its_middle():
    places = azimuthal_equidistant([1.0, -1.0, 0.0, 0.0], [10.0, 10.0, 11.0, 9.0])
    north, east = 110.574, 111.319  # km of a degree at the equator
    known = [[0, north], [0, -north], [east, 0], [-east, 0]]
    np.testing.assert_allclose(places, known, atol=2e-3)


def test_the_middle_of_one_place_is_there():
    np.testing.assert_allclose(azimuthal_equidistant([50.0], [10.0]), [[0, 0]], atol=1e-6)


def test_positions_lie_on_the_ellipsoid():
    x, y, z = cities("world").positions.T
    minor = 6378.137 * (1 - 1 / 298.257223563)
    np.testing.assert_allclose((x**2 + y**2) / 6378.137**2 + z**2 / minor**2, 1, rtol=1e-14)
    np.testing.assert_allclose(geocentric([90.0], [0.0]), [[0, 0, minor]], atol=1e-9)
    np.testing.assert_allclose(geocentric([0.0], [90.0]), [[0, 6378.137, 0]], atol=1e-9)
