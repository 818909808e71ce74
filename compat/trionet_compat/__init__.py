"""The upstream names over trionet, for blocking scripts and asyncio programs.

Existing code is to move by changing its import line: ``sipyco.pc_rpc`` becomes
``trionet_compat.sipyco.pc_rpc``. There are no such modules yet.
"""
