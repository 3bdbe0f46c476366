"""The version of the prompts."""

PROMPTS_VERSION = "1"
"""Counted up with every change of a template in this room: runs of different versions were told different things.

Each `agent-start` carries it. The judge's part has a version of its own besides (`JUDGE_VERSION`), by which scores
compare.
"""
