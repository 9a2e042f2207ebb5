"""What a training takes and refuses, how it evaluates, saves, is interrupted and goes on, and what
it publishes.
"""
