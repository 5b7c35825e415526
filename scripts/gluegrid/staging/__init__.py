"""From the hub, a folder or a file to resources/: fetched, checked, converted, tokenised."""
