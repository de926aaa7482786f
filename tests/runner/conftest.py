"""Fixtures of the runner's tests."""

from scripted_learners import train

__all__ = ["train"]
