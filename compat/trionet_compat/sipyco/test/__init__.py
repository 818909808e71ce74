"""For the tests of controllers, by the names of sipyco."""
