"""From the hub, a folder or a file to resources/: fetch, check, convert and tokenize."""
