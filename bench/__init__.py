"""Measurements: what the gateway costs, side by side in one run. Not tests: nothing here passes or fails."""
