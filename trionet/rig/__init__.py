"""Rigs that exchange experiment messages, wire compatible with iblutil's: one, or many at once."""
