"""The pictures of the README, taken of the example shop as it runs: ``make pictures``."""
