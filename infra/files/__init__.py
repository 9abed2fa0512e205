"""Files written whole or not at all; a log whose lines are chained by hashes."""
