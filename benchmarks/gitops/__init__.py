"""The promises of GitOps, shown."""
