"""The router in front of the slots: process, config, Runtime API, keys, TLS."""
