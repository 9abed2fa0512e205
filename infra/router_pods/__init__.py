"""Routers as pods of a cluster: what runs in each, and what the agent sees in place of one router."""
