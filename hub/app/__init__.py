"""The wiring: settings in, running processes and operators' commands out.

A module per process, each importing only what that process runs: a worker's child is up in half
the time, and a crash costs its lanes that much less.
"""
