"""One request as the dialects see it: body, caller, URLs, JSON."""
