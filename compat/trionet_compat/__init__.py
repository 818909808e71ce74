"""The upstream names over trionet, for blocking scripts and asyncio programs.

    sipyco  artiq  iblutil  iblrig  pyacq      modules named as upstream names them
        |
    portal      Trio in a background thread, for blocking code
    guest       Trio in the loop of asyncio, for asyncio code

Existing code moves by changing its import line: ``sipyco.pc_rpc`` becomes ``trionet_compat.sipyco.pc_rpc``.
There is no protocol in here: all of it drives `trionet`.
"""
