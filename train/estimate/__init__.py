"""Memory and seconds before anything is loaded."""
