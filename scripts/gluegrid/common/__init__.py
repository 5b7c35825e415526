"""What all other packages build on: errors, files, paths, manifests, provenance, formatting. Imports nothing heavy."""
