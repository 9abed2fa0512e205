"""What an operator or auditor sees; no lock."""
