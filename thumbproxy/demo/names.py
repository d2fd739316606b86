"""The names of those sample pictures that the gallery gives a place of their own."""

HERO = "mountains.jpg"
CHART = "resolution-chart.png"
SIDEWAYS = "sideways.jpg"
LOGO = "logo.png"
ANIMATION = "orbit.gif"
SPECIAL = frozenset({CHART, SIDEWAYS, LOGO, ANIMATION})
