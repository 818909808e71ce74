"""Published state: structures whose changes reach every subscriber."""
