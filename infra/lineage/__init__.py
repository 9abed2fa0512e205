"""From an answer back to its merge request, and which releases nothing needs, over all stores."""
