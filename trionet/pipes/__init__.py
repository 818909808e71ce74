"""Pipes between a parent and its child process: lines both ways over inherited file descriptors."""
