"""Metrics, closed-loop rollouts in the embedded simulator, open-loop evaluation, and the report."""
