"""Torture: what survives when writers, servers, networks, clocks and disks fail.

`plan` says, from a seed, what each writer does and what goes wrong; `writer` is a
process that does it and keeps a `journal`; `faults` lets things go wrong; `run` brings
them together; `checker` compares what the journals claim with what is stored.
"""
