"""The networking modules of ARTIQ 4 and before, by their names there; today they are those of sipyco.

They are the classes of `trionet_compat.sipyco`, with what the manual of that time documents differently; and
they speak PYON v1 with everybody. Arguments that came later are taken, too.
"""
