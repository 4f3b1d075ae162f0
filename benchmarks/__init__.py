"""Measurements. They print figures and judge nothing; quote ratios from one run."""
