"""The version of the prompts."""

PROMPTS_VERSION = "4"
"""Incremented with every change of a template in this package: runs of different versions got different prompts.

Each `agent-start` carries it. The judge has its own version in addition (`JUDGE_VERSION`), by which scores compare.
"""
