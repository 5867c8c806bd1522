"""The dialects: HTTP request -> engine call -> HTTP response, one module each."""
