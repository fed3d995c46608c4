"""Versions of learned policies, their aliases, and the gate that promotes one."""
