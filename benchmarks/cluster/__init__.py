"""What tunegate promises beyond one machine, measured on engines that exist."""
