"""What everything stands on: errors, files, paths, manifests, provenance, text for people. Imports nothing heavy."""
