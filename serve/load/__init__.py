"""Load tests by locust: arrivals, figures, page."""
