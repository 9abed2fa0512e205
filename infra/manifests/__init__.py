"""Manifests for engines that others keep: rendered for, not depended on."""
