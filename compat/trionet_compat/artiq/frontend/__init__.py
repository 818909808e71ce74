"""Stands for the commands of ``artiq.frontend`` that became those of sipyco."""
