"""Remote procedure calls: the protocol of ARTIQ and sipyco, on Trio."""
