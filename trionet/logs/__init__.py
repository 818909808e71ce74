"""Log forwarding: what a program logs goes to a sink elsewhere, by the protocol of ARTIQ and sipyco."""
