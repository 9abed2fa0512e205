"""A vLLM server: started, asked, counted, and our middleware inside it (that part: standard library only)."""
