"""The modules of sipyco, by their names there: ``sipyco.pc_rpc`` is ``trionet_compat.sipyco.pc_rpc``."""
