"""trionet's pytest plugin, loaded wherever trionet is installed.

It adds nothing yet: the fixtures of the virtual network will be defined here.
"""
