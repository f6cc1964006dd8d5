"""Trainings one after the other, each a process that outlives whoever asked for it.

`Queue` in `jobs/queue.py` is the way in; nothing here imports torch until a recipe is checked or a
sample is written, so that a page can poll it.
"""
